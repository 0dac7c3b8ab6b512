#!/usr/bin/env python3
"""Makes the golden files beside this script, or with --check makes them again and compares.

    make_goldens.py            write gpt2.safetensors, llama.safetensors, qlora.safetensors, muon.safetensors
    make_goldens.py --check    exit 0 when every tensor agrees to 1e-12 (after AdamW 1e-10), 1 when not, 77 without PyTorch

What the engine is held against is PyTorch in float64: its layer_norm, gelu, softmax, cross_entropy, autograd, AdamW and
clip_grad_norm_. Nothing here knows of the engine except the names and shapes of its parameters and its packed batches.

Contents of gpt2 and llama (F64 unless said otherwise):
    ids, targets [N], starts [sequences + 1]   the batch (I64): sequence s is rows starts[s] .. starts[s+1]; target -1 is not scored
    param.NAME                                 the parameters (F32: drawn as float32, so exact in both precisions)
    logits [N, V], loss                        loss: mean over the scored targets, in nats
    grad.NAME                                  d loss / d parameter
    losses, norms [5]                          the loss and the norm of all gradients before each of five AdamW steps on the same batch
    after.NAME                                 the parameters after them
    ADAPTER.param.NAME, .logits, .loss, .grad.NAME, .losses, .norms, .after.NAME   the same with an adapter, which alone is trained:
        lora in gpt2, dora in llama; see adapter_goldens()
Contents of qlora: see qlora_goldens(). Contents of muon: see muon_goldens().

Needs python3-torch and numpy as Debian 12 has them (PyTorch 1.13).
"""
import json
import math
import os
import struct
import sys

SKIP = 77  # CTest's SKIP_RETURN_CODE
try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"skipped: {error}; the goldens can be made again only where PyTorch is (Debian: apt install python3-torch)")
    sys.exit(SKIP)

FOLDER = os.path.dirname(os.path.abspath(__file__))
TOLERANCE = 1e-12
# After AdamW: the key bias has a gradient of zero in theory (softmax ignores a shift of all scores of a query), in float64 about
# 1e-17 of rounding noise that differs between machines, and AdamW divides it by epsilon: steps of some 1e-12.
TOLERANCE_AFTER_ADAMW = 1e-10

# ---------------------------------------------------------------- models
# Legend: T tokens of one sequence, C width, H heads, G key-value heads, D head width, F hidden width, V vocabulary.

GPT2 = dict(vocab=13, context=10, layers=2, heads=2, kv_heads=2, width=8, hidden=32, llama=False)
LLAMA = dict(vocab=13, context=10, layers=2, heads=4, kv_heads=2, width=16, hidden=24, llama=True)
QLORA = dict(vocab=13, context=10, layers=1, heads=4, kv_heads=2, width=64, hidden=192, llama=True)  # rows of whole blocks of 64
EPSILON = 1e-5
ROPE_BASE = 10000.0


def parameter_shapes(c):
    """Name and shape of each parameter; a vector has one dimension."""
    width, head_dim = c["width"], c["width"] // c["heads"]
    rows_qkv = (c["heads"] + 2 * c["kv_heads"]) * head_dim
    rows_up = 2 * c["hidden"] if c["llama"] else c["hidden"]  # SwiGLU: rows of the gate, then of up
    shapes = {"embed.weight": (c["vocab"], width)}
    if not c["llama"]:
        shapes["pos_embed.weight"] = (c["context"], width)

    def norm(name):
        shapes[name + ".weight"] = (width,)
        if not c["llama"]:
            shapes[name + ".bias"] = (width,)

    def linear(name, outputs, inputs):
        shapes[name + ".weight"] = (outputs, inputs)
        if not c["llama"]:
            shapes[name + ".bias"] = (outputs,)

    for i in range(c["layers"]):
        block = f"blocks.{i}."
        norm(block + "ln1")
        linear(block + "attn.qkv", rows_qkv, width)
        linear(block + "attn.out", width, c["heads"] * head_dim)
        norm(block + "ln2")
        linear(block + "mlp.up", rows_up, width)
        linear(block + "mlp.down", width, c["hidden"])
    norm("ln_final")
    if c["llama"]:
        shapes["unembed.weight"] = (c["vocab"], width)
    return shapes


def draw(random, shape, std=0.3, mean=0.0):
    """Normal numbers that are exact in float32, as a float64 tensor."""
    values = (mean + std * random.standard_normal(shape)).astype(np.float32)
    return torch.tensor(values.astype(np.float64))


