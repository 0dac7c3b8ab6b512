#!/usr/bin/env bash
# Training as several processes: the bytes of one; one line whatever goes wrong at which of them; a run goes on with any number of them.
. "$(dirname "$0")/common.sh" "$1"

if ! command -v mpirun >/dev/null || ! ldd "$program" | grep -q libmpi; then
  echo "skipped: no mpirun here, or a program that was built without MPI"
  exit 0
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1  # a container's user is root
export ASAN_OPTIONS=detect_leaks=0                               # OpenMPI's
mpi() { timeout -k 5 120 mpirun --quiet --oversubscribe "$@"; }

# ranks N ARGS…: exit 0
ranks() {
  checks=$((checks + 1))
  mpi -n "$1" "$program" "${@:2}" >out 2>err
  local code=$?
  [ $code -eq 0 ] || fail "$1 processes of glassformer ${*:2}: expected exit 0, found $code"
}
# ranks_fail N PATTERN ARGS…: not exit 0, one line
ranks_fail() {
  checks=$((checks + 1))
  mpi -n "$1" "$program" "${@:3}" >out 2>err
  local code=$?
  [ $code -ne 0 ] && [ $code -ne 124 ] || fail "$1 processes of glassformer ${*:3}: expected a failure, found exit $code"
  grep '^glassformer: ' err >lines
  [ "$(wc -l <lines)" -eq 1 ] || fail "$1 processes of glassformer ${*:3}: expected one line 'glassformer: …', found $(wc -l <lines)"
  grep -q -- "$2" lines || fail "$1 processes of glassformer ${*:3}: expected a message that matches '$2'"
}
losses() { sed 's/,"tokens_per_s":[^,]*,"seconds":[^,}]*//' "$1/metrics.jsonl"; }
figure() { tail -n 1 out | sed 's/.*"'"$1"'":\([0-9.e+-]*\).*/\1/'; }
same_run() {
  for file in model.safetensors last/model.safetensors last/trainer.safetensors config.json; do same_bytes "$1/$file" "$2/$file"; done
  losses "$1" >a
  losses "$2" >b
  same_bytes a b
}

works corpus --bytes 20K --out text
# Blocks of 196,608 parameters: the gradients go in several parts, the first while the last block is still to come.
shape="--data text --layers 3 --heads 4 --width 128 --context 16 --batch 2 --accumulate 4 --dropout 0.1 --threads 1"
works train --out one $shape --steps 6 --eval-every 3
for n in 2 4; do
  ranks $n train --out ranks$n $shape --steps 6 --eval-every 3 --json
  json ranks exchange_sent_bytes exchange_wait_seconds exchange_early_share
  [ "$(grep -c '^{' out)" -eq 1 ] || fail "expected one process to speak"
  # Of each of 6 steps' gradients (4 bytes) all but its own segment, and its own segment to all others
  expected=$((6 * 2 * (n - 1) * 4 * $(figure parameters) / n))
  [ "$(figure exchange_sent_bytes)" = "$expected.0" ] || [ "$(figure exchange_sent_bytes)" = "$expected" ] || fail "expected $expected bytes to be sent"
  same_run one ranks$n
  # The exchange begins while the backward pass still has blocks to go: some of it is through before that ends, unless the machine is too busy: then once more.
  for again in 1 2 3 4; do
    [ $n -eq 2 ] && awk -v share="$(figure exchange_early_share)" 'BEGIN { exit share > 0 }' || break
    ranks $n train --out again$again $shape --steps 6 --json
  done
  [ $n -gt 2 ] || awk -v share="$(figure exchange_early_share)" 'BEGIN { exit !(share > 0 && share < 1) }' || fail "expected some bytes to be summed before the backward pass ends, found the share $(figure exchange_early_share)"
done
# Not a node of the tree each: 6 batches on 2 and 3 processes
shape6=${shape/--accumulate 4/--accumulate 6}
works train --out six $shape6 --steps 3 --muon
for n in 2 3; do
  ranks $n train --out six$n $shape6 --steps 3 --muon
  same_run six six$n
done

# An adapter
works lora train --model one --data text --rank 2 --batch 2 --accumulate 2 --steps 4 --threads 1 --out adapter
ranks 2 lora train --model one --data text --rank 2 --batch 2 --accumulate 2 --steps 4 --threads 1 --out adapter2
same_bytes adapter/adapter_model.safetensors adapter2/adapter_model.safetensors

