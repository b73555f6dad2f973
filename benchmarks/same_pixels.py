"""Whether one file decodes to the same numbers however the programs are run.

    PYTHONPATH=.:kernels python benchmarks/same_pixels.py [--model=model.npz --picture=picture.png]
    … --model=demo --out=benchmarks/results/same_pixels.json

Decodes in a process of its own for each way of `WAYS`: one thread, two, without wide registers,
without compilation, from a cold start in a batch of two. The table shows SHA-256 of the symbols and
of the pixels of each; `same` is whether they are those of the first. Without a picture a drawn one
is taken, without a model an untrained one whose networks are not zero.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from flax import nnx

from jaxvision.bench import hardware
from jaxvision.data.images import read_image
from jaxvision.stage import path_name
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.wavelet import WaveletConfig

ONE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
WAYS = {
    "as it is": {},
    "one thread": {"XLA_FLAGS": ONE, "OMP_NUM_THREADS": "1"},
    "two threads": {"NPROC": "2", "OMP_NUM_THREADS": "2"},
    "SSE 4.2 alone": {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
    "not compiled": {"JAX_DISABLE_JIT": "1"},
    "batch of 2": {"BATCH": "2"},
}


def untrained(path: Path, seed: int = 0) -> None:
    """A small model whose every parameter is drawn, so that nothing is zero or exact by chance."""
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(levels=2, width=16),
        compressor=CompressorConfig(
            latents=32, deeper=1, hyper=4, width=16, dead_zone=0.5, thrift=0.0
        ),  # numbers are rounded: such a model would leave all of them out
    )
    graph, state = nnx.split(nnx.eval_shape(lambda: WavenetMV(cfg, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(seed)

    def drawn(path, x):
        name = path_name(path)
        if name == "compressor/steps":
            return np.full(x.shape, -3, np.float32)
        if x.ndim < 2:  # biases; indexes of scales lie about the middle
            scale = name.endswith(("index", "first/bias", "second/bias"))
            middle = 2.5 if scale else 0.0
            return (middle + 0.1 * rng.normal(size=x.shape)).astype(np.float32)
        deviation = (1 / np.prod(x.shape[:-1])) ** 0.5
        return (deviation * rng.normal(size=x.shape)).astype(np.float32)

    arrays = jax.tree_util.tree_map_with_path(drawn, nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, arrays)
    Codec(nnx.merge(graph, state)).save(path)


def drawn_picture() -> np.ndarray:
    """uint8 `[66 90 3]`: waves, edges and noise."""
    y, x = np.mgrid[:66, :90]
    waves = np.stack([np.sin(x / 5 + k) + np.sign(np.cos(y / 9 - k)) for k in range(3)], -1)
    noise = np.random.default_rng(0).normal(0, 6, waves.shape)
    return np.clip(127 + 50 * waves + noise, 0, 255).astype(np.uint8)


def hashes(model: Path, file: Path, batch: int) -> dict[str, str]:
    """Of a file's symbols and pixels, decoded in this process."""
    codec, symbols = Codec.load(model), hashlib.sha256()
    programs = codec.programs
    if batch > 1:
        for name in ("_side", "_first", "_second", "_latents", "_picture"):
            setattr(programs, name, beside_another(getattr(programs, name)))
    latents = programs.latents

    def seen(planes, quality):
        for x in planes:
            symbols.update(np.ascontiguousarray(x, "<i4").tobytes())
        return latents(planes, quality)

    programs.latents = seen
    image = codec.decode(file.read_bytes()).image
    return {"symbols": symbols.hexdigest(), "pixels": hashlib.sha256(image.tobytes()).hexdigest()}


def beside_another(program):
    """The program on each picture and a copy turned upside down: a batch's rest must not matter."""

    def both(x):
        if isinstance(x, tuple) and all(isinstance(n, int) for n in x):
            return (2, *x[1:])  # a shape
        if isinstance(x, (list, tuple)):
            return type(x)(map(both, x))
        if x is None or isinstance(x, int):
            return x
        return np.concatenate([x, x[:, ::-1] if x.ndim > 1 else x])

    def run(state, *args):
        return jax.tree.map(lambda x: x[:1], program(state, *map(both, args)))

    return run


def in_process(way: str, model: Path, file: Path) -> dict[str, str]:
    """`hashes` in a fresh process with the environment of a way."""
    words = [sys.executable, __file__, f"--model={model}", f"--file={file}"]
    words.append(f"--batch={WAYS[way].get('BATCH', 1)}")
    done = subprocess.run(
        words, env=os.environ | WAYS[way], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(model: Path, file: Path) -> dict[str, dict[str, str]]:
    """The hashes by way."""
    found = {}
    for way in WAYS:
        found[way] = in_process(way, model, file)
        print(f"{way}: decoded", file=sys.stderr, flush=True)
    return found


def report(found: dict[str, dict[str, str]]) -> dict[str, dict]:
    """The hashes by way, and whether they are those of the first."""
    first = next(iter(found.values()))
    return {way: {**got, "same": got == first} for way, got in found.items()}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    if _FILE.value:
        print(json.dumps(hashes(Path(_MODEL.value), Path(_FILE.value), _BATCH.value)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model.npz", Path(folder) / "a.wvmv"
        if _MODEL.value:
            model = Path(_MODEL.value)
        else:
            untrained(model)
        image = read_image(_PICTURE.value) if _PICTURE.value else drawn_picture()
        codec = Codec.load(model)
        file.write_bytes(codec.encode(image, 1.0))
        found = compared(model, file)
    if _OUT.value:
        result = {
            "hardware": hardware(jax.devices()[0]),
            "jax": jax.__version__,
            "model": codec.digest.hex()[:16],
            "size": list(image.shape[:2]),
            "ways": report(found),
        }
        Path(_OUT.value).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    first = next(iter(found.values()))
    for way, got in found.items():
        marks = [f"{k} {v[:12]} {'same' if v == first[k] else 'OTHER'}" for k, v in got.items()]
        print(f"{way:14} " + "   ".join(marks))
    if any(got != first for got in found.values()):
        raise SystemExit("error: the same file gave different pictures")


if __name__ == "__main__":
    _MODEL = flags.DEFINE_string("model", "", "a codec's file; an untrained one if not given")
    _PICTURE = flags.DEFINE_string("picture", "", "a picture; a drawn one if not given")
    _OUT = flags.DEFINE_string("out", "", "JSON file for the hashes")
    _FILE = flags.DEFINE_string("file", "", "decode this file in this process alone")
    _BATCH = flags.DEFINE_integer("batch", 1, "with --file, how many pictures side by side")
    app.run(main)
