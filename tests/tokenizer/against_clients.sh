#!/bin/sh
# Compares all ids with those of real clients: tiktoken, and Hugging Face's tokenizers reading the tokenizer.json written here.
#   against_clients.sh TOKENIZER_TOOL SHARED_FOLDER CACHE_FOLDER
# Prints one line a comparison. Exit 0: all equal; 1: a difference; 77: something needed is missing (says what).
set -u
tool=$1 shared=$2 cache=$3
skip() { echo "skipped: $1"; exit 77; }
for program in node npm; do command -v $program >/dev/null || skip "no $program"; done
for needed in peers/tokenizer_client.mjs data/tinyshakespeare.txt data/gpt2/encoder.json data/gpt2/vocab.bpe; do
  [ -f "$shared/$needed" ] || skip "no $shared/$needed"
done

mkdir -p "$cache" && cp "$shared/peers/tokenizer_client.mjs" "$cache/" && chmod u+w "$cache/tokenizer_client.mjs" && cd "$cache" || exit 1
if [ ! -d node_modules/tiktoken ] || [ ! -d node_modules/@huggingface/tokenizers ]; then
  echo '{"name": "clients", "private": true, "type": "module"}' > package.json
  npm install --ignore-scripts --omit=optional --no-save tiktoken@1.0.22 @huggingface/tokenizers@0.2.0 > npm.log 2>&1 ||
    skip "npm could not install the clients (see $cache/npm.log)"
fi

failed=0
# compare NAME MODE TOKENIZER CLIENT_SOURCE TEXT: our ids by `tokenizer_tool MODE`, the client's by its own reading
compare() {
  "$tool" "$2" "$3" "$5" > ours.json 2> ours.log || { echo "$1: $(cat ours.log)"; failed=1; return; }
  node tokenizer_client.mjs "$4" "$5" > client.log 2>&1 || { echo "$1: the client failed: $(tail -n 3 client.log)"; failed=1; return; }
  tail -n 1 client.log > theirs.json
  if cmp -s ours.json theirs.json; then
    echo "$1: equal ($(cat ours.log))"
  else
    echo "$1: ids differ: $cache/ours.json, theirs.json"
    cp ours.json "ours-$failed.json"; cp theirs.json "theirs-$failed.json"
    failed=$((failed + 1))
  fi
}

text=$shared/data/tinyshakespeare.txt
prepare() { "$tool" "$@" 2> prepare.log || { echo "tokenizer_tool $*: $(cat prepare.log)"; exit 1; }; }
prepare hard hard.txt
prepare hard-js hard-js.txt
prepare gpt2 "$shared/data/gpt2/encoder.json" "$shared/data/gpt2/vocab.bpe" gpt2.json
prepare train "$text" 1024 trained.json
prepare train hard.txt 2048 trained-hard.json
prepare byte byte.json
prepare character "$text" character.json
prepare character hard.txt character-hard.json

compare "tiktoken gpt2, tinyshakespeare" encode gpt2.json gpt2 "$text"
compare "tiktoken gpt2, hard text" encode gpt2.json gpt2 hard.txt
compare "tokenizers gpt2, tinyshakespeare" encode-special gpt2.json gpt2.json "$text"
compare "tokenizers gpt2, hard text" encode-special gpt2.json gpt2.json hard-js.txt
compare "tokenizers trained, tinyshakespeare" encode-special trained.json trained.json "$text"
compare "tokenizers trained, hard text" encode-special trained.json trained.json hard-js.txt
compare "tokenizers trained on hard text, hard text" encode-special trained-hard.json trained-hard.json hard-js.txt
compare "tokenizers byte, hard text" encode byte.json byte.json hard-js.txt
compare "tokenizers character, tinyshakespeare" encode character.json character.json "$text"
compare "tokenizers character, hard text" encode character-hard.json character-hard.json hard-js.txt
[ "$failed" -eq 0 ] || exit 1
