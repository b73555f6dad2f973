# /// script
# requires-python = ">=3.9,<3.12"
# dependencies = ["tensorflow-compression-ops==2.17.0", "tensorflow-cpu==2.17.1"]
# ///
"""tensorflow-compression as a witness: golden vectors from it, and our strings read by it.

    uv run python tests/golden/make_tfc.py write ours.npz     # with jaxvision: strings of `tfc`
    uv run tests/golden/make_tfc.py check ours.npz            # with tensorflow-compression
    uv run tests/golden/make_tfc.py goldens tfc_goldens.npz

The last two run in an environment of their own, which uv makes of the lines above:
tensorflow-compression needs NumPy 1 and cannot stand beside today's JAX. Every input is integer
arithmetic or is stored, so who reads the vectors need not make them anew.
"""

import json
import math
import os
import sys
from importlib import metadata

import numpy as np

PRECISIONS = (12, 16)
SCALES = [math.exp(math.log(0.11) + i * (math.log(32.0) - math.log(0.11)) / 15) for i in range(16)]
REACH = 6.109410204869  # scales to either side hold all but 1e-9 of a Gaussian


def integers(count, seed):
    """24-bit integers of a linear congruential generator: the same everywhere."""
    out, x = np.empty(count, np.int64), seed
    for i in range(count):
        x = (1664525 * x + 1013904223) & 0xFFFFFFFF
        out[i] = x >> 8
    return out


def gaussian(scale):
    """Masses float32 of a Gaussian's unit bins and of all beyond; the first bin's value."""
    most = math.ceil(scale * REACH)

    def below(x):
        return 0.5 * math.erfc(-x / scale / math.sqrt(2))

    masses = [below(0.5 - abs(k)) - below(-0.5 - abs(k)) for k in range(-most, most + 1)]
    return np.array([*masses, 2 * below(-0.5 - most)]).astype(np.float32), -most


def distributions():
    random = integers(40, 7).astype(np.float64)
    rows = {
        "random40": random / random.sum(),
        "two": [0.25, 0.75],
        "delta": [1, 0, 0, 0, 0],
        "zeros_tail": [0.5, 0.3, 0.2, 0, 0, 1e-12, 1e-9],
        "unnormalised_low": [0.1, 0.2, 0.3],
        "unnormalised_high": [0.9, 0.8, 0.7],
        "uniform7": [1 / 7] * 7,
        "ties": [0.125] * 8,
    }
    rows = {name: np.array(row, np.float32) for name, row in rows.items()}
    return rows | {f"gauss_{s}": gaussian(s)[0] for s in (0.11, 0.5, 1.0, 4.0, 30.0)}


def messages(offset):
    """Index and values by name: mixed with outliers, short, and one that makes carries run."""
    index = (integers(4096, 1) % 16).astype(np.int32)
    spread = np.array([max(1, round(2 * s)) for s in SCALES])[index]
    random = integers(4096, 2)
    values = np.where(
        integers(4096, 3) % 64 == 0, random % 4001 - 2000, random % (2 * spread + 1) - spread
    )
    none = np.zeros(0, np.int32)
    yield "rc", index, values
    yield "small", np.array([0, 3, 7, 15, 8, 1, 2, 5]), np.array([0, 1, -2, 40, -7, 0, 5, -1])
    yield "carry", np.zeros(600, np.int32), np.tile([1, 1, 1, -1, 0, 9], 100)
    yield "empty", none, none


def encode(flat, index, symbols):
    import tensorflow_compression_ops as ops

    coder = ops.create_range_encoder([], flat)
    coder = ops.entropy_encode_index(coder, np.int32(index), np.int32(symbols))
    return ops.entropy_encode_finalize(coder).numpy()


