#!/usr/bin/env bash
# Every method of `lora train`, and merging: the loss falls, the JSON has its keys, an interrupted run ends as one that was not, merged is unmerged.
. "$(dirname "$0")/common.sh" "$1"

# number KEY: of the last line of standard output
number() { tail -n 1 out | sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p"; }
# holds NAME EXPRESSION: of awk
holds() {
  checks=$((checks + 1))
  awk "BEGIN { exit !($2) }" || fail "$1: expected $2"
}

works train --corpus stories --corpus-bytes 40K --out base --tokenizer byte --layers 2 --heads 2 --width 64 --hidden 128 --context 128 --batch 8 --steps 40 --threads 1
same="--model base --corpus support --corpus-bytes 60K --answers-only --threads 1 --json"
runs="--steps 30 --batch 4"
keys="method parameters trainable_parameters trainable_share val_tokens val_loss_nats_before val_loss_nats seconds peak_bytes"

# method NAME OPTIONS…: it works, has its keys, and is measured on the same answers as the others
before="" tokens=""
method() {
  local name=$1
  shift
  works lora train $same "$@"
  json $keys
  before=${before:-$(number val_loss_nats_before)} tokens=${tokens:-$(number val_tokens)}
  holds "$name" "($(number val_loss_nats_before) - $before)^2 < 1e-12 && $(number val_tokens) == $tokens"
}
# learns NAME OPTIONS…: and its loss falls
learns() {
  method "$@"
  holds "$1" "$(number val_loss_nats) < $before - 0.001"
}
learns lora $runs --method lora --rank 4 --out lora --forget-corpus stories --forget-bytes 4K
json forget_loss_nats_before forget_loss_nats adapter
says "^elsewhere  "
learns dora $runs --dora --rslora --rank 4 --rank-pattern attn.q=2,blocks.1.mlp.down=6 --alpha-pattern mlp.up=3 --out dora
learns full $runs --method full --out full --forget-data base/config.json
json base
holds "full" "$(number trainable_share) == 1"
[ -e full/model.safetensors ] && [ -e full/last/trainer.safetensors ] || fail "expected a whole model"
learns last-block $runs --method last-block --out last-block
holds "last block" "$(number trainable_share) < 0.5 && $(number trainable_share) > 0.2"
learns soft-prompt $runs --method soft-prompt --prompt-tokens 4 --out soft-prompt
holds "soft prompt" "$(number trainable_parameters) == 4 * 64"
method few-shot --method few-shot --shots 1
json shots shots_used
works lora train $same $runs --base-type nf4 --rank 4 --out qlora
json $keys
says "^base       nf4, embeddings q8_0, [0-9,]* bytes"
holds "QLoRA" "$(number val_loss_nats) < $(number val_loss_nats_before) - 0.01 && ($(number val_loss_nats_before) - $before)^2 < 0.01 && $(number val_loss_nats_before) != $before"
works sample --model full --max-tokens 3
works sample --model base --adapter dora --max-tokens 3
works lora train --model base --corpus support --corpus-bytes 60K --method few-shot  # windows of a text
says "half a context of the text"

works train --data base/config.json --tokenizer bpe --vocab-size 260 --pad-vocab 300 $tiny --steps 1 --val-fraction 0.5 --out padded --json
holds "padded" "$(number parameters) > 300 * 16"
run train --data base/config.json --tokenizer bpe --vocab-size 260 --pad-vocab 258 $tiny --val-fraction 0.5 --out no
says "--pad-vocab: expected at least the tokenizer's 260 tokens, found 258"

# It stops once the loss is low enough, and says so; a resumed run has nothing left to do
works lora train $same $runs --method full --eval-every 3 --out until --until-loss "$(awk "BEGIN { print 0.95 * $before }")"
tail -n 1 out | grep -q '"until_loss_reached":true' || fail "expected the loss to be reached"
steps=$(number steps)
holds "until" "$steps < 30 && $(number val_loss_nats) <= 0.95 * $before"
works lora train --out until --model base --resume --json
holds "until, resumed" "$(number steps) == $steps"

# Interrupted and resumed: the same bytes, for a whole model as for a part of it
run_of="--model base --corpus support --corpus-bytes 60K --steps 60 --batch 4 --eval-every 10 --threads 1"
for name in full last-block; do
  works lora train $run_of --method $name --out whole-$name
  interrupt lora train $run_of --method $name --out stopped-$name
  works lora train --out stopped-$name --model base --resume --threads 1
  for file in model.safetensors last/model.safetensors last/trainer.safetensors; do same_bytes whole-$name/$file stopped-$name/$file; done
done

# Merged, the adapter and the base are one model of the same loss
loss() {
  works eval "$@" --corpus support --corpus-bytes 6K --threads 1 --json
  number loss_nats
}
works lora merge --model base --adapter lora --out merged --corpus support --corpus-bytes 6K --json
json model parameters type bytes tokens perplexity_ratio mean_kl_nats top1_agreement
holds "merged" "$(number perplexity_ratio) < 1.00001 && $(number perplexity_ratio) > 0.99999 && $(number mean_kl_nats) < 1e-8"
a=$(loss --model base --adapter lora) b=$(loss --model merged) c=$(loss --model base)
holds "merged" "($a - $b)^2 < 1e-10 && ($a - $c)^2 > 1e-6"
works lora merge --model base --adapter lora=0.5 --adapter qlora=0.25 --out mixed --json
a=$(loss --model base --adapter lora=0.5 --adapter qlora=0.25) b=$(loss --model mixed)
holds "merged, two" "($a - $b)^2 < 1e-10"
works lora merge --model base --adapter dora --out merged-dora
a=$(loss --model base --adapter dora) b=$(loss --model merged-dora)
holds "merged, DoRA" "($a - $b)^2 < 1e-10"

# Over a quantized base: refused unasked, exact into f32, and rounding again is told
works lora merge --model base --adapter lora --into nf4 --out small
says "rounding to nf4 moves"
works lora train ${same/--model base/--model small} $runs --rank 4 --out over-small
fails 1 "small: expected a model in floating point, found one in nf4.*--into f32" lora merge --model small --adapter over-small --out refused
[ ! -e refused ] || fail "expected nothing to be written"
works lora merge --model small --adapter over-small --into f32 --out exact
a=$(loss --model small --adapter over-small) b=$(loss --model exact)
holds "merged into f32" "($a - $b)^2 < 1e-10"
works lora merge --model small --adapter over-small --into nf4 --out again --corpus support --corpus-bytes 6K --json
json relative_rmse relative_change perplexity_ratio mean_kl_nats
holds "rounded again" "$(number relative_rmse) > 0.01 && $(number mean_kl_nats) > 1e-7"

# Refusals
fails 2 "--rank: expected --method lora beside it, found full" lora train $same --method full --rank 4 --out no
fails 2 "--base-type: expected --method lora|soft-prompt beside it, found last-block" lora train $same --method last-block --base-type nf4 --out no
fails 2 "--steps: expected --method lora|full|last-block|soft-prompt beside it, found few-shot" lora train $same --method few-shot --steps 3
fails 2 "--out: expected a directory apart from base, which stays" lora train $same --out base --overwrite
cp -r base inside && cp -r base inside/last && cp -r lora kept
fails 2 "--out: expected a directory apart from inside/model.safetensors" lora train ${same/--model base/--model inside/model.safetensors} --out inside --overwrite
fails 2 "--out: expected a directory apart from inside/last" lora train ${same/--model base/--model inside/last} --out inside/ --overwrite
fails 2 "--out: expected a directory apart from inside/config.json" lora merge --model inside/config.json --adapter lora --out inside --overwrite
fails 2 "--out: expected a directory apart from kept" lora merge --model base --adapter kept --out kept --overwrite
[ -e inside/config.json ] && [ -e inside/last/config.json ] && [ -e kept/adapter_config.json ] || fail "expected what is read to stay"
fails 1 "lora: expected a merged blocks.0.attn.qkv.weight of finite numbers" lora merge --model base --adapter lora=3e38 --adapter lora=3e38 --out no
for option in --rslora --dora "--rank 7" "--base-type nf4" "--val-fraction 0.5"; do
  fails 2 "${option%% *}: expected " lora train --model base --out lora --resume $option
done
works lora train $same --method few-shot --shots 9999999999
fails 2 "expected --out DIR" lora train $same
fails 2 "--shots: expected --answers-only" lora train --model base --corpus support --method few-shot --shots 2
fails 2 "found both" lora train $same --out no --forget-corpus stories --forget-data merged/config.json
fails 2 "--prompt-tokens: expected less than the context of 128" lora train $same --method soft-prompt --prompt-tokens 128 --out no
fails 2 "--rank-pattern: expected a whole number above 0 for attn.q, found -1" lora train $same --rank-pattern attn.q=-1 --out no
fails 1 "expected one of the targets, found nothing.here" lora train $same --rank-pattern nothing.here=2 --out no
fails 1 "expected targets of attn.qkv, .*, embed, found attn.x" lora train $same --targets attn.x --out no
fails 1 "rank 100 is above" lora train $same --rank 100 --out no
fails 1 "DoRA" lora train $same --dora --targets embed --out no
fails 1 "small: expected a model in floating point, found one in nf4.*adapter" lora train ${same/--model base/--model small} --method full --out no
fails 1 "soft-prompt: expected an adapter of the weights, found a soft prompt" lora merge --model base --adapter soft-prompt --out no
fails 1 "dora: expected LoRA, found DoRA.*merge it alone" lora merge --model base --adapter lora --adapter dora --out no
fails 2 "expected --adapter DIR" lora merge --model base --out no
fails 1 "merged: expected a new or empty directory" lora merge --model base --adapter lora --out merged
[ ! -e no ] || fail "expected nothing to be written"
finish
