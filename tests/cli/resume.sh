#!/usr/bin/env bash
# Ctrl-C while training saves; the resumed run ends with the bytes of one that never stopped; so do 1, 2 and 4 threads.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 20K --out text
shape="--data text --layers 2 --heads 2 --width 32 --context 32 --batch 4 --steps 400 --eval-every 25 --dropout 0.1"

works train --out whole $shape --threads 1

interrupt train --out stopped $shape --threads 2 --json
says "interrupted after step [0-9]* and saved; go on with: glassformer train --out stopped --resume"
json steps interrupted model
tail -n 1 out | grep -q '"interrupted":true' || fail "expected interrupted: true"
works sample --model stopped --max-tokens 3
says "validation loss when saved"

works train --out stopped --resume --threads 2 # everything else is remembered
for file in model.safetensors last/model.safetensors last/trainer.safetensors config.json tokenizer.json; do same_bytes whole/$file stopped/$file; done
losses() { sed 's/,"tokens_per_s":[^,]*,"seconds":[^,}]*//' "$1/metrics.jsonl"; }
losses whole >a
losses stopped >b
same_bytes a b
[ "$(wc -l <a)" -eq 400 ] || fail "expected 400 lines of metrics"

# An adapter's run likewise
shape="--model whole --data text --rank 2 --batch 4 --steps 400 --eval-every 20 --lora-dropout 0.1"
works lora train --out adapter $shape --threads 1
interrupt lora train --out stopped-adapter $shape --threads 1
says "go on with: glassformer lora train --out stopped-adapter --resume --model whole"
works lora train --out stopped-adapter --resume --model whole --threads 1
for file in adapter_model.safetensors last/adapter_model.safetensors last/trainer.safetensors; do same_bytes adapter/$file stopped-adapter/$file; done

shape="--data text --layers 1 --heads 4 --width 64 --context 64 --batch 8 --steps 8 --accumulate 2 --muon"
for threads in 1 2 4; do works train --out t$threads $shape --threads $threads; done
same_bytes t1/model.safetensors t2/model.safetensors
same_bytes t1/model.safetensors t4/model.safetensors
works train --out t5 $shape --threads 1 --seed 2
cmp -s t1/model.safetensors t5/model.safetensors && fail "another seed: expected other bytes"
finish
