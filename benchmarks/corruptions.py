"""What becomes of damaged files: crashes, and pictures that are wrong without a word.

    PYTHONPATH=.:kernels python benchmarks/corruptions.py --count=10000

Files of every kind, of small pictures and an untrained model, are damaged in every way of `WAYS`
and decoded. A decoder may refuse (BitstreamError), or show what the undamaged file, or the other
file of a splice, shows. All else is counted: other exceptions are crashes, other pictures silent
errors. `forged` headers have their checksum put right, as no accident does: those may show another
picture, but must not crash, nor take long.
"""

import collections
import functools
import json
import platform
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from flax import nnx

from jaxvision.data import y4m
from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv import clip, commands, lossless_file
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.wavelet import WaveletConfig

WAYS = ("bit", "byte", "bytes", "cut", "removed", "inserted", "splice", "swap", "header", "forged")


def damaged(data: bytes, other: bytes, way: str, rng: np.random.Generator) -> bytes:
    """`data` after one accident; `other` is another file."""
    place, longest = int(rng.integers(len(data))), min(64, len(data))
    size = int(rng.integers(1, longest))
    if way == "cut":
        return data[:place]
    if way == "removed":
        return data[:place] + data[place + size :]
    if way == "inserted":
        return data[:place] + rng.bytes(size) + data[place:]
    if way == "splice":
        return data[:place] + other[int(rng.integers(len(other))) :]
    broken = bytearray(data)
    if way == "bit":
        broken[place] ^= 1 << rng.integers(8)
    elif way == "byte":
        broken[place] = rng.integers(256)
    elif way == "bytes":
        for at in rng.integers(0, len(data), size):
            broken[at] = rng.integers(256)
    elif way == "swap":
        a, b = sorted(rng.integers(0, len(data) - size, 2).tolist())
        broken[a : a + size], broken[b : b + size] = data[b : b + size], data[a : a + size]
    else:
        broken[rng.integers(min(64, len(data)))] = rng.integers(256)
        if way == "forged":
            for end in range(8, min(len(data) - 4, 600)):  # where the checksum stands
                if zlib.crc32(data[:end]) == int.from_bytes(data[end : end + 4], "little"):
                    broken[end : end + 4] = zlib.crc32(broken[:end]).to_bytes(4, "little")
                    break
    return bytes(broken)


def shown(data: bytes, codec: Codec) -> bytes:
    """What a file decodes to, and how large it is."""
    if not clip.is_clip(data):
        image = commands.read(data, codec).image
        return str(image.shape).encode() + image.tobytes()
    header, frames = commands.frames_of(data)
    return header.line + b"".join(shown(frame, codec) for frame in frames)


def right(made: dict[str, bytes], codec: Codec) -> set[bytes]:
    """What the files show, and the frames of clips: a splice may leave one of these whole."""
    frames = [
        x for data in made.values() if clip.is_clip(data) for x in commands.frames_of(data)[1]
    ]
    return {shown(data, codec) for data in (*made.values(), *frames)}


def files(seed: int) -> tuple[Codec, dict[str, bytes]]:
    """Two files of each kind, of pictures of waves and noise."""
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(levels=2, width=8),
        compressor=CompressorConfig(latents=32, hyper=4, width=8),
    )
    codec = Codec(WavenetMV(cfg, rngs=nnx.Rngs(seed)))
    rng = np.random.default_rng(seed)
    made = {}
    for i in range(2):
        y, x = np.mgrid[:64, :72]
        image = 127 + 50 * np.stack([np.sin(x / 5 + i + k) + np.cos(y / 7 - k) for k in range(3)])
        image = np.moveaxis(image, 0, -1) + rng.normal(0, 4, (64, 72, 3))
        image = np.clip(image, 0, 255).astype(np.uint8)
        made[f"rans {i}"] = codec.encode(image, 1.0 + i / 2)
        made[f"tfc {i}"] = codec.encode(image, 1.0 + i / 2, coder="tfc")
        made[f"tiles {i}"] = codec.encode(image, 1.0, tile=64)
        made[f"lossless {i}"] = lossless_file.encode(image[: 40 - i, :56])
        made[f"lossless tiles {i}"] = lossless_file.encode(image, tile=64)
        header = y4m.parsed(b"YUV4MPEG2 W72 H64 F25:1 C420")
        parts = [made[f"rans {i}"], codec.encode(image[::-1], 0.5)]
        made[f"clip {i}"] = clip.write(header, parts)
    return codec, made


def trials(made: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Kind of the file, way of the damage, damaged file; each kind and way in turn."""
    rng, kinds = np.random.default_rng(seed), sorted(made)
    for k in range(count):
        kind, way = kinds[k % len(kinds)], WAYS[k // len(kinds) % len(WAYS)]
        other = made[kinds[rng.integers(len(kinds))]]
        yield kind.rsplit(" ", 1)[0], way, damaged(made[kind], other, way, rng)


def tried(decode: Callable[[bytes], bytes], data: bytes, way: str, good: set[bytes]) -> str:
    """`refused`, `right`, `forged`, `silent` or the name of an exception."""
    try:
        result = decode(data)
    except BitstreamError:
        return "refused"
    except Exception as error:  # whatever it is, it is counted
        return f"crash: {type(error).__name__}: {error}"[:200]
    if result in good:
        return "right"
    return "forged" if way == "forged" else "silent"


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    codec, made = files(_SEED.value)
    good = right(made, codec)
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    longest, begun = (0.0, "", ""), time.perf_counter()
    for kind, way, data in trials(made, _COUNT.value, _SEED.value):
        start = time.perf_counter()
        outcome = tried(functools.partial(shown, codec=codec), data, way, good)
        longest = max(longest, (time.perf_counter() - start, kind, way))
        counts[way][outcome] += 1
        if outcome == "silent" or outcome.startswith("crash"):
            place = Path(tempfile.gettempdir()) / f"{kind}-{way}-{zlib.crc32(data):08x}.wvmv"
            place.write_bytes(data)
            print(f"{place}: {outcome}", flush=True)
    for way in WAYS:
        print(f"{way:9}", dict(counts[way]))
    total = sum(counts.values(), collections.Counter())
    crashes = sum(n for name, n in total.items() if name.startswith("crash"))
    result = {
        "corruptions": _COUNT.value,
        "crashes": crashes,
        "silent": total["silent"],
        "refused": total["refused"],
        "right": total["right"],
        "forged": total["forged"],
        "longest": [round(longest[0], 2), *longest[1:]],
        "seconds": round(time.perf_counter() - begun, 1),
        "hardware": platform.processor() or platform.machine(),
        "jax": jax.__version__,
    }
    print(json.dumps(result))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if crashes or total["silent"]:
        raise SystemExit(1)


if __name__ == "__main__":
    _COUNT = flags.DEFINE_integer("count", 10_000, "corruptions")
    _SEED = flags.DEFINE_integer("seed", 0, "of the pictures and of the damage")
    _OUT = flags.DEFINE_string("out", "", "JSON file for the result")
    app.run(main)