def draw_parameters(c, seed):
    random = np.random.RandomState(seed)  # numpy promises that this generator's numbers never change
    is_gain = lambda name: name.endswith(".weight") and (".ln" in name or name.startswith("ln"))
    return {name: draw(random, shape, mean=1.0 if is_gain(name) else 0.0) for name, shape in parameter_shapes(c).items()}


def rope(x):
    """x [heads, T, D], place = row: the pair (i, i + D/2) turns by place * base^(-2i/D)."""
    _, length, dim = x.shape
    frequency = ROPE_BASE ** (-2.0 * torch.arange(dim // 2, dtype=torch.float64) / dim)
    turn = torch.polar(torch.ones(length, dim // 2, dtype=torch.float64), torch.arange(length, dtype=torch.float64)[:, None] * frequency)
    turned = torch.complex(x[..., : dim // 2], x[..., dim // 2 :]) * turn
    return torch.cat([turned.real, turned.imag], dim=-1)


def adapted(weight, adapter):
    """W with the rows that the adapter sits on changed: W + s·B·A, and with a magnitude m row o of that as m_o·V_o/|V_o| (DoRA)."""
    begin, rows = adapter["begin"], adapter["B"].shape[0]
    part = weight[begin : begin + rows] + adapter["scale"] * adapter["B"] @ adapter["A"]
    if "m" in adapter:
        part = adapter["m"][:, None] * part / part.norm(dim=1, keepdim=True)  # differentiated through the norm
    return torch.cat([weight[:begin], part, weight[begin + rows :]])


class Model:
    """One of the two decoders over a dictionary of parameters; `adapters` maps a projection's name to a list for adapted()."""

    def __init__(self, c, parameters, adapters=None):
        self.c, self.p, self.adapters = c, parameters, adapters or {}

    def norm(self, name, x):
        if self.c["llama"]:
            return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + EPSILON) * self.p[name + ".weight"]
        return F.layer_norm(x, (self.c["width"],), self.p[name + ".weight"], self.p[name + ".bias"], EPSILON)

    def linear(self, name, x):
        weight = self.p[name + ".weight"]
        for adapter in self.adapters.get(name, []):
            weight = adapted(weight, adapter)
        return F.linear(x, weight, self.p.get(name + ".bias"))

    def attention(self, block, x):
        heads, kv_heads, dim, length = self.c["heads"], self.c["kv_heads"], self.c["width"] // self.c["heads"], x.shape[0]
        joined = self.linear(block + "attn.qkv", x).view(length, heads + 2 * kv_heads, dim).transpose(0, 1)
        q, k, v = joined.split([heads, kv_heads, kv_heads])  # [H, T, D], [G, T, D], [G, T, D]
        if self.c["llama"]:
            q, k = rope(q), rope(k)
        k, v = (t.repeat_interleave(heads // kv_heads, dim=0) for t in (k, v))  # query head h reads group h·G/H
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(1, 2) / math.sqrt(dim)).masked_fill(future, -math.inf)
        z = (scores.softmax(dim=-1) @ v).transpose(0, 1).reshape(length, heads * dim)
        return self.linear(block + "attn.out", z)

    def mlp(self, block, x):
        pre = self.linear(block + "mlp.up", x)
        if self.c["llama"]:
            gate, up = pre.chunk(2, dim=-1)
            return self.linear(block + "mlp.down", F.silu(gate) * up)
        return self.linear(block + "mlp.down", F.gelu(pre, approximate="tanh"))

    def sequence_logits(self, ids):
        x = self.p["embed.weight"][ids]
        if "pos_embed.weight" in self.p:
            x = x + self.p["pos_embed.weight"][: len(ids)]
        for i in range(self.c["layers"]):
            block = f"blocks.{i}."
            x = x + self.attention(block, self.norm(block + "ln1", x))
            x = x + self.mlp(block, self.norm(block + "ln2", x))
        return F.linear(self.norm("ln_final", x), self.p.get("unembed.weight", self.p["embed.weight"]))

    def run(self, batch):
        """Logits [N, V] of the packed batch, and the mean loss over its scored targets."""
        starts = batch["starts"].tolist()
        logits = torch.cat([self.sequence_logits(batch["ids"][b:e]) for b, e in zip(starts, starts[1:])])
        return logits, F.cross_entropy(logits, batch["targets"], ignore_index=-1)


# ---------------------------------------------------------------- what is recorded

CLIP = 1.0  # the largest norm of all gradients
MAGNITUDE = ".magnitude"
LENGTHS = [10, 7, 1]  # three sequences: as long as the context, shorter, and a single token


def make_batch(vocab, seed):
    random = np.random.RandomState(seed)
    count = sum(LENGTHS)
    targets = random.randint(0, vocab, count)
    targets[[0, 4, 12]] = -1  # a first row, one within a sequence, one in the second sequence
    return {
        "ids": torch.tensor(random.randint(0, vocab, count)),
        "targets": torch.tensor(targets),
        "starts": torch.tensor(np.concatenate([[0], np.cumsum(LENGTHS)])),
    }


def leaves(tensors):
    return {name: t.clone().requires_grad_(True) for name, t in tensors.items()}


def train_five_steps(parameters, model, batch):
    """losses, norms and after.NAME of five steps of AdamW with clipping, which move the given leaves."""
    decayed = [p for p in parameters.values() if p.dim() == 2]  # matrices and embeddings
    others = [p for p in parameters.values() if p.dim() == 1]   # gains, biases and DoRA's magnitudes
    groups = [dict(params=decayed, weight_decay=0.1)] + ([dict(params=others, weight_decay=0.0)] if others else [])
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    losses, norms = [], []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model.run(batch)[1]
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP))
        losses.append(loss.detach())
        optimizer.step()
    return {"losses": torch.stack(losses), "norms": torch.stack(norms), **{"after." + name: p.detach() for name, p in parameters.items()}}


def trained_goldens(parameters, model, batch):
    """All that is recorded of a model of which the given leaves are trained."""
    logits, loss = model.run(batch)
    loss.backward()
    out = {"logits": logits.detach(), "loss": loss.detach()}
    out.update({"grad." + name: p.grad.clone() for name, p in parameters.items()})
    out.update(train_five_steps(parameters, model, batch))
    return out


def model_goldens(c, seed):
    initial, batch = draw_parameters(c, seed), make_batch(c["vocab"], seed + 1)
    out = dict(batch)
    out.update({"param." + name: t.to(torch.float32) for name, t in initial.items()})
    parameters = leaves(initial)
    out.update(trained_goldens(parameters, Model(c, parameters), batch))
    return out


def target_rows(c, target):
    """The projection that an adapter's target is, or is a part of, and which rows of it."""
    head_dim = c["width"] // c["heads"]
    q, k = c["heads"] * head_dim, c["kv_heads"] * head_dim
    parts = {"attn.q": ("attn.qkv", 0, q), "attn.k": ("attn.qkv", q, k), "attn.v": ("attn.qkv", q + k, k)}
    if c["llama"]:
        parts.update({"mlp.gate": ("mlp.up", 0, c["hidden"]), "mlp.up": ("mlp.up", c["hidden"], c["hidden"])})
    return parts.get(target, (target, 0, None))


def adapter_goldens(c, base, batch, seed, rank, scale, targets, dora=False):
    """What is recorded of a model with frozen parameters `base` and adapters on the targets of each block: NAME is TARGET.lora_A,
    .lora_B and, with DoRA, .magnitude, near the norms of W's rows. Gradients and steps of the adapters alone."""
    random = np.random.RandomState(seed)
    drawn, places = {}, {}
    for target in (f"blocks.{i}.{t}" for i in range(c["layers"]) for t in targets):
        block, short = target.split(".", 2)[:2], target.split(".", 2)[2]
        projection, begin, rows = target_rows(c, short)
        projection = ".".join(block + [projection])
        weight = base[projection + ".weight"]
        rows = rows or weight.shape[0]
        places[target] = (projection, begin)
        drawn[target + ".lora_A"] = draw(random, (rank, weight.shape[1]))
        drawn[target + ".lora_B"] = draw(random, (rows, rank))
        if dora:
            norms = weight[begin : begin + rows].norm(dim=1)
            drawn[target + MAGNITUDE] = (norms * draw(random, (rows,), std=0.2, mean=1.0)).to(torch.float32).to(torch.float64)
    trained = leaves(drawn)
    adapters = {}
    for target, (projection, begin) in places.items():
        adapter = dict(begin=begin, scale=scale, A=trained[target + ".lora_A"], B=trained[target + ".lora_B"])
        if dora:
            adapter["m"] = trained[target + MAGNITUDE]
        adapters.setdefault(projection, []).append(adapter)
    out = {"param." + name: t.to(torch.float32) for name, t in drawn.items()}
    out.update(trained_goldens(trained, Model(c, base, adapters), batch))
    return out


def add(out, prefix, tensors):
    out.update({prefix + name: t for name, t in tensors.items()})


# ---------------------------------------------------------------- quantization, from the formats' descriptions

NF4_LEVELS = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], dtype=np.float32)  # Dettmers et al. 2023, appendix E


def dynamic_levels():
    """bitsandbytes' signed dynamic type of 8 bits (Dettmers 2015): for each power of ten from 1e-6 to 1 the middles of twice as many
    equal parts of 0.1 .. 1 as for the power before, with both signs; 0; 1."""
    levels = [0.0, 1.0]
    for e in range(7):
        edges = np.linspace(0.1, 1, 2**e + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (e - 6)
        levels += list(middles) + list(-middles)
    return np.sort(np.array(levels)).astype(np.float32)


def nearest(levels, x):
    return np.argmin(np.abs(x[:, None].astype(np.float64) - levels[None, :].astype(np.float64)), axis=1).astype(np.uint8)


def quantize_nf4(weight):
    """weight [O, I] in float32: 64 numbers a block over its largest magnitude, to the nearest level, the first of two in the high
    nibble; the block maxima minus their mean, over the largest of 256 of them, to the nearest of the dynamic levels. Returns the
    tensors to store, and what the codes stand for, in float64."""
    x = weight.numpy().astype(np.float32).reshape(-1, 64)
    absmax = np.abs(x).max(axis=1)
    codes = nearest(NF4_LEVELS, (x / absmax[:, None]).ravel()).reshape(-1, 64)
    offset = np.float32(absmax.astype(np.float64).mean())
    differences = absmax - offset
    group = np.arange(len(absmax)) // 256
    maxima = np.array([np.abs(differences[group == g]).max() for g in range(group[-1] + 1)], dtype=np.float32)
    levels = dynamic_levels()
    absmax_codes = nearest(levels, differences / maxima[group])
    # Rounded to float32 once; bitsandbytes rounds the product as well, which moves the last bit of one in ten.
    restored = (levels[absmax_codes].astype(np.float64) * maxima[group] + offset.astype(np.float64)).astype(np.float32)
    assert (restored > 0).all()
    values = NF4_LEVELS[codes].astype(np.float64) * restored[:, None].astype(np.float64)
    stored = {"blocks": codes[:, 0::2] << 4 | codes[:, 1::2], "absmax": absmax_codes, "group_maximum": maxima, "offset": offset.reshape(1)}
    return {name: torch.tensor(t) for name, t in stored.items()}, torch.tensor(values.reshape(weight.shape))


def quantize_q8_0(weight):
    """weight [O, I] in float32: blocks of 32, a half-precision d = largest magnitude/127, then 32 signed bytes round(x/d)."""
    x = weight.numpy().astype(np.float32).reshape(-1, 32)
    d = np.abs(x).max(axis=1) / np.float32(127)
    scaled = x / d[:, None]
    codes = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int8)
    half = d.astype(np.float16)
    blocks = np.concatenate([half.astype("<f2").view(np.uint8).reshape(-1, 2), codes.view(np.uint8)], axis=1)
    values = half.astype(np.float64)[:, None] * codes.astype(np.float64)
    return {"blocks": torch.tensor(blocks)}, torch.tensor(values.reshape(weight.shape))


def qlora_goldens(c, seed):
    """A Llama-style decoder whose linear layers are NF4 and whose embeddings q8_0, under an adapter.
        ids, targets, starts, param.NAME                        as above; param: before quantization
        quantized.NAME.blocks, .absmax, .group_maximum, .offset the bytes (U8, U8, F32, F32; q8_0: blocks alone)
        logits, loss                                            of the quantized model without the adapter
        lora.*                                                  with it, see adapter_goldens()"""
    initial, batch = draw_parameters(c, seed), make_batch(c["vocab"], seed + 1)
    out = dict(batch)
    out.update({"param." + name: t.to(torch.float32) for name, t in initial.items()})
    base = dict(initial)
    for name, t in initial.items():
        if t.dim() == 2:
            stored, base[name] = (quantize_q8_0 if "embed" in name else quantize_nf4)(t)
            add(out, f"quantized.{name}.", stored)
    logits, loss = Model(c, base).run(batch)
    out.update({"logits": logits, "loss": loss})
    rank, alpha = 2, 8.0
    add(out, "lora.", adapter_goldens(c, base, batch, seed + 2, rank, alpha / rank, ("attn.q", "attn.v", "mlp.gate", "mlp.down")))
    return out


def newton_schulz(x, iterations):
    """x <- a x + b (x x^T) x + c (x x^T)^2 x is an odd polynomial, so it maps each singular value s to a s + b s^3 + c s^5 and
    leaves the singular vectors: computed here by way of the decomposition, unlike the engine."""
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    s = s / s.pow(2).sum().sqrt()
    for _ in range(iterations):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vt


def muon_goldens(seed):
    """For each shape of tall (6x4) and wide (4x6): x and its newton_schulz, y (5 iterations); theta, the gradients of two steps and
    theta and m after them: rate 0.02, momentum 0.95, decay 0.1, gradient_scale 0.5, 5 iterations, m zero at first."""
    random = np.random.RandomState(seed)
    rate, momentum, decay, gradient_scale = 0.02, 0.95, 0.1, 0.5
    out = {}
    for name, shape in (("tall", (6, 4)), ("wide", (4, 6))):
        x, theta = draw(random, shape), draw(random, shape)
        out.update({f"{name}.x": x.to(torch.float32), f"{name}.y": newton_schulz(x, 5), f"{name}.theta": theta.to(torch.float32)})
        m = torch.zeros_like(theta)
        for step in (1, 2):
            gradient = draw(random, shape)
            g = gradient_scale * gradient
            m = momentum * m + (1 - momentum) * g
            update = newton_schulz((1 - momentum) * g + momentum * m, 5)  # Nesterov
            theta = theta * (1 - rate * decay) - rate * math.sqrt(max(1.0, shape[0] / shape[1])) * update
            out.update({f"{name}.gradient.{step}": gradient.to(torch.float32), f"{name}.after.{step}": theta, f"{name}.m.{step}": m})
    return out


# ---------------------------------------------------------------- files

DTYPES = {torch.float64: ("F64", "<f8"), torch.float32: ("F32", "<f4"), torch.int64: ("I64", "<i8"), torch.uint8: ("U8", "u1")}


def to_safetensors(tensors):
    """u64 length of the header, the header as JSON padded with spaces to a multiple of 8, the data."""
    header, data = {}, b""
    for name, t in tensors.items():
        dtype, code = DTYPES[t.dtype]
        raw = np.ascontiguousarray(t.numpy()).astype(code).tobytes()
        header[name] = {"dtype": dtype, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def from_safetensors(raw):
    (length,) = struct.unpack("<Q", raw[:8])
    codes = {dtype: code for dtype, code in DTYPES.values()}
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(raw[8 + length + begin : 8 + length + end], codes[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def differences(committed, made):
    """One line for each tensor that is missing, has another shape or type, or differs too much: ||a-b|| / (||a|| + ||b||)."""
    for name in sorted(set(committed) ^ set(made)):
        yield f"{name}: only in {'the committed file' if name in committed else 'what the script makes'}"
    for name in sorted(set(committed) & set(made)):
        a, b = committed[name], made[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            yield f"{name}: committed {a.dtype}{list(a.shape)}, made {b.dtype}{list(b.shape)}"
            continue
        norm = lambda x: float(np.sqrt(np.sum(np.square(x.astype(np.float64)))))
        tolerance = TOLERANCE_AFTER_ADAMW if "after." in name else TOLERANCE
        difference, total = norm(a.astype(np.float64) - b), norm(a) + norm(b)
        if not difference <= tolerance * total:
            yield f"{name}: differs by {difference / total:.2e}, at most {tolerance} expected"


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__)
        return 2
    torch.set_num_threads(1)
    gpt2, llama = model_goldens(GPT2, seed=1), model_goldens(LLAMA, seed=4)
    base = lambda out: {name[len("param.") :]: t.to(torch.float64) for name, t in out.items() if name.startswith("param.")}
    add(gpt2, "lora.", adapter_goldens(GPT2, base(gpt2), gpt2, 3, rank=2, scale=4.0 / 2, targets=("attn.qkv", "mlp.down")))
    add(llama, "dora.", adapter_goldens(LLAMA, base(llama), llama, 7, rank=3, scale=4.0 / math.sqrt(3), dora=True,  # rank-stabilised
                                        targets=("attn.q", "attn.v", "attn.out", "mlp.gate", "mlp.down")))
    files = {"gpt2": gpt2, "llama": llama, "qlora": qlora_goldens(QLORA, seed=8), "muon": muon_goldens(seed=6)}
    failed = False
    for name, tensors in files.items():
        path = os.path.join(FOLDER, name + ".safetensors")
        raw = to_safetensors(tensors)
        if sys.argv[1:] == ["--check"]:
            with open(path, "rb") as file:
                found = list(differences(from_safetensors(file.read()), from_safetensors(raw)))
            for line in found:
                print(f"{path}: {line}")
            print(f"{name}: {len(tensors)} tensors, " + (f"{len(found)} differ" if found else "all agree"))
            failed = failed or bool(found)
        else:
            with open(path, "wb") as file:
                file.write(raw)
            print(f"{path}: {len(raw)} bytes, {len(tensors)} tensors")
            for key in (key for key in tensors if key.endswith("norms")):
                print(f"  {key} {tensors[key].tolist()}, losses {tensors[key[:-5] + 'losses'].tolist()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
