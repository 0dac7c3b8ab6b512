#!/bin/sh
# llama.cpp reads our GGUF files and writes the text that we write, greedily: stories260K in f32, and in q8_0 as far as both agree on what is likeliest.
#   against_llama_cpp.sh PROGRAM SHARED_FOLDER CACHE_FOLDER
# Exit 0: the same text; 1: another; 77: something needed is missing (says what).
set -u
program=$1 shared=$2 cache=$3
skip() { echo "skipped: $1"; exit 77; }
for needed in node npm; do command -v $needed >/dev/null || skip "no $needed"; done
for needed in peers/gguf_client.mjs peers/package.json data/stories260K/model.bin; do [ -f "$shared/$needed" ] || skip "no $shared/$needed"; done
mkdir -p "$cache" && cp "$shared/peers/gguf_client.mjs" "$shared/peers/package.json" "$cache/" && chmod u+w "$cache"/*.mjs "$cache/package.json" && cd "$cache" || exit 1
[ -d node_modules/@node-llama-cpp/linux-x64 ] || { npm install --ignore-scripts --omit=optional && npm install --ignore-scripts --omit=optional --no-save @node-llama-cpp/linux-x64@3.21.1; } >npm.log 2>&1 ||
  skip "npm could not install node-llama-cpp (see $cache/npm.log)"

failed=0
field() { sed -n "s/.*\"text\":\"\(\([^\"\\\\]\|\\\\.\)*\)\".*/\1/p"; }
# compare NAME MODEL LETTERS: the first so many letters of both texts
compare() {
  rm -f model.gguf
  "$program" convert --from "$2" --to model.gguf >convert.log 2>&1 || { echo "$1: $(tail -n 1 convert.log)"; failed=1; return; }
  ours=$("$program" sample --model "$2" --prompt "Once upon a time" --temperature 0 --max-tokens 100 --threads 1 --json 2>/dev/null | tail -n 1 | field | cut -c "1-$3")
  theirs=$(node gguf_client.mjs model.gguf --prompt "Once upon a time" --tokens 100 --threads 1 --repeats 1 2>client.log | tail -n 1 | field | cut -c "1-$3")
  if [ -n "$ours" ] && [ "$ours" = "$theirs" ]; then
    echo "$1: the same: $ours"
  else
    echo "$1: ours:   $ours" && echo "$1: theirs: $theirs" && failed=1
  fi
}
compare f32 "$shared/data/stories260K/model.bin" 200
"$program" quantize --model "$shared/data/stories260K/model.bin" --type q8_0 --out q8 --overwrite >quantize.log 2>&1 || { tail -n 1 quantize.log; exit 1; }
compare q8_0 q8 40
exit $failed
