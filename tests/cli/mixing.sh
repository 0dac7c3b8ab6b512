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

# What cannot be
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
