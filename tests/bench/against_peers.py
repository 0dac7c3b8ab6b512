#!/usr/bin/env python3
"""The engine beside its peers, in turn on one machine: PyTorch for training, llama.cpp for decoding and reading a prompt.

    tests/bench/against_peers.py [PART …] [--pairs 5] [--threads N] [--activations int8|exact] [--program build/release/glassformer] [--shared ../shared] [--work build/peers]

Parts: train-0.8M train-10.8M train-124M decode-f32 decode-q8_0 decode-q4_0 prefill-f32 prefill-q8_0 prefill-q4_0 batch-q8_0, or train, decode, prefill, batch;
all of them unless some are named. Each pair runs one after the other, every second one the other way round; printed is the ratio of the speeds, ours/theirs: least,
median, most, and what is to be reached. Both do the same work: the same shapes, and for llama.cpp the very model, which `bench decode --write-gguf` writes.
`batch` is the engine beside itself: eight sequences at once against one.

Needs, for training, Debian's python3-torch; for llama.cpp node's npm and g++: the library is what the npm package @node-llama-cpp/linux-x64 ships, and the
program is SHARED/peers/llama_bench.cpp. --llama-bench PROGRAM --llama-libraries FOLDER take what is there already. PyTorch takes all
processors, whatever --threads says. Nothing else may run meanwhile: --under "CMD"
puts CMD before each timed command. Exit 0: all that was asked for was measured; 1: something was not; whether targets are reached is printed, and not the exit code.
The last line is one JSON object.
"""
import argparse, json, os, pathlib, shlex, shutil, statistics, subprocess, sys

TREE = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = "@node-llama-cpp/linux-x64@3.21.1"
TRAIN = {  # layers, heads, width, context, batch, vocabulary; steps; the ratio to reach
    "train-0.8M": (dict(layers=4, heads=4, width=128, context=64, batch=12, vocab=65, steps=40), 2.2),
    "train-10.8M": (dict(layers=6, heads=6, width=384, context=256, batch=8, vocab=65, steps=6), 1.5),
    "train-124M": (dict(layers=12, heads=12, width=768, context=64, batch=4, vocab=50257, steps=4), 2.2),
}
DECODE = {"decode-f32": 1.0, "decode-q8_0": 1.2, "decode-q4_0": 1.05}
PREFILL = {"prefill-f32": 2.0, "prefill-q8_0": 1.2, "prefill-q4_0": 0.8}
BATCH = {"batch-q8_0": 4.0}
PARTS = list(TRAIN) + list(DECODE) + list(PREFILL) + list(BATCH)


class Missing(Exception):
    pass


