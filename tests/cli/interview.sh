#!/usr/bin/env bash
# Learning by predicting: answers from a pipe, words, what is no number, the end of the input, the object.
. "$(dirname "$0")/common.sh" "$1"

works interview --help
says "^Usage: glassformer interview" out
works interview --list
[ "$(grep -c '^  [a-z]*-[a-z0-9-]*$' out)" -ge 44 ] || fail "expected at least 44 questions in the list"
for topic in tokenizer positions attention block training cache sampling lora numerics checkpoints; do says "^$topic$" out; done
fails 2 "expected one of tokenizer, .*checkpoints, found cach, did you mean cache?" interview --topic cach
fails 2 "did you mean cache-bytes?" interview --ask cache-byte
fails 2 "found both" interview --ask cache-bytes --topic cache
fails 2 "--questions: expected a whole number of at least 1, found 0" interview --questions 0

# interview INPUT ARGS…: a session whose answers come from a pipe
interview() {
  checks=$((checks + 1))
  local input=$1
  shift
  printf "$input" | "$program" interview "$@" >out 2>err
  local code=$?
  [ $code -eq 0 ] && [ ! -s err ] || fail "interview $*: expected exit 0 and nothing on standard error, found $code"
}
result() { tail -n 1 out | grep -q -- "$1" || fail "expected $1 in the JSON object"; }

# The right answer, found by asking: by the formula, exactly and roughly, and a wrong one.
interview '\n' --ask cache-bytes --seed 3 --json
json seed asked right wrong skipped topics questions
result '"seed":3,.*"asked":1,"right":0,"wrong":0,"skipped":1,'
result '"id":"cache-bytes","topic":"cache",.*"unit":"bytes","answer":null,.*"verdict":"skipped"'
number=$(tail -n 1 out | sed 's/.*"computed":\([0-9]*\).*/\1/')
[ "$number" -gt 1000 ] || fail "expected a number of bytes, found $number"
says "Elsewhere .*Llama 3 8B" out
says "128 KiB" out
interview "$number\n" --ask cache-bytes --seed 3 --json
result '"right":1,.*"verdict":"right"'
says "✓ The engine" out
interview "$((number / 1024)) KiB\n" --ask cache-bytes --seed 3 --json
result '"right":1'
interview "2*$number\n" --ask cache-bytes --seed 3 --json
result '"wrong":1,.*"verdict":"wrong"'
says "2 times too large" out
says "Read next" out

# What is no number is asked again; "why" shows the derivation and is a skip; "quit" ends with the score so far.
interview 'a lot\n5 nats\n1,024\n' --ask cache-bytes --seed 3 --json
[ "$(grep -c 'Your number' out)" -eq 3 ] || fail "expected the question three times"
says 'expected a number in bytes .*found "a lot"' out
result '"answer":1024.0'
interview 'WHY\n' --ask lora-scale --json
result '"skipped":1'
says "Derivation" out
interview '1\nskip\nquit\n' --questions 5 --seed 1 --json
result '"asked":2'
says "2 of 5 asked" out
interview '1\n' --questions 5 --seed 1 --json # the input ends
result '"asked":1'
interview '' --seed 1 --json
result '"topics":\[\],"asked":0,"right":0,"wrong":0,"skipped":0,"questions":\[\]}'
interview '\r\n1\r\n' --questions 2 --seed 1 --json
result '"asked":2,.*"skipped":1'
interview '\x00\xff\x1b[2J\n\n' --questions 1 --seed 1
grep -q "$(printf '\x1b')" out && fail "expected no escape sequence where there is no terminal"
says "expected a number" out

# The same seed asks the same; all questions of a topic; nothing on the screen is wider than 80 columns.
yes '' | head -200 >enters
"$program" interview --questions 200 --seed 7 <enters >first 2>err || fail "a whole interview: expected exit 0"
"$program" interview --questions 200 --seed 7 <enters >out 2>err
same_bytes out first
sed 's/\xcc\x82//g' out | LC_ALL=C.UTF-8 grep -qE '^.{81,}' && fail "expected lines of at most 80 columns" # the hat of v̂ takes none
says "numerics  *0 of" out
interview '\n\n\n' --topic sampling --questions 3 --json
result '"topics":\[{"topic":"sampling","asked":3,'
finish
