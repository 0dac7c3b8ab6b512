#!/bin/sh
# sh tests/bench/adapt_width.sh [WORK [SEEDS]]: how much of full fine-tuning's drop in loss does LoRA reach, and what does each forget? At width 384, where
# rank 8 on all linear layers is 3% of the parameters: a model trained on `stories`, adapted to the answers of `support` in 600 steps of 8. Both sides are
# tried at the same three rates for 400 steps, and each runs at its own best with every seed. Then forgetting, the loss on `stories`, when both stop at the same
# loss on answers. About half an hour on two cores; what is in WORK already is not run again.
set -eu
cd "$(dirname "$0")/../.."
glassformer=${GLASSFORMER:-build/release/glassformer}
work=${1:-build/adapt-width}
seeds=${2:-3}
threads=${THREADS:-$(nproc)}
rates="1e-3 3e-3 8e-3"
mkdir -p "$work"
field() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" "$2"; }

if [ ! -e "$work/base.json" ]; then
  "$glassformer" corpus --kind stories --bytes 1M --seed 7 --out "$work/stories.txt" >"$work/base.log" 2>&1
  "$glassformer" tokenizer train --data "$work/stories.txt" --vocab-size 512 --out "$work/tokenizer.json" >>"$work/base.log" 2>&1
  "$glassformer" train --corpus stories --tokenizer "$work/tokenizer.json" --preset stories --layers 2 --heads 6 --width 384 --hidden 1024 --steps 400 --batch 8 --muon --seed 1 \
    --threads "$threads" --out "$work/base" --overwrite --json >"$work/base.out" 2>>"$work/base.log"
  tail -1 "$work/base.out" >"$work/base.json"
fi
echo "base: $(field parameters "$work/base.json") parameters, $(field val_loss_nats "$work/base.json") nats on stories"

# adapt NAME METHOD SEED RATE STEPS EVAL_EVERY [OPTION…]: one run, its JSON kept
adapt() {
  name=$1 method=$2 seed=$3 rate=$4 steps=$5 every=$6
  shift 6
  [ -e "$work/$name.json" ] && return
  "$glassformer" lora train --method "$method" --model "$work/base" --corpus support --corpus-bytes 300K --answers-only --forget-corpus stories --steps "$steps" --batch 8 --eval-every "$every" \
    --rate "$rate" --seed "$seed" --threads "$threads" --out "$work/$name" --overwrite --json "$@" >"$work/run.out" 2>"$work/run.log"
  rm -rf "${work:?}/$name"
  tail -1 "$work/run.out" >"$work/$name.json"
}
loss() { field val_loss_nats "$work/$1.json"; }

for method in full lora; do
  for rate in $rates; do
    adapt "choose-$method-$rate" $method 1 "$rate" 400 100
    echo "$method at $rate, 400 steps: $(field val_loss_nats_before "$work/choose-$method-$rate.json") -> $(loss "choose-$method-$rate")"
  done
done
best() { for rate in $rates; do echo "$(loss "choose-$1-$rate") $rate"; done | sort -g | head -1 | cut -d' ' -f2; }
for seed in $(seq "$seeds"); do
  for method in full lora; do adapt "$method-$seed" $method "$seed" "$(best $method)" 600 100; done
  awk -v before="$(field val_loss_nats_before "$work/full-$seed.json")" -v full="$(loss "full-$seed")" -v lora="$(loss "lora-$seed")" -v share="$(field trainable_share "$work/lora-$seed.json")" \
    -v seed="$seed" 'BEGIN { printf "seed %d: full %.4f, LoRA %.4f with %.2f%% of the parameters: %.1f%% of the drop from %.4f\n", seed, full, lora, 100 * share, 100 * (before - lora) / (before - full), before }'
done
for seed in $(seq "$seeds"); do
  # 2% above the worse side's loss: one that both reach
  target=$(awk -v a="$(loss "full-$seed")" -v b="$(loss "lora-$seed")" 'BEGIN { printf "%.4f", 1.02 * (a > b ? a : b) }')
  for method in full lora; do
    adapt "$method-$seed-until" $method "$seed" "$(best $method)" 600 10 --until-loss "$target"
    until=$work/$method-$seed-until.json
    echo "seed $seed, $method stopped at $target: $(field val_loss_nats "$until") on answers after $(field steps "$until") steps; on stories $(field forget_loss_nats_before "$until") -> $(field forget_loss_nats "$until")"
  done
done
