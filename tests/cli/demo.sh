#!/usr/bin/env bash
# The story that the README promises, and what it must reach: the excess over the source at most half of a 5-gram model's, which
# tests/data/corpus_test.cpp fits and finds above 0.25 bits per byte; 95% of the words that a tale said sentences before.
. "$(dirname "$0")/common.sh"

works demo --json --lora-steps 150
json bits_per_byte source_bits_per_byte excess_bits_per_byte agreement_accuracy cache_speed_ratio support_bits_per_byte_after adapter_share seconds
number() { tail -n 1 out | sed "s/.*\"$1\":\([-0-9.e]*\).*/\1/"; }
holds() {
  checks=$((checks + 1))
  awk "BEGIN { exit !($1) }" || fail "expected $1 ($2)"
}
holds "$(number excess_bits_per_byte) > 0 && $(number excess_bits_per_byte) <= 0.125" "excess over the source, bits per byte"
holds "$(number agreement_accuracy) >= 0.95" "agreement across sentences"
holds "$(number cache_speed_ratio) > 1.5" "the cache's speed-up"
holds "$(number support_bits_per_byte_after) < 0.5 * $(number support_bits_per_byte_before)" "adapted against before"
checks=$((checks + 1))
grep -q '"cache_same_text":true' out || fail "expected the same text with and without the cache"
works sample --model glassformer-demo/model --prompt One --max-tokens 20
works sample --model glassformer-demo/model --adapter glassformer-demo/support --prompt "Customer:" --max-tokens 20
finish
