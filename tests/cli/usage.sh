#!/usr/bin/env bash
# How the program is called: help, unknown names, bad values, standard output that cannot be written.
. "$(dirname "$0")/common.sh" "$1"

works --help
says "Commands:" out
says "train  *trains a decoder" out
works --version
says "^glassformer [0-9]" out
run
[ $? -eq 2 ] || fail "without a command: expected exit 2"
says "Commands:"

for command in corpus "tokenizer train" "tokenizer encode" "tokenizer decode" train sample eval "lora train" "lora merge" "lora inspect" gradcheck convert; do
  works $command --help
  says "^Usage: glassformer $command" out
  says "^Example:" out
  says "^  glassformer $command" out
done
works tokenizer --help
works lora --help
works help train
says "^Usage: glassformer train" out

fails 2 "did you mean train?" trian
fails 2 "expected a command of .*corpus" nonsense
fails 2 "did you mean encode?" tokenizer encod
fails 2 "unknown option --stepz, did you mean --steps?" train --data x --out y --stepz 3
fails 2 "unknown option -x" train -x
fails 2 "expected options, found words" train words
fails 2 "expected --out DIR" train --data x
fails 2 "expected either --data FILE or --corpus" train --out y
fails 2 "found both" train --out y --data x --corpus stories
fails 2 "--steps: expected N, found nothing" train --data x --out y --steps
fails 2 "--steps: expected N, found the option --out" train --data x --steps --out y
fails 2 "--steps: expected a whole number of at least 1, found many" train --data x --out y --steps many
fails 2 "--steps: expected a whole number of at least 1, found -5" train --data x --out y --steps -5
fails 2 "--steps: expected a whole number of at least 1, found 0" train --data x --out y --steps 0
fails 2 "--steps: expected one value, found 3 and 4" train --data x --out y --steps 3 --steps 4
fails 2 "--rate: expected a number above 0, found 0" train --data x --out y --rate 0
fails 2 "--rate: expected a number above 0, found nan" train --data x --out y --rate nan
fails 2 "--threads: expected a whole number" train --data x --out y --threads 0
fails 2 "--preset: expected one of nano, nano-llama" train --data x --out y --preset nanno
fails 2 "did you mean rope?" train --data x --out y --position rop
fails 2 "--temperature: expected a number" sample --model x --temperature -1
fails 2 "--bytes: expected a number of bytes" corpus --bytes 4Q --out x
fails 2 "--vocab-size: expected --tokenizer bpe" train --data x --out y --vocab-size 300
fails 2 "--muon-rate: expected --muon" train --corpus stories --corpus-bytes 5K --out y --muon-rate 0.1
fails 2 "--corpus-bytes: expected --corpus" train --data x --out y --corpus-bytes 5K
fails 1 "nowhere" sample --model nowhere
fails 1 "nowhere" eval --model nowhere --data x

# Standard output that is full, closed, or a pipe that nobody reads
if [ -e /dev/full ]; then
  "$program" --help >/dev/full 2>err && fail "a full standard output: expected exit 1"
  says "^glassformer: standard output: could not be written"
fi
"$program" --help >&- 2>err && fail "a closed standard output: expected exit 1"
says "^glassformer: standard output: could not be written"

works corpus --kind support --bytes 3K --out c.txt --json --seed 7
json kind bytes documents entropy_bits bits_per_byte
[ "$(wc -c <c.txt)" -ge 3072 ] || fail "expected at least 3K bytes"
cp c.txt first.txt
works corpus --kind support --bytes 3K --out c.txt --seed 7
same_bytes c.txt first.txt
finish
