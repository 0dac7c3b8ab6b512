#!/usr/bin/env bash
# The benchmarks run, count what can be counted, and refuse what cannot be built. Nothing is timed.
. "$(dirname "$0")/common.sh" "$1"

field() { tail -n 1 out | sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p"; }
# is KEY NUMBER
is() {
  checks=$((checks + 1))
  [ "$(field "$1")" = "$2" ] || fail "$1: expected $2, found $(field "$1")"
}
shape="--layers 2 --heads 4 --kv-heads 2 --width 64 --hidden 96 --vocab 128 --repeats 1 --threads 2"

# Llama: 128·64 shared by embedding and head; a block 64·(64 + 2·32) + 64·64 + 3·64·96 + 2·64 = 30,848; 64 of the last norm
works bench decode $shape --tokens 9 --batch 3 --json
json type threads tokens batch tokens_per_s median_tokens_per_s step_ms read_gb_per_s memory_gb_per_s share_of_memory_limit
is parameters 69952
is weight_bytes 279808
is step_bytes 287488 # + 3 sequences · 5 places on average · 2 layers · keys and values · 32 numbers of 4 bytes
works bench decode $shape --tokens 9 --no-tied --json
is parameters 78144
is step_bytes 282368 # the embedding's table is looked up, not read: 279,808 of the rest + 2,560 of the cache
works bench decode $shape --tokens 9 --type q8_0 --json
is weight_bytes 75264 # 69,632 numbers in matrices, 34 bytes for 32; 5·64 gains of 4 bytes
works bench decode $shape --tokens 9 --arch gpt2 --context 16 --json
is step_bytes $(($(field weight_bytes) - 16 * 64 * 4 + 2560)) # one row of the position table
works bench prefill $shape --tokens 9 --type nf4 --json
json parameters type threads tokens tokens_per_s prefill_ms gflops_per_s fma_peak_gflops_per_s share_of_fma_peak
works bench --quick --json
json machine fma_peak_gflops_per_s gemm_gflops_per_s memory_gb_per_s train decode prefill operations share_of_memory_limit tokenizer reading_mb_per_s
says "^tokenizer, words are new .* MB/s .* % of known words .*merging" out
says "^tokenizer, words are known .* MB/s .* % of reading memory" out
[ "$(field merges)" = "" ] && [ "$(field tokens_per_s)" != "" ] || fail "expected no learning of a vocabulary"

# What is labelled is what runs: formats, matrices that the format cannot hold, activations.
plain() { ! grep -q "$1" err out || fail "expected no '$1'"; }
small="--layers 1 --heads 2 --width 64 --vocab 64 --tokens 2 --repeats 1 --threads 1 --json"
works bench decode $small --hidden 100 --type q8_0
says "in q8_0 (but 1 of its matrices, whose rows are no multiple of the block, in f32), 1 seq" out
is matrices_in_f32 1 # 64 outputs of 100 inputs
works bench decode $small --hidden 64 --type q8_0 --embedding-type nf4
is matrices_in_f32 0
says '"type":"q8_0","embedding_type":"nf4"' out
for command in decode prefill; do
  for type in f32 int4 nf4; do
    works bench $command $small --hidden 64 --type $type --activations int8
    says "^note: --activations int8 changes nothing in this model: no matrix is in q8_0 or q4_0"
    says '"activations":"exact"' out
    plain "8 bits"
  done
  works bench $command $small --hidden 64 --type nf4 --embedding-type q8_0 --activations int8
  plain "^note"
  says '"activations":"int8"' out
  says ", the head's activations in 8 bits, " out
  plain "of float's"
  for type in q8_0 q4_0; do
    works bench $command $small --hidden 64 --type $type --activations int8
    plain "^note"
    says '"activations":"int8"' out
    says ", activations in 8 bits, " out
  done
done
says "share of the peak .* %: of float's" out
works bench prefill $small --hidden 64 --type q8_0
plain "of float's"
works bench --quick --activations int8 --json
says "^prefill q8_0·int8 .* of multiply-adds in float" out
says "^decode q8_0·int8, 8 at once " out
says "^prefill nf4  .* of multiply-adds  " out
says '"type":"nf4",[^}]*"activations":"exact"' out
says '"type":"q4_0",[^}]*"activations":"int8"' out
# What `bench all` says of one is what the command of its own says.
keys() { sed 's/"operations":\[[^]]*\]/"operations":0/g' | sed "$1" | grep -o '"[a-z0-9_]*":' | sort; }
tail -n 1 out >all
for command in decode prefill; do
  works bench $command $small --hidden 64
  checks=$((checks + 1))
  of_all=$(keys "s/.*\"$command\":\[{\([^}]*\)}.*/\1/" <all) alone=$(tail -n 1 out | keys "")
  [ -n "$alone" ] && [ "$of_all" = "$alone" ] || fail "bench all: expected of $command the keys" $alone, "found" $of_all
done
fails 2 "--activations int8: expected --kernels fused, found reference" bench decode $small --type q8_0 --activations int8 --kernels reference
fails 2 "--activations int8: expected --kernels fused, found reference" sample --model m --activations int8 --kernels reference
works bench machine --threads 1 --json
is threads 1
works bench matmul --seconds 0.001 --json
json products layer tokens outputs inputs forward_gflops_per_s input_gflops_per_s parameters_gflops_per_s

# Memory that grows by the square of the context would cost a token eight times as much at 4,096 as at 512
works bench memory --json
per_token=($(tail -n 1 out | grep -o '"bytes_per_token":[0-9]*' | cut -d: -f2))
[ "${#per_token[@]}" -eq 4 ] && [ $((per_token[3] * 10)) -le $((per_token[1] * 12)) ] || fail "expected the bytes a token to stay, found ${per_token[*]}"

file="--layers 1 --heads 2 --width 64 --hidden 64 --repeats 1 --threads 2 --tokens 2 --write-gguf m.gguf"
works bench decode $file --vocab 300
[ "$(head -c 4 m.gguf)" = GGUF ] || fail "expected a GGUF file"
fails 1 "m.gguf: expected a new file, found one; give --overwrite" bench decode $file --vocab 300
fails 2 "--write-gguf: expected a file that ends in .gguf, found model.safetensors" bench decode --write-gguf model.safetensors
file="$file --overwrite"
fails 2 "--write-gguf: expected --vocab 257 at least, found 256" bench decode $file --vocab 256
fails 1 "m.gguf: expected matrices in f32, q8_0 or q4_0, found .* in nf4" bench decode $file --vocab 300 --type nf4
fails 1 "m.gguf: expected a model of the family llama, found gpt2" bench decode $file --vocab 300 --arch gpt2
works bench train --layers 1 --heads 2 --width 16 --context 16 --batch 2 --steps 2 --json
json parameters step_ms tokens_per_s gflops_per_s fma_peak_gflops_per_s share_of_fma_peak peak_bytes operations

works bench tokenizer --corpus stories --corpus-bytes 20K --vocab-size 300 --repeats 1 --threads 2 --json
json bytes tokens pre_tokens new_pre_tokens cold_mb_per_s warm_mb_per_s threads_mb_per_s threads merges places learn_seconds
is merges 44
[ "$(field bytes)" -gt "$(field tokens)" ] && [ "$(field tokens)" -gt "$(field pre_tokens)" ] && [ "$(field pre_tokens)" -gt "$(field new_pre_tokens)" ] ||
  fail "expected bytes > tokens > pre-tokens > new ones"
printf 'one two three' >text
works bench tokenizer --data text --tokenizer byte --repeats 1 --json
is tokens 13
is merges 1 # " t" stands twice

fails 1 "no-such" bench tokenizer --data text --tokenizer no-such
fails 2 "expected a command of all, machine" bench decod
fails 2 "--type: expected one of f32, q8_0" bench decode --type q5_0
fails 2 "--tokens: expected at most --context 16, found 17" bench decode $shape --context 16 --tokens 17
fails 2 "--tokens: expected at most --context 16, found 17" bench prefill $shape --context 16 --tokens 17
fails 2 "--type q8_0: expected a width that is a multiple of the format's block, found 20" bench decode --layers 1 --heads 2 --width 20 --hidden 20 --vocab 9 --type q8_0
fails 1 "heads" bench decode --heads 5
finish