def decode(flat, index, string):
    import tensorflow as tf
    import tensorflow_compression_ops as ops

    coder = ops.create_range_decoder(tf.constant(string), flat)
    coder, symbols = ops.entropy_decode_index(coder, np.int32(index), [len(index)], tf.int32)
    return symbols.numpy(), bool(ops.entropy_decode_finalize(coder).numpy())


def make_goldens(path):
    import tensorflow_compression_ops as ops

    def quantized(pmf, precision):
        return ops.pmf_to_quantized_cdf(pmf, precision=precision).numpy().astype(np.int32)

    out = {"table/scales": np.array(SCALES)}
    for name, pmf in distributions().items():
        out[f"pmf/{name}"] = pmf
        for precision in (8, *PRECISIONS):
            if len(pmf) <= 1 << precision:
                out[f"cdf{precision}/{name}"] = quantized(pmf, precision)
    for p in PRECISIONS:
        rows = [quantized(gaussian(scale)[0], p) for scale in SCALES]
        offset = np.array([gaussian(scale)[1] for scale in SCALES], np.int32)
        flat = np.concatenate([np.append(np.int32(-p), row) for row in rows]).astype(np.int32)
        out[f"table{p}/flat"], out[f"table{p}/offset"] = flat, offset
        out[f"table{p}/len"] = np.array([len(row) for row in rows], np.int32)
        for name, index, values in messages(offset):
            string = encode(flat, index, values - offset[index])
            symbols, _ = decode(flat, index, string)
            assert np.array_equal(symbols, values - offset[index]), name
            out[f"{name}{p}/string"] = np.frombuffer(string, np.uint8)
            if len(index):
                out[f"{name}{p}/index"] = np.int32(index)
                out[f"{name}{p}/value"] = np.int32(values)
    names = ("tensorflow-cpu", "tensorflow-compression-ops", "numpy")
    meta = {"python": sys.version.split()[0]} | {name: metadata.version(name) for name in names}
    out["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez_compressed(path, **out)
    print(f"{len(out)} arrays by {meta} -> {path}")


def write_ours(path, count=200):
    """Strings of random messages over random tables, runs and outliers among them."""
    from jaxvision.entropy import tfc
    from jaxvision.entropy.quantize import gaussian_tables

    rng, out = np.random.default_rng(0), {}
    for i in range(count):
        tables = gaussian_tables(
            np.exp(rng.uniform(np.log(0.11), np.log(64), 5)), precision=int(rng.integers(10, 17))
        )
        size = int(rng.integers(0, 300))
        index = rng.integers(0, 5, size)
        index[: size // 3] = 0
        values = np.rint(rng.standard_cauchy(size) * 2 ** rng.uniform(-4, 8)).clip(-1e6, 1e6)
        values = values.astype(np.int32)
        out[f"{i}/flat"], out[f"{i}/index"] = tfc.flat_tables(tables), index
        out[f"{i}/symbols"] = values - tables.offset[index]
        out[f"{i}/string"] = np.frombuffer(tfc.encode_values(values, index, tables), np.uint8)
    np.savez_compressed(path, **out)
    print(f"{count} strings -> {path}")


def check_ours(path):
    data = np.load(path)
    names = sorted({key.split("/")[0] for key in data.files}, key=int)
    read = same = 0
    for name in names:
        flat, index, symbols, string = (
            data[f"{name}/{key}"] for key in ("flat", "index", "symbols", "string")
        )
        read += np.array_equal(decode(flat, index, string.tobytes())[0], symbols)
        same += encode(flat, index, symbols) == string.tobytes()
    print(f"of {len(names)} strings tensorflow-compression reads {read} and writes the same {same}")
    if min(read, same) < len(names):
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    verbs = {"goldens": make_goldens, "write": write_ours, "check": check_ours}
    if len(sys.argv) != 3 or sys.argv[1] not in verbs:
        raise SystemExit(f"usage: make_tfc.py {{{','.join(verbs)}}} FILE.npz")
    verbs[sys.argv[1]](sys.argv[2])
