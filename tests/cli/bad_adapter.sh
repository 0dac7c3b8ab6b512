#!/usr/bin/env bash
# Adapters that are cut, lie, or were trained over another model: one line each, from every command that reads one, and nothing overwritten.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 5K --out text
works train --out m --data text --steps 2 $tiny
works train --out other --data text --steps 3 $tiny
works train --out deeper --data text --steps 1 ${tiny/--layers 1/--layers 2}
works train --out wider --data text --steps 1 ${tiny/--width 16/--width 32}
cat >trained <<'END'
--data text --steps 2 --batch 2 --threads 1
END
works lora train --model m --out a --rank 2 --targets attn.q,mlp.up $(cat trained)
works lora train --model m --out p --method soft-prompt --prompt-tokens 3 $(cat trained)
works sample --model m --adapter a --max-tokens 5
works sample --model m --adapter p --max-tokens 5
works lora merge --model m --adapter a --out merged
cp -r merged before
weights=adapter_model.safetensors

# refused DIR PATTERN MODEL: by all that read an adapter; the merged model stays as it was
refused() {
  local line="^glassformer: $1[/:].*$2"
  fails 1 "$line" sample --model "$3" --adapter "$1"
  fails 1 "$line" eval --model "$3" --adapter "$1" --data text
  fails 1 "$line" lora inspect --model "$3" --adapter "$1"
  fails 1 "$line" lora merge --model "$3" --adapter "$1" --out merged --overwrite
  diff -r merged before >out 2>err || fail "$1: merge changed what was there"
}
# broken NAME PATTERN [FROM]: a copy of FROM (a), changed by the commands on standard input, in its directory
broken() {
  rm -rf "$1" && cp -r "${3:-a}" "$1" && (cd "$1" && bash -s) || fail "could not make $1"
  refused "$1" "$2" m
}
# setting FIELD VALUE: commands that put it into the configuration
setting() { echo "sed -i 's/\"$1\": [^,]*/\"$1\": $2/' adapter_config.json"; }

# Another base: of the same shape, whose numbers tell; of another shape
refused a "expected the base that it was trained over, found another: blocks.0.attn.qkv.weight differs, and 1 more of 2 tensors" other
refused p "expected the base that it was trained over, found another: embed.weight differs, and [0-9]* more of [0-9]* tensors" other
refused a "expected a tensor .*1.* of shape \[2, 16\], found none" deeper
refused a "expected shape \[2, 32\], found \[2, 16\]" wider
refused p "token_dim: expected 32, the model's width, found 16" wider
fails 1 "^glassformer: a/adapter_model.safetensors: expected the base that it was trained over" explain lora --model other --adapter a --prompt "the"

broken cut "(the file is cut)" <<<"head -c -4 $weights >w && mv w $weights"
broken cut-in-header "(the file is cut)" <<<"head -c 100 $weights >w && mv w $weights"
broken nan "expected finite numbers, found 1 of" <<<"printf '\x00\x00\xc0\x7f' | dd of=$weights conv=notrunc bs=1 seek=\$((\$(stat -c %s $weights) - 4)) 2>/dev/null"
broken nan-prompt "expected finite numbers, found 1 of" p <<<"printf '\x00\x00\xc0\x7f' | dd of=$weights conv=notrunc bs=1 seek=\$((\$(stat -c %s $weights) - 4)) 2>/dev/null"
broken no-a "expected a tensor .*lora_A.weight of shape .*, found none" <<<"LC_ALL=C sed -i '0,/lora_A.weight/s//bora_A.weight/' $weights"
broken no-b "expected a tensor .*lora_B.weight of shape .*, found none" <<<"LC_ALL=C sed -i '0,/lora_B.weight/s//bora_B.weight/' $weights"
broken no-weights "could not be read" <<<"rm $weights"
broken no-prompt "expected a tensor prompt_embeddings of shape \[3, 16\], found none" p <<<"cp ../a/$weights ."
broken longer-prompt "prompt_embeddings: expected shape \[4, 16\], found \[3, 16\]" p <<<"$(setting num_virtual_tokens 4)"
broken rank-zero "r: expected a whole number from 1 to [0-9]*, found 0" <<<"$(setting r 0)"
broken rank-negative "r: expected a whole number from 1 to [0-9]*, found -2" <<<"$(setting r -2)"
broken rank-above "LoRA: rank 17 is above that of .* \[[0-9]*, 16\]" <<<"$(setting r 17)"
broken alpha-zero "lora_alpha: expected a number from .*, found 0" <<<"$(setting lora_alpha 0)"
broken alpha-negative "lora_alpha: expected a number from .*, found -1.5" <<<"$(setting lora_alpha -1.5)"
broken no-magnitude "expected a tensor .*lora_magnitude_vector of shape \[[0-9]*\], found none" <<<"$(setting use_dora true)"
broken other-kind "peft_type: expected \"LORA\" or \"PROMPT_TUNING\", found \"IA3\"" <<<"$(setting peft_type '"IA3"')"
broken module-unknown "target_modules: expected modules of a .* model (.*), found nonsense" <<<"sed -i 's/\"target_modules\": \[/&\"nonsense\", /' adapter_config.json"
broken no-json "expected a JSON object" <<<"echo 'no json' >adapter_config.json"

# What is asked for is checked before anything is trained
fails 1 "LoRA: expected targets of attn.qkv, attn.q, .*, found attn.qq" lora train --model m --out x --targets attn.qq $(cat trained)
fails 1 "LoRA: rank 17 is above that of attn.q \[16, 16\]" lora train --model m --out x --targets attn.q --rank 17 $(cat trained)
fails 2 "--rank: expected a whole number" lora train --model m --out x --rank 0 $(cat trained)
fails 2 "--alpha: expected a number above 0" lora train --model m --out x --alpha 0 $(cat trained)
fails 1 "^glassformer: p: expected an adapter of the weights, found a soft prompt" lora merge --model m --adapter p --out merged --overwrite
diff -r merged before >out 2>err || fail "merging a soft prompt changed what was there"
[ ! -e x ] || fail "a refused training left something behind"
checks=$((checks + 1))

# inspect: what it says of each kind
works lora inspect --model m --adapter a
says "^trained    .* parameters, [0-9.]*%$" out
says "^blocks.0.attn.q  *\[16, 16\]  *2 " out
works lora inspect --model m --adapter a --json
json kind rank alpha scale parameters share targets layers effective_rank energy_90_rank singular_values ratio
works lora inspect --model m --adapter p
says "a soft prompt of 3 tokens" out
works lora inspect --model m --adapter p --json
json kind prompt_tokens rows length_ratio nearest cosine
works lora inspect --model m --tuned merged
says "^changed    tensors with " out
works lora inspect --model m --tuned merged --json
json kind parameters share vector_ratio targets layers
fails 1 "models: expected .* as in the base, found" lora inspect --model m --tuned wider
fails 2 "expected either --adapter DIR or --tuned DIR, found both" lora inspect --model m --adapter a --tuned merged
fails 2 "expected either --adapter DIR or --tuned DIR, found none" lora inspect --model m
finish
