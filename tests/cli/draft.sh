#!/usr/bin/env bash
# A smaller model drafts: the same greedy text, what is told of it, what cannot be.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 20K --out text
larger=${tiny/--layers 1 --heads 2 --width 16/--layers 2 --heads 2 --width 32}
works train --data text --out m $larger --steps 150 --rate 0.01 --position rope --seed 3
works train --data text --out s ${tiny/--context 16/--context 12} --steps 100 --rate 0.01 --position learned --seed 4
works train --data text --out w $tiny --steps 1 --tokenizer byte
works quantize --model m --type q8_0 --out q

text() { "$program" sample --threads 1 --prompt "the c" --model m --temperature 0 --max-tokens 30 "$@" 2>err; }
for draft in s q m; do
  for more in "" "--kv-cache int8" "--past-context stop" "--draft-tokens 1" "--draft-tokens 9" "--stop e" "--repetition-penalty 1.3"; do
    checks=$((checks + 1))
    plain=$(text ${more/--draft-tokens ?/}) drafted=$(text --draft $draft $more)
    [ -n "$plain" ] && [ "$plain" = "$drafted" ] || fail "--draft $draft $more: expected '$plain', found '$drafted'"
  done
done
works sample --model m --draft m --temperature 0 --prompt "the" --max-tokens 11 --draft-tokens 4 --draft-speedup --json --threads 1
json drafted accepted acceptance_rate passes tokens_per_s plain_tokens_per_s speedup
says '"drafted":8,"accepted":8,"acceptance_rate":1.0,"passes":2' out
says "8 of 8 drafted tokens accepted (100.0%), 2 passes of the model"
says "without the draft .* tokens/s: drafting is .* times as fast"
# Timed, the text is printed when it is done, and so in one piece. The system tells a shell how often the programs that it has waited for have written.
checks=$((checks + 1))
[ "$(text --draft s)" = "$(text --draft s --draft-speedup)" ] || fail "--draft-speedup: expected the same text"
written() { # sets `writes`
  local key value
  while read -r key value; do [ "$key" != syscw: ] || writes=$value; done <"/proc/$BASHPID/io"
}
writes_of() (
  written
  before=$writes
  text "$@" >text-of
  written
  echo $((writes - before))
)
if [ -r /proc/self/io ]; then
  checks=$((checks + 1))
  pieces=$(writes_of --draft s) at_once=$(writes_of --draft s --draft-speedup)
  [ "$pieces" -gt $((at_once + 15)) ] || fail "--draft-speedup: expected one write of a text of 30 tokens, found $at_once with the report, and $pieces without the option"
else
  echo "skipped: whether the text is printed when it is done (no /proc/self/io)"
fi
works sample --model m --draft s --prompt "the" --prompt "a" --max-tokens 9 --draft-speedup --json --threads 1 --seed 5
json samples drafted tokens_per_s plain_tokens_per_s speedup
works sample --model m --draft s --prompt "the" --max-tokens 60 --threads 1
says "Past the context nothing is drafted"

works sample --model m --draft q --prompt "the" --max-tokens 2 --activations int8
says "^note: --activations int8 changes nothing in m: no matrix is in q8_0 or q4_0"
[ "$(grep -c "changes nothing" err)" -eq 1 ] || fail "expected one note, on the model in f32"
works eval --model m --data text --activations int8
says "^note: --activations int8 changes nothing in m: "
works eval --model q --data text --activations int8
[ "$(grep -c "changes nothing" err)" -eq 0 ] || fail "expected no note on a model in q8_0"

fails 1 "w: expected a model with the tokenizer of m, found one of 256 tokens in place of" sample --model m --draft w
fails 1 "nowhere" sample --model m --draft nowhere
fails 2 "draft: expected no --no-cache" sample --model m --draft s --no-cache
fails 2 "expected --draft DIR beside" sample --model m --draft-tokens 3
fails 2 "expected --draft DIR beside" sample --model m --draft-speedup
fails 2 "expected no --draft for a what-if" sample --model m --draft s --ablate 0.0
fails 2 "draft-tokens" sample --model m --draft s --draft-tokens 0
finish
