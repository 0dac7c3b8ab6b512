#!/usr/bin/env bash
# tokenizer train, encode, decode
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 30K --out text
works tokenizer train --data text --vocab-size 300 --out t.json --json
json vocab_size merges seconds tokens_per_byte
tail -n 1 out | grep -q '"vocab_size":300,"merges":43,' || fail "expected 300 tokens by 43 merges"
works tokenizer train --data text --vocab-size 300 --out dir
same_bytes t.json dir/tokenizer.json

works tokenizer train --data text --vocab-size 300 --threads 3 --out t3.json
same_bytes t.json t3.json
works corpus --bytes 1200K --out long
for threads in 1 3; do
  works tokenizer encode --tokenizer t.json --data long --special --threads $threads
  cp out ids$threads
done
same_bytes ids1 ids3

printf 'Zoë said "日本" \xff\x00 twice.\n' >odd
for tokenizer in byte t.json dir; do
  works tokenizer encode --tokenizer $tokenizer --data odd
  cp out ids
  "$program" tokenizer decode --tokenizer $tokenizer <ids >back 2>err || fail "decode with $tokenizer"
  same_bytes odd back
done
works tokenizer encode --tokenizer byte --text AB
[ "$(cat out)" = "65 66" ] || fail "expected 65 66"
works tokenizer encode --tokenizer byte --text AB --json
[ "$(cat out)" = '{"ids":[65,66]}' ] || fail 'expected {"ids":[65,66]}'
[ "$(printf AB | "$program" tokenizer encode --tokenizer byte)" = "65 66" ] || fail "expected the ids of standard input"
works tokenizer encode --tokenizer char --data text --text Once
cp out ids
works tokenizer decode --tokenizer char --data text --ids "$(cat ids)"
[ "$(cat out)" = Once ] || fail "expected Once"

fails 2 "built from a text: expected --data" tokenizer encode --tokenizer char --text x
fails 1 "no-such" tokenizer encode --tokenizer no-such --text x
fails 1 "999" tokenizer decode --tokenizer byte --ids 999
fails 2 "ids: expected whole numbers, found x" tokenizer decode --tokenizer byte --ids "1 x"
fails 2 "--vocab-size" tokenizer train --data text --vocab-size 100 --out u.json
fails 2 "--vocab-size" tokenizer train --data text --vocab-size 256 --out u.json
printf '{"model": 3}' >broken.json
fails 1 "broken.json: " tokenizer encode --tokenizer broken.json --text x
fails 1 "no-such" tokenizer train --data no-such --out u.json
[ ! -e u.json ] || fail "expected no u.json after failures"
finish
