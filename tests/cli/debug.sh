#!/usr/bin/env bash
# Learning by repair: the list, a whole session from a pipe, the end of the input, JSON, mistakes in calling.
. "$(dirname "$0")/common.sh" "$1"

works debug
says "^   1  " out
says "^  24  " out
grep -q "1/√D" out && fail "the list of symptoms: expected no answers in it"

fails 2 "\-\-fault: expected a number from 1 to 24, 0 or random, found 25" debug --fault 25
fails 2 "\-\-fault: expected a number from 1 to 24, 0 or random, found ten" debug --fault ten
fails 2 "expected --fault N beside --model and --json" debug --json
fails 1 "nowhere" debug --fault 5 --model nowhere

# A session: looked into, asked again, found
printf '%s\n' sites 'trace blocks.1.resid_mid' 'trace blocks.9.attn.q' 'trace blocks.0.attn.q ten' rabbit hint guess 99 'the residual connection' sites >lines
"$program" debug --fault 5 --threads 1 <lines >out 2>err || fail "debug --fault 5: expected exit 0"
checks=$((checks + 1))
says "loss on held-out text" out
says "blocks.1.resid_mid  *\[" out
says "theory: resid_pre + attn_out  *off by [1-9]" out
says "expected a layer from 0 to 1, found blocks.9.attn.q" out
says "expected a row from 0 to .*, found ten" out
says "found rabbit" out
says "hint 1 of 3" out
says "from 1 to 24, or words; found 99" out
says "Yes, with 1 hint" out
says "src/model/block.cpp" out
says "trace: the values are those of the formulas" out
[ "$(tail -n 1 out | grep -c '"')" -eq 1 ] || fail "expected the session to end with the answer"

# The input ends; the same seed picks the same fault
works debug --fault random --seed 3 --threads 1 </dev/null
cp out first
works debug --fault 0 --seed 3 --threads 1 </dev/null
same_bytes out first

works debug --fault 12 --threads 1 --json
json fault symptom readings healthy found
[ "$(wc -l <out)" -eq 1 ] || fail "--json: expected one line"

# In a model from elsewhere
works corpus --bytes 30K --out text
works train --out m --data text --steps 3 --layers 2 --heads 2 --width 16 --context 128 --batch 2 --threads 1 --position learned
works debug --fault 24 --model m --threads 1 --json
json readings
fails 1 "this model has no RoPE" debug --fault 8 --model m
fails 1 "needs the small model: leave --model out" debug --fault 6 --model m
finish
