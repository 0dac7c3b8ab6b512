#!/usr/bin/env bash
# Model directories that are cut, lie, or hold no numbers.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 5K --out text
works train --out m --data text --steps 2 $tiny
works sample --model m --max-tokens 5
weights=model.safetensors

# broken NAME PATTERN: a copy of m, changed by the commands on standard input, in its directory; sample and eval refuse it
broken() {
  rm -rf "$1" && cp -r m "$1" && (cd "$1" && bash -s) || fail "could not make $1"
  fails 1 "^glassformer: $1[/:].*$2" sample --model "$1"
  fails 1 "^glassformer: $1[/:].*$2" eval --model "$1" --data text
}

broken cut "expected" <<<"head -c 1000 $weights >w && mv w $weights"
broken cut-in-data "expected" <<<"head -c -4 $weights >w && mv w $weights"
broken three-bytes "expected" <<<"head -c 3 $weights >w && mv w $weights"
broken empty-file "expected" <<<": >$weights"
broken oversized "expected" <<<"printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=$weights conv=notrunc 2>/dev/null"
broken longer-header "expected" <<<"printf '\xff\xff\xff\x00' | dd of=$weights conv=notrunc 2>/dev/null"
broken lying-dtype "expected" <<<"LC_ALL=C sed -i 's/\"dtype\":\"F32\"/\"dtype\":\"F16\"/' $weights"
broken lying-shape "expected" <<<"LC_ALL=C sed -i 's/\"shape\":\[16,16\]/\"shape\":[16,99]/' $weights"
broken no-json "expected" <<<"LC_ALL=C sed -i 's/\"data_offsets\"/#data_offsets#/' $weights"
broken nan "NaN" <<<"printf '\x00\x00\xc0\x7f' | dd of=$weights conv=notrunc bs=1 seek=\$((\$(stat -c %s $weights) - 4)) 2>/dev/null"
broken infinity "infin" <<<"printf '\x00\x00\x80\x7f' | dd of=$weights conv=notrunc bs=1 seek=\$((\$(stat -c %s $weights) - 4)) 2>/dev/null"
broken no-weights "model.safetensors" <<<"rm $weights"
broken no-config "" <<<"rm config.json"
broken config-words "config.json" <<<"echo 'no json' >config.json"
broken config-heads "config.json" <<<"sed -i 's/\"num_attention_heads\": *2/\"num_attention_heads\": 3/' config.json"
broken no-tokenizer "tokenizer" <<<"rm tokenizer.json"

works tokenizer train --data text --vocab-size 300 --out big.json
broken other-tokenizer "tokenizer" <<<"cp ../big.json tokenizer.json"

# Resuming from a broken state
cp -r m r && head -c 500 m/last/trainer.safetensors >r/last/trainer.safetensors
fails_at_end() { run "$@"; local code=$?; checks=$((checks + 1)); [ $code -eq 1 ] && tail -n 1 err | grep -q "^glassformer: r/last/trainer.safetensors: expected" || fail "glassformer $*"; }
fails_at_end train --out r --resume

# A prompt that the tokenizer does not know, and an adapter that is none
run sample --model m --prompt '日本'
[ $? -eq 1 ] && [ ! -s out ] || fail "a prompt outside the vocabulary: expected exit 1 and no text"
says "^glassformer: character 日"
fails 1 "^glassformer: m/adapter_config.json" sample --model m --adapter m
fails 2 "--context" eval --model m --data text --context 0
fails 1 "^glassformer: empty: " eval --model m --data empty
finish