# What cannot be
ranks_fail 4 "accumulate: expected a multiple of the 4 processes .* --accumulate 4 --batch 3 has steps" train --data text --out no --preset nano
ranks_fail 2 "nothing: could not be opened\|nothing: " train --data nothing --out no
ranks_fail 2 "expected a new directory" train --data text --out one
ranks_fail 2 "unknown\|no option\|expected" train --no-such-option
[ ! -e no ] || fail "expected nothing to be saved"
# At one of them only: its text is another
cat >own <<'SH'
#!/bin/sh
cd "$1$OMPI_COMM_WORLD_RANK" && shift && exec "$@"
SH
mkdir place0 place1
cp text place0/text
ranks_fail_apart() {
  checks=$((checks + 1))
  mpi -n 2 sh "$work/own" "$work/place" "$program" "${@:2}" >out 2>err && fail "expected a failure"
  grep '^glassformer: ' err >lines
  [ "$(wc -l <lines)" -eq 1 ] && grep -q -- "$1" lines || fail "expected one line that matches '$1'"
}
ranks_fail_apart "rank 1 of 2 (.*): text: " train --out x $shape --steps 2
# One letter near the end, which no batch reads
head -c -500 text >place1/text
tail -c 500 text | sed '0,/e/s/e/a/' >>place1/text
[ "$(cmp -l text place1/text | wc -l)" -eq 1 ] || fail "expected one letter to differ"
ranks_fail_apart "expected the same text and options for all processes, found others at rank 1 of 2" train --out x $shape --steps 2
# A bit of one weight of the model that is adapted: the lowest, and one that is still seen when it is quantized
cp text place1/text
cp -r one place0/base
cp -r one place1/base
middle=$(($(stat -c %s one/model.safetensors) / 8 * 4))
# flip BYTE MASK: of that weight
flip() {
  local found
  found=$(od -An -tu1 -j $((middle + $1)) -N1 one/model.safetensors)
  printf "\\$(printf %o $((found ^ $2)))" | dd of=place1/base/model.safetensors bs=1 seek=$((middle + $1)) conv=notrunc status=none
}
flip 0 1
adapt="lora train --model base --data text --rank 2 --batch 2 --accumulate 2 --steps 2 --threads 1 --out x"
ranks_fail_apart "expected the same model for all processes, found others at rank 1 of 2" $adapt
flip 2 64
ranks_fail_apart "expected the same model for all processes, found others at rank 1 of 2" $adapt --base-type q8_0
# A launcher that is not this MPI's: each would be the first of one.
PMI_SIZE=4 PMI_RANK=2 fails 1 "expected to be process 2 of 4 that were started together, found 0 of 1 by MPI" train --data text --out no --preset nano
[ ! -e no ] || fail "expected nothing to be saved"
# begun DIR N: a run of N processes in the background that has saved at least once; $run
begun() {
  : >err
  mpirun --quiet --oversubscribe -n "$2" "$program" train --out "$1" $shape --steps 60 --eval-every 5 >out 2>err &
  run=$!
  for _ in $(seq 400); do
    grep -q "step .*: loss" err && break
    sleep 0.05
  done
}
works train --out whole $shape --steps 60 --eval-every 5

# Asked to stop: all stop at one step, and the run goes on with another number of processes.
begun stopped 4
kill -USR1 $run  # mpirun hands it on
wait $run && fail "an interrupted run: expected another exit code than 0"
says "interrupted after step [0-9]* and saved; go on with: glassformer train --out stopped --resume"
ranks 2 train --out stopped --resume --threads 1
same_run whole stopped

# Nothing can be saved any more, at the first
begun spoilt 2
: >spoilt/strange
wait $run && fail "a run that cannot save: expected another exit code than 0"
grep '^glassformer: ' err >lines
[ "$(wc -l <lines)" -eq 1 ] || fail "a run that cannot save: expected one line"
says "spoilt: expected a checkpoint that may be replaced, found strange" lines

# Killed: one line names it, and the last checkpoint goes on to the same bits, alone or together.
begun killed 4
kill -9 "$(pgrep -P $run | while read -r pid; do tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -q '^OMPI_COMM_WORLD_RANK=2$' && echo "$pid"; done)"
wait $run && fail "a killed rank: expected another exit code than 0"
grep '^glassformer: ' err >lines
[ "$(wc -l <lines)" -eq 1 ] || fail "a killed rank: expected one line"
says "rank 2 of 4 (.*) ended before the others; killed/last has step [0-9]*: go on.* glassformer train --out killed --resume" lines
cp -r killed killed-too
works train --out killed --resume --threads 1
same_run whole killed
ranks 2 train --out killed-too --resume --threads 1
same_run whole killed-too
finish
