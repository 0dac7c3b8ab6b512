#!/bin/sh
# sh tests/bench/scaling.sh [GBIT LATENCY_US]...: what several machines would bring, by the cost model of docs/scaling.md, from what is measured here: a micro-batch and an
# update of one process on one thread, and the exchange between two. First the model's prediction for 1, 2 and 4 processes here beside the measurement; then
# tables for 1 … 64 nodes: for links as fast as this machine's memory, and for each GBIT (per second) and LATENCY_US (a round of messages) given (10 30 unless any is).
# BUILD: the build directory, with glassformer and tests/test_exchange (build/release). Needs MPI.
set -eu
cd "$(dirname "$0")/../.."
build=$(cd "${BUILD:-build/release}" && pwd)
layers=6 heads=6 width=384 context=256 batch=4  # 10.8M parameters
steps=${STEPS:-5}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/glassformer" corpus --bytes 100K --out "$work/text" >/dev/null 2>&1

field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }
# train PROCESSES MICRO_BATCHES: its JSON
train() {
  mpirun --quiet --oversubscribe -n "$1" "$build/glassformer" train --data "$work/text" --preset nano --layers $layers --heads $heads --width $width --context $context --batch $batch \
    --accumulate "$2" --threads 1 --steps "$steps" --eval-every 100000 --val-fraction 0.01 --out "$work/model" --overwrite --json 2>/dev/null | tail -n 1
}
probe() { mpirun --quiet --oversubscribe -n 2 "$build/tests/test_exchange" --no-skip -tc='probe*' | grep few_seconds; }
seconds() { echo "$1" | awk -v rate="$(echo "$2" | field tokens_per_s)" -v tokens=$((batch * context)) '{ print $1 * tokens / rate }'; }

one=$(train 1 1)
parameters=$(echo "$one" | field parameters)
t1=$(seconds 1 "$one") t2=$(seconds 2 "$(train 1 2)") t4=$(seconds 4 "$(train 1 4)")
two=$(train 2 4) four=$(train 4 4)
link=$(probe)
awk -v t1="$t1" -v t4="$t4" -v t2="$t2" -v two="$(seconds 4 "$two")" -v four="$(seconds 4 "$four")" -v early="$(echo "$two" | field exchange_early_share)" \
  -v wait="$(echo "$two" | field exchange_wait_seconds)" -v steps="$steps" -v sent="$(echo "$two" | field exchange_sent_bytes)" -v few="$(echo "$link" | field few_seconds)" \
  -v many="$(echo "$link" | field many_seconds)" -v many_bytes="$(echo "$link" | field many_bytes)" -v parameters="$parameters" -v layers=$layers -v width=$width -v context=$context \
  -v batch=$batch -v cores="$(nproc)" -v links="${*:-10 30}" '
  function exchange(n) { return 2 * (n - 1) / n * bytes / rate + 2 * (n - 1) * parts * latency }
  function largest(a, b) { return a > b ? a : b }
  function exposed(n,  x) { x = exchange(n); return largest(x * (1 - early), x - micro * 2 / 3) }
  function table(name,  n, step) {
    printf "\n%s: %.3g GB/s, %.3g us a round; %d micro-batches of %d x %d tokens a step\n", name, rate / 1e9, latency * 1e6, all, batch, context
    print "nodes  each  passes s  update s  exchange s  of it not hidden s  step s  tokens/s  of n times one"
    for (n = 1; n <= 64; n *= 2) {
      step = all / n * micro + update + exposed(n)
      if (n == 1) alone = step
      printf "%5d %5d %9.3f %9.3f %11.4f %19.4f %7.3f %9.0f %14.0f%%\n", n, all / n, all / n * micro, update, exchange(n), exposed(n), step, all * batch * context / step, 100 * alone / step / n
    }
  }
  BEGIN {
    bytes = 4 * parameters; parts = layers + 1
    micro = (t4 - t1) / 3; update = largest(t1 - micro, 0)
    latency = few / 2; rate = many_bytes / largest(many - few, 1e-9)
    printf "parameters %d: %.1f MB of gradients; a process of two sends %.1f MB a step\n", parameters, bytes / 1e6, sent / steps / 1e6
    printf "a micro-batch %.3f s: %.1f GFLOP, %.1f GFLOP/s; update and clipping %.3f s\n", micro, flop(), flop() / micro, update
    printf "a round of messages %.1f us; a sum over two processes %.2f GB/s; %.0f%% of its bytes are through before the backward pass ends; waited %.4f s a step\n", latency * 1e6, rate / 1e9, 100 * early, wait / steps
    print "\nhere, 4 micro-batches a step\nprocesses  predicted s  measured s  ratio  tokens/s against one process"
    for (n = 1; n <= 4; n *= 2) {
      crowd = largest(1, n / cores)  # processes that share a core
      predicted = (4 / n * micro + update) * crowd + exposed(n); measured = n == 1 ? t4 : n == 2 ? two : four
      printf "%9d %12.3f %11.3f %6.2f %10.2f\n", n, predicted, measured, predicted / measured, t4 / measured
    }
    all = 64
    table("links like this memory")
    count = split(links, link, " ")
    for (i = 1; i < count; i += 2) { rate = link[i] * 1e9 / 8; latency = link[i + 1] * 1e-6; table(link[i] " Gbit/s") }
  }
  function flop() { return (6 * (parameters - context * width) + 12 * layers * width * context) * batch * context / 1e9 }'
