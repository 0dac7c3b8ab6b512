#!/usr/bin/env bash
# For the tests of the program: bash NAME.sh PROGRAM. Sourced by each.
set -u
program=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
checks=0

fail() {
  echo "FAILED: $*"
  sed 's/^/    stdout: /' out | head -5
  sed 's/^/    stderr: /' err | tail -5
  failed=$((failed + 1))
}

run() { "$program" "$@" >out 2>err; }

# works ARGS…: exit 0
works() {
  checks=$((checks + 1))
  run "$@"
  local code=$?
  [ $code -eq 0 ] || fail "glassformer $*: expected exit 0, found $code"
}

# fails CODE PATTERN ARGS…: that exit code; standard error is one line, "glassformer: …", that matches the pattern; nothing on standard output
fails() {
  local expected=$1 pattern=$2
  shift 2
  checks=$((checks + 1))
  run "$@"
  local code=$?
  [ $code -eq "$expected" ] || fail "glassformer $*: expected exit $expected, found $code"
  [ "$(wc -l <err)" -eq 1 ] && [ ! -s out ] || fail "glassformer $*: expected one line on standard error alone"
  grep -q "^glassformer: " err || fail "glassformer $*: expected a line 'glassformer: …'"
  grep -q -- "$pattern" err || fail "glassformer $*: expected a message that matches '$pattern'"
}

# says PATTERN [FILE]: the last run's standard error (or that file) has a line like it
says() {
  checks=$((checks + 1))
  grep -q -- "$1" "${2:-err}" || fail "expected a line that matches '$1' in ${2:-standard error}"
}

# json KEY…: the last line of standard output is one object with these keys
json() {
  checks=$((checks + 1))
  tail -n 1 out | grep -q '^{.*}$' || fail "expected a JSON object on the last line"
  local key
  for key in "$@"; do
    tail -n 1 out | grep -q "\"$key\":" || fail "expected the key $key in the JSON object"
  done
}

# same_bytes A B
same_bytes() {
  checks=$((checks + 1))
  cmp -s "$1" "$2" || fail "expected the same bytes in $1 and $2"
}

# interrupt ARGS…: Ctrl-C after the first validation; exit 130
interrupt() {
  : >err
  "$program" "$@" >out 2>err &
  local pid=$!
  for _ in $(seq 400); do
    grep -q "step .*: loss" err && break
    sleep 0.02
  done
  kill -INT $pid
  wait $pid
  local code=$?
  checks=$((checks + 1))
  [ $code -eq 130 ] || fail "Ctrl-C: expected exit 130, found $code"
}

# A model so small that a step takes a fraction of a millisecond
tiny="--layers 1 --heads 2 --width 16 --context 16 --batch 4 --threads 1"

finish() {
  [ "$failed" -eq 0 ] && echo "$checks checks passed" && exit 0
  echo "$failed checks failed"
  exit 1
}
