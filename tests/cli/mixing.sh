#!/usr/bin/env bash
# Several adapters over one model: by weight, by request, in sample and eval; directories with '=' in their names; what cannot be.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 10K --out text
works corpus --kind support --bytes 10K --out dialogues
cat text dialogues >both
works train --data both --out m $tiny --steps 200 --rate 0.01 --position rope --seed 3
works lora train --model m --data dialogues --out a --rank 2 --rate 0.05 --steps 60 --batch 4 --threads 1 --eval-every 100
works lora train --model m --data text --out b=1 --rank 3 --rate 0.05 --steps 60 --batch 4 --threads 1 --eval-every 100 --seed 2
cp -r b=1 b
works lora merge --model m --adapter a --out merged

text() { "$program" sample --threads 1 --max-tokens 12 --prompt "the c" "$@" 2>/dev/null; }
loss() { "$program" eval --threads 1 --json --data dialogues "$@" 2>/dev/null | tail -1 | grep -o '"loss_nats":[0-9.]*'; }
same() { # same WHAT A B
  checks=$((checks + 1))
  [ -n "$2" ] && [ "$2" = "$3" ] || fail "$1: expected the same, found '$2' and '$3'"
}
differ() {
  checks=$((checks + 1))
  [ -n "$2" ] && [ "$2" != "$3" ] || fail "$1: expected a difference, found '$2' twice"
}

# Weights: 1 is the adapter, 0 is the model, halves add up, and a name with '=' is a name where there is such a directory.
differ "an adapter" "$(loss --model m)" "$(loss --model m --adapter a)"
same "merged" "$(loss --model merged | cut -c1-18)" "$(loss --model m --adapter a | cut -c1-18)"
same "a weight of 1" "$(loss --model m --adapter a)" "$(loss --model m --adapter a=1)"
same "a weight of 0" "$(loss --model m)" "$(loss --model m --adapter a=0)"
same "halves" "$(loss --model m --adapter a | cut -c1-18)" "$(loss --model m --adapter a=0.5 --adapter a=0.5 | cut -c1-18)"
same "a name with =" "$(loss --model m --adapter b)" "$(loss --model m --adapter b=1)"
same "a name with =, and a weight" "$(loss --model m --adapter b=-0.25)" "$(loss --model m --adapter b=1=-0.25)"
same "two, in either order" "$(loss --model m --adapter a=0.5 --adapter b=1 | cut -c1-18)" "$(loss --model m --adapter b --adapter a=0.5 | cut -c1-18)"
differ "two" "$(loss --model m --adapter a --adapter b)" "$(loss --model m --adapter a)"

# Requests, each with its mix, against each alone
works sample --model m --adapter a --adapter b --prompt "the c" --mix 1,0 --mix 0,1 --mix 0.5,-1 --mix 0,0 --max-tokens 12 --temperature 0 --threads 1
says "^--- 1 of 4, mix 1,0$" out
says "^--- 3 of 4, mix 0.5,-1$" out
request() { sed "0,/^--- $1 of/d; /^--- /,\$d" out; }
same "request 1" "$(request 1)" "$(text --model m --adapter a --temperature 0)"
same "request 2" "$(request 2)" "$(text --model m --adapter b --temperature 0)"
same "request 3" "$(request 3)" "$(text --model m --adapter a=0.5 --adapter b=-1 --temperature 0)"
same "request 4" "$(request 4)" "$(text --model m --temperature 0)"
differ "requests" "$(request 1)" "$(request 2)"
works sample --model m --adapter a --prompt "the c" --mix 0.5 --max-tokens 12 --threads 1
same "one request" "$(cat out)" "$(text --model m --adapter a=0.5)"
works sample --model m --adapter a --prompt "Sam" --prompt "the cat" --mix 1 --mix 0 --max-tokens 5 --threads 1 --json
json samples tokens_per_s mix ids stopped_by
works sample --model m --prompt $'two\nlines' --prompt Sam --prompt Sam --max-tokens 5 --threads 1
says "^--- 3 of 3$" out
says "^--- 1 of 3$" out
works sample --model m --adapter a --prompt Sam --max-tokens 5 --threads 1 --stop $'\n' --json
json prompt text ids prompt_tokens stopped_by tokens_per_s prefill_ms

# A soft prompt: read before the text, no part of it, switched by request
works lora train --model m --data dialogues --method soft-prompt --prompt-tokens 3 --out soft --steps 20 --batch 4 --threads 1 --eval-every 100
differ "a soft prompt" "$(loss --model m)" "$(loss --model m --adapter soft)"
works sample --model m --adapter soft --prompt "the c" --max-tokens 30 --threads 1 --json
says '"prompt_tokens":5' out
says "Past the context of 16 tokens, 3 of them the soft prompt's: the cache slides"
works sample --model m --adapter a --adapter soft --prompt "the c" --mix 1,1 --mix 1,0 --mix 0,1 --max-tokens 9 --temperature 0 --threads 1
short() { "$program" sample --threads 1 --max-tokens 9 --temperature 0 --prompt "the c" --model m "$@" 2>/dev/null; }
same "request 1" "$(request 1)" "$(short --adapter a --adapter soft)"
same "request 2" "$(request 2)" "$(short --adapter a)"
same "request 3" "$(request 3)" "$(short --adapter soft)"
works sample --model m --adapter soft --prompt "the c" --max-tokens 3 --ablate 0.1 --threads 1