def last_object(command, under=()):
    """Runs it, and reads the JSON object on its last line."""
    done = subprocess.run([*under, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Missing(f"{shlex.join(map(str, command))}: exit {done.returncode}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]}")
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise Missing(f"{shlex.join(map(str, command))}: expected a JSON object on its last line, found {done.stdout[-200:]!r}")


def options(shape):
    return [f"--{name}={value}" for name, value in shape.items()]


def llama_bench(a):
    """The program that runs llama.cpp, and the folder of its libraries; built once."""
    if a.llama_bench:
        return [a.llama_bench, a.llama_libraries]
    folder = a.work / "llama"
    libraries = folder / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
    source, program = a.shared / "peers/llama_bench.cpp", folder / "llama_bench"
    if not source.exists():
        raise Missing(f"no {source}")
    folder.mkdir(parents=True, exist_ok=True)
    if not libraries.exists():
        if not shutil.which("npm"):
            raise Missing("no npm to install llama.cpp with")
        (folder / "package.json").write_text('{"name": "llama", "private": true}')
        subprocess.run(["npm", "install", "--ignore-scripts", "--omit=optional", "--no-save", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    if not program.exists():
        needed = [libraries / name for name in ("libllama.v0.4.0.so", "libggml.v0.4.0.so", "libggml-base.so")]
        subprocess.run(["g++", "-O2", source, "-o", program, *needed, f"-Wl,-rpath,{libraries}"], check=True)
    return [program, libraries]


def gguf(a, kind):
    """The 110M model of random weights as llama.cpp's file."""
    path = a.work / f"110M-{kind}.gguf"  # written anew: an old one may be another version's
    last_object([a.program, "bench", "decode", "--type", kind, "--tokens", "1", "--repeats", "1", "--write-gguf", path, "--overwrite", "--json"])
    return path


def runners(a, part):
    """Two functions, ours and theirs, that each measure a speed (the more the better)."""
    ours_command = [a.program, "bench"]
    if part in TRAIN:
        shape = options(TRAIN[part][0])
        peer = a.shared / "peers/torch_gpt.py"
        if not peer.exists():
            raise Missing(f"no {peer}")
        ours = lambda: 1e3 / last_object([*ours_command, "train", *shape, f"--threads={a.threads}", "--json"], a.under)["step_ms"]
        return ours, lambda: 1e3 / last_object(["/usr/bin/python3", peer, "speed", *shape], a.under)["step_ms"]
    what, kind = part.split("-")
    command = [*ours_command, "prefill" if what == "prefill" else "decode", "--type", kind, f"--threads={a.threads}", f"--activations={a.activations}", "--json"]
    ours = lambda: last_object(command, a.under)["tokens_per_s"]
    if what == "batch":
        return (lambda: last_object([*command, "--batch", "8"], a.under)["tokens_per_s"]), ours
    peer = [*llama_bench(a), a.threads, gguf(a, kind)]
    return ours, lambda: last_object(peer, a.under)[f"{what}_tokens_per_s"]


def measure(a, part, target):
    ours, theirs = runners(a, part)
    pairs = []
    for i in range(a.pairs):
        if i % 2:
            their_speed = theirs()
            pairs.append((ours(), their_speed))
        else:
            our_speed = ours()
            pairs.append((our_speed, theirs()))
    ratios = sorted(mine / their for mine, their in pairs)
    unit = "steps/s" if part in TRAIN else "tokens/s"
    result = {
        "part": part, "unit": unit, "target": target, "least": ratios[0], "median": statistics.median(ratios), "most": ratios[-1],
        "ours": [mine for mine, _ in pairs], "theirs": [their for _, their in pairs],
    }
    print(f"{part:<14}{result['least']:>8.2f}{result['median']:>8.2f}{result['most']:>8.2f}{target:>9.2f}  {'reached' if result['median'] >= target else 'missed':<9}"
          f"{statistics.median(result['ours']):>11.1f}{statistics.median(result['theirs']):>11.1f} {unit}", flush=True)
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*", metavar="PART")
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--activations", choices=["exact", "int8"], default="int8", help="of quantized weights: int8 is what llama.cpp does")
    p.add_argument("--program", type=pathlib.Path, default=TREE / "build/release/glassformer")
    p.add_argument("--shared", type=pathlib.Path, default=pathlib.Path(os.environ.get("GLASSFORMER_SHARED", TREE.parent / "shared")))
    p.add_argument("--work", type=pathlib.Path, default=TREE / "build/peers")
    p.add_argument("--llama-bench", type=pathlib.Path)
    p.add_argument("--llama-libraries", type=pathlib.Path)
    p.add_argument("--under", type=shlex.split, default=[])
    a = p.parse_args()
    if bool(a.llama_bench) != bool(a.llama_libraries):
        p.error("expected --llama-bench and --llama-libraries together")
    if a.pairs < 1:
        p.error(f"--pairs: expected 1 or more, found {a.pairs}")
    asked = [part for part in PARTS if not a.parts or part in a.parts or part.split("-")[0] in a.parts]
    for name in a.parts:
        if name not in PARTS and name not in ("train", "decode", "prefill", "batch"):
            p.error(f"expected a part of {', '.join(PARTS)}, found {name}")
    if not a.program.exists():
        p.error(f"expected the program at {a.program}: ./run build, or --program")
    a.work.mkdir(parents=True, exist_ok=True)
    targets = {**{name: target for name, (_, target) in TRAIN.items()}, **DECODE, **PREFILL, **BATCH}
    print(f"{a.pairs} pairs, {a.threads} threads, activations {a.activations}; ours/theirs\n{'':<14}{'least':>8}{'median':>8}{'most':>8}{'target':>9}  {'':<9}{'ours':>11}{'theirs':>11}", flush=True)
    results, failed = [], False
    for part in asked:
        try:
            results.append(measure(a, part, targets[part]))
        except (Missing, subprocess.CalledProcessError, OSError) as error:
            failed = True
            print(f"{part:<14}not measured: {error}", flush=True)
    print(json.dumps({"pairs": a.pairs, "threads": a.threads, "activations": a.activations, "results": results}))
    sys.exit(1 if failed else 0)


main()
