#!/bin/sh
# sh tests/bench/adapt_memory.sh [WORK]: the peak resident memory of adapting GPT-2's shape (124M parameters; 4 sequences of 64 tokens a step) by full
# fine-tuning, by LoRA (rank 8, all linear layers) over f32 and by QLoRA (over nf4), and its ratio to full fine-tuning. The most that is
# allowed: 38% with LoRA, 18% with QLoRA; exit 1 above. Weights are random, which memory does not mind. Some three minutes and 2 GB on disk.
set -eu
cd "$(dirname "$0")/../.."
glassformer=${GLASSFORMER:-build/release/glassformer}
work=${1:-build/adapt-memory}
mkdir -p "$work"
field() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" "$2"; }

if [ ! -e "$work/base/model.safetensors" ]; then
  "$glassformer" corpus --kind stories --bytes 40K --out "$work/text" >/dev/null 2>&1
  # A small tokenizer under a large vocabulary: a text of 40 KB has no 50,257 different tokens
  "$glassformer" train --data "$work/text" --tokenizer bpe --vocab-size 512 --pad-vocab 50257 --preset gpt2 --context 64 --batch 1 --steps 1 --out "$work/new" --overwrite >/dev/null 2>&1
  rm -rf "$work/new/last"
  mv "$work/new" "$work/base"
fi

# adapt NAME [OPTION…]: three steps; what matters is the peak
adapt() {
  name=$1
  shift
  "$glassformer" lora train --model "$work/base" --data "$work/text" --batch 4 --steps 3 --out "$work/adapted" --overwrite --json "$@" 2>/dev/null | tail -1 >"$work/$name.json"
  rm -rf "${work:?}/adapted"
}
adapt full --method full
adapt lora --rank 8
adapt qlora --rank 8 --base-type nf4

full=$(field peak_bytes "$work/full.json")
failed=0
printf '%-8s %12s %12s %10s %8s\n' "" trainable "peak, MB" "of full" "at most"
for row in full:100 lora:38 qlora:18; do
  name=${row%:*} most=${row#*:}
  peak=$(field peak_bytes "$work/$name.json")
  awk -v name="$name" -v n="$(field trainable_parameters "$work/$name.json")" -v peak="$peak" -v full="$full" -v most="$most" \
    'BEGIN { printf "%-8s %12d %12.0f %9.1f%% %7d%%\n", name, n, peak / 1e6, 100 * peak / full, most; exit peak > full * most / 100 }' || failed=1
done
exit $failed
