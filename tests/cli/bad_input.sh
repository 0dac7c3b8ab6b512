#!/usr/bin/env bash
# Texts and shapes that cannot be trained on.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 5K --out text
train="train --out m --steps 2 $tiny"
: >empty
printf x >one
printf 'to be or not' >short
printf '\x7fELF\x02\x01\xff\xfe\x00\x80' >binary
for _ in 1 2 3 4 5 6 7 8; do cat binary binary binary binary; done >binary2

fails 1 "^glassformer: no-such: " $train --data no-such
fails 1 "^glassformer: \.: " $train --data .
fails 1 "^glassformer: empty: " $train --data empty
fails 1 "^glassformer: one: expected more than 16 tokens to train on" $train --data one
fails 1 "^glassformer: short: expected more than 16 tokens to train on (the context) and at least 2 to validate, found 10 and 2" $train --data short
fails 1 "^glassformer: binary2: .*UTF-8" $train --data binary2
works $train --data binary2 --tokenizer byte # any bytes are a text of bytes
rm -r m
fails 1 "^glassformer: no-such-tokenizer" $train --data text --tokenizer no-such-tokenizer

shape="train --out m --data text --context 16"
fails 1 "3 heads do not divide the width 16" $shape --width 16 --steps 2 --heads 3
fails 1 "4 heads cannot be grouped over 3 key-value heads" $shape --width 16 --steps 2 --heads 4 --kv-heads 3
fails 1 "even head width" $shape --width 16 --steps 2 --heads 16
fails 1 "width: expected" $shape --width 999999999 --heads 1 --steps 2
fails 1 "fits in memory" $shape --width 5999998 --heads 1 --steps 2 --layers 1
fails 2 "--min-rate: expected at most the rate" $shape --steps 2 --rate 1e-4 --min-rate 1e-2
[ ! -e m ] || fail "expected no directory m after failures"

works $train --data text --json
json steps parameters train_loss_nats val_loss_nats val_bits_per_byte seconds tokens_per_s model interrupted
tail -n 1 out | grep -q '"steps":2,.*"interrupted":false' || fail "expected 2 steps, not interrupted"
cp m/model.safetensors before
printf t >t
for command in "eval --model m" "lora train --model m --data text --out a --steps 1 --forget-data t"; do
  fails 1 "^glassformer: t: expected at least 2 tokens, found 1" $command $([[ "$command" == lora* ]] || echo "--data t")
done
fails 1 "^glassformer: short: expected more than 16 tokens to train on (the context) and at least 2 to validate" lora train --model m --data short --out a
fails 1 "^glassformer: m: expected a new directory, found a model in it; give --resume or --overwrite" $train --data text
same_bytes m/model.safetensors before
fails 2 "found both" $train --data text --resume --overwrite
fails 1 "^glassformer: text: expected a directory" train --out text --data text $tiny
fails 1 "expected a run to resume" train --out other --data text --resume
mkdir mine && touch mine/letter
fails 1 "^glassformer: mine: expected a new or empty directory, found other files in it" train --out mine --data text --steps 2 $tiny
[ -e mine/letter ] || fail "expected my letter to be there still"

# Resuming with other options, or another text
fails 2 "--steps: expected 2, as the run in m/last has it, or none, found 4" train --out m --resume --steps 4
fails 2 "--heads: expected 2" train --out m --resume --heads 1
fails 2 "--bias: expected none, as in the run in m/last, found false" train --out m --resume --mlp gelu --no-bias
cp text text2 && echo more >>text2
fails 1 "^glassformer: text2: expected the text that the run in m/last began with" train --out m --resume --data text2
works train --out m --resume --data text # done already
works $train --data text --overwrite
finish
