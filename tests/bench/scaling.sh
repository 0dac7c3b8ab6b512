#!/bin/sh
# sh tests/bench/scaling.sh [GBIT LATENCY_US]...: what several machines would bring, by the cost model of docs/scaling.md, from what is measured here: a training step of one
# thread at 10.8M and 124M parameters, and the exchange between two processes. First the model's prediction beside the measurement, for as many processes of one thread as this
# machine has processors (1, 2, 4); then tables for 1 … 64 nodes of one such thread: for links as fast as this machine's memory, and for each GBIT (per second) and LATENCY_US (a
# round of messages) given (10 30 unless any is).
# BUILD: the build directory, with glassformer and tests/test_exchange (build/release). Needs MPI.
set -eu
[ $(($# % 2)) -eq 0 ] || { echo "scaling.sh: expected pairs of GBIT and LATENCY_US, found $# arguments" >&2; exit 2; }
cd "$(dirname "$0")/../.."
build=$(cd "${BUILD:-build/release}" && pwd)
small="--layers 6 --heads 6 --width 384 --context 256 --batch 4"
large="--layers 12 --heads 12 --width 768 --context 256 --batch 1"
steps=${STEPS:-5}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/glassformer" corpus --bytes 100K --out "$work/text" >/dev/null 2>&1

field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }
# train PROCESSES: its JSON; 4 micro-batches a step
train() {
  mpirun --quiet --oversubscribe -n "$1" "$build/glassformer" train --data "$work/text" --preset nano $small --accumulate 4 --threads 1 --steps "$steps" --eval-every 100000 \
    --val-fraction 0.01 --out "$work/model" --overwrite --json 2>/dev/null | tail -n 1
}
# shape NAME VOCAB STEPS OPTIONS…: a line "shape NAME layers width context batch vocab parameters step_ms optimizer_ms"
shape() {
  name=$1 vocab=$2 times=$3
  shift 3
  "$build/glassformer" bench train "$@" --vocab "$vocab" --threads 1 --steps "$times" --json | tail -n 1 >"$work/bench"
  echo "shape $name $2 $6 $8 ${10} $vocab $(field parameters <"$work/bench") $(field step_ms <"$work/bench") $(sed -n 's/.*"name":"optimizer","ms":\([0-9.e+-]*\).*/\1/p' "$work/bench")"
}
{
  shape 10.8M 65 "$steps" $small
  for n in 1 2 4; do
    [ "$n" -gt "$(nproc)" ] && break
    json=$(train "$n")
    echo "train $n $(echo "$json" | field tokens_per_s) $(echo "$json" | field exchange_early_share) $(echo "$json" | field exchange_wait_seconds) $(echo "$json" | field exchange_sent_bytes)"
  done
  probe=$(mpirun --quiet --oversubscribe -n 2 "$build/tests/test_exchange" --no-skip -tc='probe*' | grep few_seconds)
  echo "probe $(echo "$probe" | field few_seconds) $(echo "$probe" | field many_seconds) $(echo "$probe" | field many_bytes)"
  shape 124M 50257 1 $large
} >"$work/measured"
awk -v steps="$steps" -v links="${*:-10 30}" '
  function largest(a, b) { return a > b ? a : b }
  $1 == "shape" { s = $2; layers[s] = $3; width[s] = $4; context[s] = $5; batch[s] = $6; vocab[s] = $7; parameters[s] = $8; micro[s] = ($9 - $10) / 1000; update[s] = $10 / 1000
    bytes[s] = 4 * $8; early[s] = 1 - early_not(s) }
  $1 == "train" { processes = $2; seconds[$2] = 4 * batch["10.8M"] * context["10.8M"] / $3; measured_early[$2] = $4; waited[$2] = $5 / steps; sent[$2] = $6 / steps }
  $1 == "probe" { latency = $2 / 2; rate = $4 / largest($3 - $2, 1e-9) }
  # What is complete only when the backward pass ends: the embedding and the first block.
  function early_not(s,  tables) { tables = (vocab[s] + context[s]) * width[s]; return (tables + (parameters[s] - tables) / layers[s]) / parameters[s] }
  function gflop(s) { return (6 * (parameters[s] - context[s] * width[s]) + 12 * layers[s] * width[s] * context[s]) * batch[s] * context[s] / 1e9 }
  function exchange(s, n) { return 2 * (n - 1) / n * bytes[s] / rate + 2 * (n - 1) * (layers[s] + 1) * latency }
  function exposed(s, n,  x) { x = exchange(s, n); return largest(x * (1 - early[s]), x - micro[s] * 2 / 3) }
  function table(s, link,  all, n, step, alone) {
    all = 64
    printf "\n%s, %s: %.3g GB/s, %.3g us a round; %d micro-batches of %d x %d tokens a step\n", s, link, rate / 1e9, latency * 1e6, all, batch[s], context[s]
    print "nodes  each  TFLOP each  MB sent each  passes s  update s  exchange s  not hidden s    step s  tokens/s  of n times one  without overlap"
    for (n = 1; n <= 64; n *= 2) {
      step = all / n * micro[s] + update[s] + exposed(s, n)
      if (n == 1) alone = step
      printf "%5d %5d %11.2f %13.1f %9.3f %9.4f %11.4f %13.4f %9.3f %9.0f %14.0f%% %15.0f%%\n", n, all / n, all / n * gflop(s) / 1e3, 2 * (n - 1) / n * bytes[s] / 1e6, all / n * micro[s], update[s], exchange(s, n),
        exposed(s, n), step, all * batch[s] * context[s] / step, 100 * alone / step / n, 100 * alone / (step - exposed(s, n) + exchange(s, n)) / n
    }
  }
  END {
    for (s in parameters)
      printf "%s: %d parameters, %.1f MB of gradients; a micro-batch of %d x %d tokens %.3f s: %.1f GFLOP, %.1f GFLOP/s; update %.4f s; of the bytes %.0f%% can be summed before the backward pass ends\n",
        s, parameters[s], bytes[s] / 1e6, batch[s], context[s], micro[s], gflop(s), gflop(s) / micro[s], update[s], 100 * early[s]
    printf "two processes here: a round of messages %.1f us; a sum %.2f GB/s\n", latency * 1e6, rate / 1e9
    s = "10.8M"
    print "\nhere, 10.8M, 4 micro-batches a step; without overlap: measured, less what was waited for, with the whole exchange in its place"
    print "processes  predicted s  measured s  ratio  times one  MB sent  predicted  summed early  predicted  waited s  without overlap s"
    for (n = 1; n <= processes; n *= 2) {
      predicted = 4 / n * micro[s] + update[s] + exposed(s, n)
      printf "%9d %12.3f %11.3f %6.2f %10.2f", n, predicted, seconds[n], predicted / seconds[n], seconds[1] / seconds[n]
      if (n > 1) printf " %8.1f %10.1f %12.0f%% %9.0f%% %9.4f %18.3f", sent[n] / 1e6, 2 * (n - 1) / n * bytes[s] / 1e6, 100 * measured_early[n], 100 * early[s], waited[n], seconds[n] - waited[n] + exchange(s, n)
      printf "\n"
    }
    for (s in parameters) table(s, "links like this memory")
    count = split(links, link, " ")
    for (i = 1; i < count; i += 2) { rate = link[i] * 1e9 / 8; latency = link[i + 1] * 1e-6; for (s in parameters) table(s, link[i] " Gbit/s") }
  }' "$work/measured"
