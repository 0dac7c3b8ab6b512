#!/bin/sh
# sh tests/bench/trace_cost.sh [PAIRS]: what do the sites of a pass cost when nobody looks? A training step and a decoded token of an engine
# with sites against one built without them, in turn. Prints the ratio of the shortest times of each, which noise
# of the machine can only lengthen, and the median of the pairs' ratios.
set -eu
cd "$(dirname "$0")/../.."
pairs=${1:-11}
for trace in ON OFF; do
  cmake -S . -B build/trace-$trace -G Ninja -DCMAKE_BUILD_TYPE=Release -DGLASSFORMER_TRACE=$trace -DGLASSFORMER_TESTS=OFF -DGLASSFORMER_EXAMPLES=OFF >/dev/null
  cmake --build build/trace-$trace --target glassformer_program >/dev/null
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build/trace-ON/glassformer corpus --kind stories --bytes 60K --seed 1 --out "$work/text" >/dev/null 2>&1
build/trace-ON/glassformer train --data "$work/text" --tokenizer char --preset nano-llama --context 1024 --batch 1 --steps 2 --out "$work/model" >/dev/null 2>&1

field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }
step() { build/trace-$1/glassformer bench train --layers 4 --heads 4 --width 128 --context 64 --batch 12 --vocab 65 --json | field step_ms; }
token() { build/trace-$1/glassformer sample --model "$work/model" --prompt a --max-tokens 1000 --past-context stop --threads 1 --seed 3 --json 2>/dev/null | tail -1 | field tokens_per_s; }
for what in step token; do
  : >"$work/ratios"
  for pair in $(seq "$pairs"); do
    case $((pair % 2)) in
      0) with=$($what ON) without=$($what OFF) ;;
      *) without=$($what OFF) with=$($what ON) ;;
    esac
    [ $what = step ] || { swap=$(awk -v a="$with" -v b="$without" 'BEGIN { print 1000 / a, 1000 / b }') && with=${swap% *} without=${swap#* }; }  # tokens/s
    echo "$with $without" >>"$work/ratios"
  done
  awk '{ print $1 / $2 }' "$work/ratios" | sort -n >"$work/sorted"
  awk -v what=$what -v median="$(sed -n "$(((pairs + 1) / 2))p" "$work/sorted")" 'NR == 1 || $1 < a { a = $1 } NR == 1 || $2 < b { b = $2 }
    END { printf "%s: %.4g ms with sites, %.4g without, the shortest of %d: ratio %.4f; median of the ratios %.4f\n", what, a, b, NR, a / b, median }' "$work/ratios"
done
