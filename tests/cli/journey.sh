#!/usr/bin/env bash
# From a corpus to an adapted model, and the keys of every JSON object.
. "$(dirname "$0")/common.sh" "$1"

tiny="--layers 1 --heads 2 --width 16 --context 128 --batch 4 --threads 1"
works corpus --kind stories --bytes 40K --out text
works train --corpus stories --corpus-bytes 40K --out m --tokenizer bpe --vocab-size 300 --steps 30 --eval-every 20 $tiny --json
json steps parameters train_loss_nats val_loss_nats val_bits_per_byte seconds tokens_per_s model source_bits_per_byte interrupted
says "5.7038 nats per token at the start (ln 300)"
says "the source has .* bits per byte"
says "above the source"
says "glassformer sample --model m"

works sample --model m --prompt "Once" --max-tokens 8 --json --seed 3
json prompt text ids tokens_per_s prefill_ms
cp out first
works sample --model m --prompt "Once" --max-tokens 8 --json --seed 3 --no-cache
sed 's/,"tokens_per_s.*//' first >cached && sed 's/,"tokens_per_s.*//' out >uncached
same_bytes cached uncached
works sample --model m --prompt "Once" --max-tokens 150 --temperature 0 --past-context stop
grep -q "^Once" out || fail "expected the text to begin with the prompt"
says "ended by context"
works sample --model m --prompt "Once" --max-tokens 150 --top-k 5 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.2 --stop e --stop t

works eval --model m --data text --json
json tokens loss_nats perplexity bits_per_byte accuracy
works eval --model m --corpus stories --corpus-bytes 20K --agreement 20
says "^agreement .*% of the questions" out

works lora train --model m --corpus support --corpus-bytes 40K --answers-only --out a --rank 4 --steps 30 --batch 4 --json --threads 1
json steps parameters train_loss_nats val_loss_nats val_loss_nats_before trainable_parameters trainable_share adapter model
says "^before "
says "^after "
works lora train --out a --model m --resume --json
works lora inspect --model m --adapter a --json
json rank alpha scale parameters share targets
works lora inspect --model m --adapter a
says "^blocks.0.attn.q " out
works lora train --model m --data text --out a2 --rank 2 --targets attn.q,attn.v --steps 3 --batch 2 --rslora
fails 1 "attn.x" lora train --model m --data text --out a3 --targets attn.x
fails 1 "expected dialogues" lora train --model m --data text --out a3 --answers-only
works lora merge --model m --adapter a --out merged --json
works eval --model m --adapter a --data text --json
sed 's/.*"loss_nats":\([0-9.]\{6\}\).*/\1/' out >a_loss
works eval --model merged --data text --json
sed 's/.*"loss_nats":\([0-9.]\{6\}\).*/\1/' out >b_loss
same_bytes a_loss b_loss
works eval --model m --data text --json
sed 's/.*"loss_nats":\([0-9.]\{6\}\).*/\1/' out | cmp -s - a_loss && fail "expected the adapter to change the loss"

works convert --from m --to half --dtype BF16 --json
works sample --model half --max-tokens 3
fails 1 "give --overwrite" convert --from m --to half

works gradcheck --entries 3 --layers 1
says "^PASS" out
works gradcheck --entries 2 --layers 1 --position rope --norm rmsnorm --mlp swiglu --no-bias --kv-heads 1 --json
json tensors largest_error tolerance pass
finish
