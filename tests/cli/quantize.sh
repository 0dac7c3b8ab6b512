#!/usr/bin/env bash
# quantize, and every command on what it wrote.
. "$(dirname "$0")/common.sh" "$1"

number() { tail -n 1 "${2:-out}" | grep -o "\"$1\":[-0-9.e+]*" | head -n 1 | cut -d: -f2; }
# holds EXPRESSION: awk finds it true
holds() {
  checks=$((checks + 1))
  awk "BEGIN { exit !($1) }" || fail "expected $1"
}
text="--corpus stories --corpus-bytes 20K --threads 1"

works train --corpus stories --corpus-bytes 20K --layers 1 --heads 2 --width 64 --hidden 192 --context 16 --batch 4 --threads 1 --steps 20 --out model
works eval --model model $text --json
cp out floats

for type in q8_0 q4_0 int4 nf4; do
  works quantize --model model --type $type --out $type $text --json
  json model type embedding_type bytes bytes_before bits_per_weight relative_rmse kinds tokens perplexity_ratio mean_kl_nats top1_agreement loss_nats loss_nats_before
  cp out cost
  holds "$(number bytes cost) < $(number bytes_before cost) / 3"
  works eval --model $type $text --json  # the two commands measure the same model on the same tokens
  holds "$(number tokens) == $(number tokens cost) && ($(number loss_nats) - $(number loss_nats cost))^2 < 1e-12"
  holds "($(number loss_nats floats) - $(number loss_nats_before cost))^2 < 1e-12"
  holds "(log($(number perplexity_ratio cost)) - $(number loss_nats cost) + $(number loss_nats_before cost))^2 < 1e-12"
  holds "$(number mean_kl_nats cost) > 0 && $(number top1_agreement cost) > 0.8"
done
works quantize --model model --type q8_0 --embedding-type f32 --out with-floats
says '^attention .* 8\.500 ' out
says '^embedding, head .* 32\.000 *0$' out
says '^all ' out
works quantize --model model --type q8_0 --out with-floats --overwrite $text
says '^perplexity ratio ' out
works quantize --model model/model.safetensors --type nf4 --out again
same_bytes nf4/model.safetensors again/model.safetensors
same_bytes nf4/config.json again/config.json

# Rows of 80 numbers are no multiple of 64.
works train --corpus stories --corpus-bytes 20K --layers 1 --heads 2 --width 64 --hidden 80 --context 16 --batch 4 --threads 1 --steps 2 --out odd
works quantize --model odd --type nf4 --out odd-nf4
says '^note: blocks.0.mlp.down.weight: rows of 80 numbers are no multiple of the format.s block: kept in floating point$'
works sample --model odd-nf4 --prompt the --max-tokens 5

# Commands that read a model.
works sample --model nf4 --prompt "Once upon" --max-tokens 10 --threads 1
says 'glassformer in nf4, embeddings q8_0: '
for component in attention block cache lens attribution sampling position backward; do
  works explain $component --model nf4 --prompt "the dog"
  says '^note: nf4: quantized (nf4, embeddings q8_0): taken with the numbers that its codes stand for$'
done
works explain quantize --model nf4 --tensor blocks.0.mlp.down.weight --row 63 --block 2 --json  # a row of 192 numbers
json component nf4_back formats
holds "$(number nf4_error) < 1e-3 && $(number int4_error) > 0.05"  # its own format loses nearly nothing a second time
fails 1 'row: expected 0 to 63 in blocks.0.mlp.down.weight, found 64' explain quantize --model model --tensor blocks.0.mlp.down.weight --row 64
fails 2 '--row: expected --model' explain quantize --row 1
works explain tokenizer --model nf4 --prompt "the dog"
works lora train --model nf4 --corpus stories --corpus-bytes 20K --steps 2 --batch 2 --threads 1 --out adapter
works sample --model nf4 --adapter adapter --prompt "Once upon" --max-tokens 5 --threads 1
fails 1 'quantized' train --from nf4 --corpus stories --corpus-bytes 20K --steps 2 --threads 1 --out trained

works convert --from nf4 --to back --json
says '^note: nf4: quantized (nf4, embeddings q8_0): taken with the numbers that its codes stand for$'
[ "$(number parameters)" = 56960 ] || fail "expected 56960 parameters"
works eval --model nf4 $text --json
cp out codes
works eval --model back $text --json  # the same numbers, summed in another order
holds "($(number loss_nats) - $(number loss_nats codes))^2 < 1e-10"
works quantize --model back --type q4_0 --out nf4-q4

# What is refused, before anything is written.
fails 1 '^glassformer: nf4: expected a model in floating point, found one in nf4, embeddings q8_0$' quantize --model nf4 --type nf4 --out new
fails 1 'nf4/config.json: expected a model in floating point to quantize to q4_0, embeddings q8_0, found one in nf4' quantize --model nf4 --type q4_0 --out new
fails 1 '^glassformer: q8_0: expected a new or empty directory, found something in it; give --overwrite$' quantize --model model --type nf4 --out q8_0
fails 2 '--out: expected a directory apart from model, which stays' quantize --model model --type nf4 --out model --overwrite
fails 2 '--out: expected a directory apart from model/config.json, which stays' quantize --model model/config.json --type nf4 --out ./model/ --overwrite
fails 2 '^glassformer: --type: expected one of q8_0, q4_0, int4, nf4, found none$' quantize --model model --out new
fails 2 'q5' quantize --model model --type q5 --out new
fails 2 'expected either --data FILE or --corpus' quantize --model model --type nf4 --out new --context 8
fails 2 '^glassformer: --context: expected at most 16' quantize --model model --type nf4 --out new --context 17 $text
fails 1 'missing.txt' quantize --model model --type nf4 --out new --data missing.txt
printf t >t
fails 1 '^glassformer: t: expected at least 2 tokens, found 1' quantize --model model --type nf4 --out new --data t
works train --corpus stories --corpus-bytes 20K $tiny --hidden 24 --steps 1 --out small
fails 1 'expected a matrix whose rows are a multiple of the format.s block, found none' quantize --model small --type nf4 --out new
checks=$((checks + 1))
[ ! -e new ] || fail "expected no directory new"

# A damaged one: nothing is believed.
head -c 2000 nf4/model.safetensors >cut && mv cut nf4/model.safetensors
fails 1 'nf4/model.safetensors: expected ' sample --model nf4 --prompt a
sed 's/"linear": "nf4"/"linear": "nf5"/' again/config.json >config && mv config again/config.json
fails 1 'again/config.json: quantization: linear: expected one of q8_0, q4_0, int4, nf4, f32, found "nf5"' eval --model again $text
finish
