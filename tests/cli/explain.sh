#!/usr/bin/env bash
# explain, its JSON, its width; what if: in sample, eval and explain; wrong sites, layers, heads, shapes.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 5K --out text
works train --out m --data text --tokenizer char --position rope --norm rmsnorm --steps 2 --layers 2 --heads 2 --width 16 --context 32 --batch 4 --threads 1
works lora train --model m --data text --rank 2 --steps 2 --out adapter --threads 1

# no line is wider than 80 columns where it is no terminal; the circumflex of x̂ takes none
narrow() {
  checks=$((checks + 1))
  ! sed '/^{/d; s/\xcc\x82//g' out | LC_ALL=C.UTF-8 grep -E '^.{81}' >wide || fail "a line of more than 80 columns: $(head -1 wide)"
}
for component in tokenizer position attention block cache sampling backward lora quantize lens attribution; do
  works explain $component --json
  narrow
  json component title sections
  works explain $component --help
  says "^  glassformer explain $component" out
done
for component in position attention block cache sampling backward lens attribution; do
  works explain $component --model m --prompt "Sam met" --json
  narrow
  json component title sections
  fails 2 "expected --prompt TEXT with --model" explain $component --model m
  fails 2 "expected --model DIR with --prompt" explain $component --prompt hi
done
works explain tokenizer --tokenizer m --prompt "Sam met"
works explain lora --model m --adapter adapter --prompt "Sam met"
narrow
fails 2 "--adapter: expected one directory without a weight, found adapter=0.5" explain lora --model m --adapter adapter=0.5 --prompt Sam
fails 2 "--original: expected a quantized --model beside it" explain lora --model m --adapter adapter --prompt "Sam met" --original m
fails 2 "expected --model DIR and --prompt TEXT with --adapter" explain attention --adapter adapter
for component in position attention block cache sampling lens attribution; do
  works explain $component --model m --adapter adapter --adapter adapter=-0.5 --prompt "Sam met"
done
fails 2 "--adapter: expected none here, found adapter: merge it first" explain backward --model m --adapter adapter --prompt "Sam met"
fails 2 "explain.*expected one of\|unknown\|did you mean attention" explain attenton
fails 1 "layer: expected 0 … 1, found 2" explain attention --model m --prompt Sam --layer 2
fails 1 "head: expected 0 … 1, found 5" explain attention --model m --prompt Sam --head 5
fails 1 "expected.*0 … 2, found 9" explain attention --model m --prompt Sam --token 9

# What if
works sample --model m --prompt "Sam met" --max-tokens 5 --ablate 0.1 --json
json text text_before loss_before_nats loss_after_nats next_tokens kl_nats
says "What if: without head 1 of layer 0" out
works sample --model m --prompt "Sam met" --max-tokens 5 --no-mask --softmax-temperature 2
works sample --model m --prompt "Sam met" --max-tokens 5 --patch blocks.0.resid_post --patch-from "Tom met"
works eval --model m --data text --scale blocks.1.mlp_out=0 --json
json loss_nats before
works eval --model m --data text --ablate 1.0 --softmax-temperature 3
says "^what if .*without head 0 of layer 1" out
says "^loss .*[+-]" out
works explain attention --model m --prompt "Sam met" --ablate 1.1
says "^Changed: without head 1 of layer 1" out
says "KL(before ‖ after)" out
fails 1 "ablate: expected a layer of 0 … 1, found 4" sample --model m --prompt Sam --ablate 4.0
fails 1 "ablate: expected a head of 0 … 1, found 2" eval --model m --data text --ablate 0.2
fails 2 "ablate: expected LAYER.HEAD" sample --model m --prompt Sam --ablate 1
fails 2 "scale: expected SITE=NUMBER" sample --model m --prompt Sam --scale blocks.0.mlp_out
fails 1 "site: found blocks.7.mlp_out; this model has embed, blocks.i.resid_pre" sample --model m --prompt Sam --scale blocks.7.mlp_out=1
fails 2 "patch SITE and --patch-from TEXT belong together" sample --model m --prompt Sam --patch embed
fails 1 "embed: the patch is \[7, 16\], the value is \[3, 16\]" sample --model m --prompt Sam --patch embed --patch-from "Sam met"
fails 1 "patch token: expected 0 … 2" sample --model m --prompt Sam --patch embed --patch-from Sam --patch-token 3
fails 2 "patch-token: expected --patch SITE" sample --model m --prompt Sam --patch-token 1
fails 1 "patch: expected a text that is read once" sample --model m --prompt Sam --patch embed --patch-from Tom --no-cache
fails 1 "patch: expected a site before the logits" sample --model m --prompt Sam --patch logits --patch-from Tom
fails 2 "expected --model DIR and --prompt TEXT for a what-if" explain attention --ablate 0.1
fails 2 "softmax-temperature" eval --model m --data text --softmax-temperature 0

finish