# explain lora of what was trained
explains() {
  works explain lora "$@" --prompt "the c" --json
  json title sections loss_base_nats loss_adapted_nats
  checks=$((checks + 1))
  ! sed '/^{/d' out | LC_ALL=C.UTF-8 grep -E '^.{81}' >wide || fail "a line of more than 80 columns: $(head -1 wide)"
}
explains --model m --adapter soft
json nearest attention_share dprompt prompt_tokens
works lora train --model m --data dialogues --dora --targets attn.q,mlp.up --out dora --rank 2 --steps 3 --batch 4 --threads 1
explains --model m --adapter dora --target blocks.0.mlp.up
json magnitude magnitude_share dm
works lora train --model m --data dialogues --targets embed,attn.v --rslora --out embedding --rank 2 --steps 3 --batch 4 --threads 1
explains --model m --adapter embedding --target embed
explains --model m --adapter embedding --target blocks.0.attn.v

# Over a quantized model, and beside what it was quantized from
works train --data both --out w --layers 1 --heads 2 --width 64 --hidden 192 --context 16 --batch 4 --steps 20 --threads 1
works quantize --model w --type nf4 --data text --out q --threads 1
works lora train --model q --data dialogues --targets attn.out,mlp.down --out over --rank 2 --steps 3 --batch 4 --threads 1
explains --model q --adapter over --original w --target blocks.0.mlp.down
json requantized_ratio surviving_share quantization_error change_over_error
works sample --model q --adapter over --adapter over=-1 --prompt "the c" --max-tokens 5 --temperature 0 --threads 1
cp out both_ways
works sample --model q --prompt "the c" --max-tokens 5 --temperature 0 --threads 1
same_bytes out both_ways
works explain attention --model q --adapter over --prompt "the c"
says "taken with the numbers that its codes stand for"

# What cannot be
fails 1 "^glassformer: soft: soft prompt: expected a weight of 1, found 0.5" sample --model m --adapter soft=0.5
fails 1 "^glassformer: soft: soft prompt: expected one at a time, found another attached" eval --model m --data text --adapter soft --adapter soft
run sample --model m --adapter soft --mix 0.5
[ $? -eq 1 ] || fail "a soft prompt by half: expected exit 1"
says "^glassformer: mix: expected 0 or 1 for a soft prompt, which is there or not, found 0.5"
fails 2 "--adapter: expected adapters of the weights, found a soft prompt, which explain lora tells of" explain attention --model m --adapter soft --prompt Sam
fails 1 "target: expected none, and no token: a soft prompt has no matrices" explain lora --model m --adapter soft --prompt "the c" --target embed
fails 1 "target: expected blocks.0 … blocks.0 with one of attn.v (as in blocks.0.attn.v) or embed, found attn.q" explain lora --model m --adapter embedding --prompt "the c" --target attn.q
fails 2 "--adapter: expected DIR or DIR=WEIGHT with a finite weight, found a=x" sample --model m --adapter a=x
fails 2 "--adapter: expected DIR or DIR=WEIGHT with a finite weight, found a=" sample --model m --adapter a=
fails 2 "--adapter: expected DIR or DIR=WEIGHT with a finite weight, found a=inf" eval --model m --data text --adapter a=inf
fails 2 "--adapter: expected DIR or DIR=WEIGHT with a finite weight, found a=1e99" eval --model m --data text --adapter a=1e99
fails 2 "--adapter: expected DIR or DIR=WEIGHT with a finite weight, found a=nan" eval --model m --data text --adapter a=nan
fails 1 "nowhere" sample --model m --adapter nowhere=0.5
fails 2 "--mix: expected --adapter beside it, found none" sample --model m --mix 1
fails 2 "--mix: expected a number for each of 2 adapters, found 1" sample --model m --adapter a --adapter b --mix 1
fails 2 "--mix: expected a number for each of 1 adapters, found 1,2" sample --model m --adapter a --mix 1,2
fails 2 "--mix: expected finite numbers with commas between them, found 1,x" sample --model m --adapter a --adapter b --mix 1,x
fails 2 "--mix: expected finite numbers with commas between them, found inf" sample --model m --adapter a --mix inf
fails 2 "--mix: expected one, or one for each of the 3 prompts, found 2" sample --model m --adapter a --prompt x --prompt y --prompt z --mix 1 --mix 0
fails 2 "expected one --prompt and no --mix for a what-if" sample --model m --adapter a --prompt x --mix 1 --ablate 0.0
fails 2 "--stop: expected a text, found an empty one" sample --model m --stop ""
finish
