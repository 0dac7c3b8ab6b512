#!/bin/sh
# sh tests/bench/adapt_width.sh [WORK [SEEDS]]: how much of full fine-tuning's drop in loss does LoRA reach, and what does each forget? At width 384, where
# rank 8 on all linear layers is 3% of the parameters: a model trained on `stories`, adapted to the answers of `support` in 150 steps of 8 at each of the same three
# rates, each side judged at its own best. Then forgetting, the loss on `stories`, when both stop at the same loss on answers.
# About twenty minutes on two cores (THREADS=1: on one); what is in WORK already is not run again.
set -eu
cd "$(dirname "$0")/../.."
glassformer=${GLASSFORMER:-build/release/glassformer}
work=${1:-build/adapt-width}
seeds=${2:-3}
threads=${THREADS:-$(nproc)}
rates="5e-4 2e-3 8e-3"
mkdir -p "$work"
field() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" "$2"; }

if [ ! -e "$work/base.json" ]; then
  "$glassformer" corpus --kind stories --bytes 1M --seed 7 --out "$work/stories.txt" >/dev/null 2>&1
  "$glassformer" corpus --kind support --bytes 1M --seed 7 --out "$work/support.txt" >/dev/null 2>&1
  cat "$work/stories.txt" "$work/support.txt" >"$work/both.txt"  # a tokenizer of one alone would spell the other out
  "$glassformer" tokenizer train --data "$work/both.txt" --vocab-size 512 --out "$work/tokenizer.json" >/dev/null 2>&1
  "$glassformer" train --corpus stories --tokenizer "$work/tokenizer.json" --preset stories --layers 2 --heads 6 --width 384 --hidden 1024 --steps 400 --batch 8 --muon --seed 1 \
    --threads "$threads" --out "$work/base" --overwrite --json >"$work/base.out" 2>"$work/base.log"
  tail -1 "$work/base.out" >"$work/base.json"
fi
echo "base: $(field parameters "$work/base.json") parameters, $(field val_loss_nats "$work/base.json") nats on stories"

# adapt NAME METHOD SEED RATE EVAL_EVERY [OPTION…]: one run, its JSON kept
adapt() {
  name=$1 method=$2 seed=$3 rate=$4 every=$5
  shift 5
  [ -e "$work/$name.json" ] && return
  "$glassformer" lora train --method "$method" --model "$work/base" --corpus support --corpus-bytes 300K --answers-only --forget-corpus stories --steps 150 --batch 8 --eval-every "$every" \
    --rate "$rate" --seed "$seed" --threads "$threads" --out "$work/$name" --overwrite --json "$@" >"$work/run.out" 2>"$work/run.log"
  rm -rf "${work:?}/$name"
  tail -1 "$work/run.out" >"$work/$name.json"
}
# best METHOD SEED: the rate of the lowest loss
best() {
  for rate in $rates; do echo "$(field val_loss_nats "$work/$1-$2-$rate.json") $rate"; done | sort -g | head -1 | cut -d' ' -f2
}
for seed in $(seq "$seeds"); do
  for method in full lora; do
    for rate in $rates; do
      adapt "$method-$seed-$rate" $method "$seed" "$rate" 50
      echo "seed $seed, $method at $rate: $(field val_loss_nats_before "$work/$method-$seed-$rate.json") -> $(field val_loss_nats "$work/$method-$seed-$rate.json")"
    done
  done
  full=$work/full-$seed-$(best full "$seed").json lora=$work/lora-$seed-$(best lora "$seed").json
  awk -v before="$(field val_loss_nats_before "$full")" -v full="$(field val_loss_nats "$full")" -v lora="$(field val_loss_nats "$lora")" -v share="$(field trainable_share "$lora")" \
    -v seed="$seed" 'BEGIN { printf "seed %d: full %.4f, LoRA %.4f with %.2f%% of the parameters: %.1f%% of the drop from %.4f\n", seed, full, lora, 100 * share, 100 * (before - lora) / (before - full), before }'
  # 2% above the worse side's best: a loss that both reach
  target=$(awk -v a="$(field val_loss_nats "$full")" -v b="$(field val_loss_nats "$lora")" 'BEGIN { printf "%.4f", 1.02 * (a > b ? a : b) }')
  for method in full lora; do
    adapt "$method-$seed-until" $method "$seed" "$(best $method "$seed")" 5 --until-loss "$target"
    until=$work/$method-$seed-until.json
    echo "seed $seed, $method stopped at $target: $(field val_loss_nats "$until") on answers, on stories $(field forget_loss_nats_before "$until") -> $(field forget_loss_nats "$until")"
  done
done
