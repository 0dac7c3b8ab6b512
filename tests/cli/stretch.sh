#!/usr/bin/env bash
# A model at a longer context: scalings of RoPE on a loaded model, in training from scratch and from a model; what cannot be.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 20K --out text
works train --data text --out model $tiny --steps 20 --position rope --seed 3
works train --data text --out learned $tiny --steps 5 --preset nano

# What a scaling does to a loaded model is what the same configuration in config.json does.
loss() { "$program" eval --data text --threads 1 --json "$@" 2>/dev/null | tail -1 | grep -o '"loss_nats":[0-9.]*'; }
for scaling in linear ntk yarn-pairs yarn; do
  works train --from model --data text --context 64 --rope-scaling $scaling --steps 1 --rate 1e-30 --min-rate 0 --out $scaling --batch 2 --threads 1 --json
  json val_loss_nats_before val_loss_nats
  says "RoPE       $scaling by a factor of 4"
  says "before     [0-9.]* nats per token, read in windows of 64"
  checks=$((checks + 1))
  [ "$(loss --model model --context 64 --rope-scaling $scaling)" = "$(loss --model $scaling)" ] || fail "$scaling: expected the same loss from the command line and from config.json"
  [ "$(loss --model model --context 64)" != "$(loss --model $scaling)" ] || fail "$scaling: expected another loss than unscaled"
done
says '"rope_type": "linear"' linear/config.json
says '"factor": 4.0' linear/config.json
says '"rope_type": "yarn"' yarn-pairs/config.json
says '"original_max_position_embeddings": 16' yarn-pairs/config.json
says '"model_type": "glassformer"' yarn/config.json
says '"glassformer_rope_ntk_factor": 4.0' ntk/config.json
[ "$(loss --model model --context 64 --rope-scaling linear --rope-factor 1)" = "$(loss --model model --context 64)" ] || fail "expected a factor of 1 to change nothing"
[ "$(loss --model linear --rope-scaling none)" = "$(loss --model model --context 64)" ] || fail "expected --rope-scaling none to take a scaling away"

# From scratch, and a run from a model resumed.
works train --data text --out scratch $tiny --steps 3 --rope-scaling yarn --rope-factor 2 --rope-original-context 8
works train --from model --data text --context 32 --rope-scaling ntk --steps 40 --eval-every 10 --batch 2 --threads 1 --out whole
works train --from model --data text --context 32 --rope-scaling ntk --steps 40 --eval-every 10 --batch 2 --threads 1 --out again
works train --out again --resume --threads 2
same_bytes whole/model.safetensors again/model.safetensors
fails 2 "--context: expected 32, as the run in again/last has it, or none, found 16" train --out again --resume --context 16

works sample --model model --prompt "the " --max-tokens 40 --context 64 --rope-scaling ntk --past-context stop --threads 1
works explain position --model model --prompt "the cat" --context 64 --rope-scaling yarn --json
json unscaled_frequencies length rope_scaling
works explain position --rope-scaling yarn --rope-factor 4 --json
json unscaled_frequencies

# What cannot be
fails 2 "--rope-factor: expected --rope-scaling beside it, found none" sample --model model --rope-factor 2
fails 2 "--rope-original-context: expected --rope-scaling yarn or yarn-pairs beside it, found linear" eval --model model --data text --rope-scaling linear --rope-original-context 8
fails 2 "--rope-factor: expected a number, or a --context above the trained 16, found none" sample --model model --rope-scaling linear
fails 2 "--rope-factor: expected a number from 1 to" sample --model model --rope-scaling linear --rope-factor 0.5
fails 2 "--rope-scaling: expected one of none, linear, ntk, yarn, yarn-pairs, found dynamic" sample --model model --rope-scaling dynamic
fails 1 "context: expected 16, the places that the model has learned, found 32" sample --model learned --context 32
fails 1 "rope-scaling: expected rope positions beside linear, found learned" sample --model learned --rope-scaling linear --rope-factor 2
fails 1 "YaRN: expected the context that the model was trained on" train --data text --out new $tiny --rope-scaling yarn --rope-factor 2
fails 2 "--layers: expected only --context" train --from model --data text --out new --layers 3
fails 2 "--tokenizer: expected none beside --from" train --from model --data text --out new --tokenizer byte
fails 1 "nowhere" train --from nowhere --data text --out new
[ ! -e new ] || fail "expected nothing to be written"
finish
