"""Speed and overhead of entropy coders on the latents of a learned codec, all in one run.

    python benchmarks/entropy_coders.py                   # a million symbols, 64 scales 0.11 … 256
    python benchmarks/entropy_coders.py --count 98304 --rounds 9

Peers take part if they can be imported: `pip install constriction compressai`, and
tensorflow-compression-ops, which needs an environment with NumPy 1 and Python 3.11 at most (this
file runs there too). "uniform" draws every scale as often; "realistic" by a geometric law, so that
three symbols in four are zero.

Overhead is a string's length over what an ideal coder would need for the exact Gaussians. Time is
CPU time of all threads, which other load disturbs least, in the best of rounds that alternate.
Compilation and the making of tables or lists are not timed. Whatever is decoded is compared first.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from jaxvision.entropy import compressai, stream, tfc
from jaxvision.entropy.escape import split
from jaxvision.entropy.gaussian import scale_table
from jaxvision.entropy.quantize import gaussian_pmf, gaussian_tables

SCALES = scale_table()
GEOMETRIC = 0.91  # probability of the next scale: 76 % zeros, about 1.07 bits a symbol
SLOW = 5  # coders in plain Python get a fifth of the symbols


def drawn(kind: str, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Values, their scales' index, and the bits that the exact distributions ask for."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 64, count)
    if kind == "realistic":
        index = np.minimum(rng.geometric(1 - GEOMETRIC, count) - 1, 63)
    values = np.rint(rng.standard_normal(count) * SCALES[index]).astype(np.int32)
    bits = 0.0
    for row, scale in enumerate(SCALES):
        mine = values[index == row]
        most = int(abs(mine).max(initial=math.ceil(scale)))
        bits -= float(np.log2(gaussian_pmf(scale, most)[mine + most]).sum())
    return values, index.astype(np.int32), bits


def ours(values, index) -> dict:
    tables = gaussian_tables(SCALES)
    symbols, rows, _ = split(values, index, tables)
    contestants = {}
    for backend, coder in stream.BACKENDS.items():

        def whole(backend=backend):
            return (
                lambda: stream.encode_values(values, index, tables, backend=backend),
                lambda data: stream.decode_values(data, index, tables, backend=backend),
                values,
            )

        def lanes(count, coder=coder):
            return (
                lambda: coder.encode(symbols, rows, tables, lanes=count),
                lambda data: coder.decode(data, rows, tables, lanes=count),
                symbols,
            )

        contestants[f"ours ({backend}), lanes by the rule"] = whole()
        for count in (32, 1024):
            contestants[f"ours ({backend}), {count} lanes"] = lanes(count)
    return contestants


def ours_in_their_formats(values, index) -> dict:
    few = len(values) // SLOW
    values, index, tables = values[:few], index[:few], gaussian_tables(SCALES)
    contestants = {}
    for name, coder in (("tensorflow-compression", tfc), ("CompressAI", compressai)):
        contestants[f"ours, {name}'s format in Python"] = (
            lambda coder=coder: coder.encode_values(values, index, tables),
            lambda data, coder=coder: coder.decode_values(data, index, tables),
            values,
        )
    return contestants


def tensorflow_compression(values, index) -> dict:
    import tensorflow as tf
    import tensorflow_compression_ops as ops

    contestants = {}
    for precision in (16, 12):
        tables = gaussian_tables(
            SCALES, precision=precision, tail_mass=1e-9 if precision == 16 else 2**-8
        )
        flat, symbols = tfc.flat_tables(tables), values - tables.offset[index]

        def encode(flat=flat, symbols=symbols):
            coder = ops.create_range_encoder([], flat)
            coder = ops.entropy_encode_index(coder, index, symbols)
            return ops.entropy_encode_finalize(coder).numpy()

        def decode(data, flat=flat):
            coder = ops.create_range_decoder(tf.constant(data), flat)
            return ops.entropy_decode_index(coder, index, [len(index)], tf.int32)[1].numpy()

        contestants[f"tensorflow-compression, {precision} bits"] = encode, decode, symbols
    return contestants


def compressai_ans(values, index) -> dict:
    from compressai import ans

    tables = gaussian_tables(SCALES)
    cdf = [row[: n + 1].tolist() for row, n in zip(tables.cdf, tables.length, strict=True)]
    rest = cdf, (tables.length + 1).tolist(), tables.offset.tolist()
    values_list, index_list = values.tolist(), index.tolist()
    return {
        "CompressAI, lists ready": (
            lambda: ans.RansEncoder().encode_with_indexes(values_list, index_list, *rest),
            lambda data: ans.RansDecoder().decode_with_indexes(data, index_list, *rest),
            values,
        )
    }


def constriction_ans(values, index) -> dict:
    import constriction

    model = constriction.stream.model.QuantizedGaussian(-2000, 2000)
    means, scales = np.zeros(len(values)), SCALES[index]

    def encode():
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(values, model, means, scales)
        return coder.get_compressed().tobytes()

    def decode(data):
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, np.uint32))
        return coder.decode(model, means, scales)

    return {"constriction ANS, QuantizedGaussian": (encode, decode, values)}


PEERS = {
    "tensorflow_compression_ops": tensorflow_compression,
    "compressai": compressai_ans,
    "constriction": constriction_ans,
}


def timed(run, *arguments) -> tuple[float, object]:
    start = time.process_time()
    result = run(*arguments)
    return time.process_time() - start, result


def measure(contestants: dict, ideal: float, count: int, rounds: int) -> dict:
    """Msym a CPU second each way; overhead in percent over the `ideal` bits of `count` symbols."""
    best = {}
    for turn in range(rounds + 1):  # the first warms up, compiles and compares
        for name, (encode, decode, expected) in contestants.items():
            encoding, data = timed(encode)
            decoding, again = timed(decode, data)
            if turn == 0:
                if not np.array_equal(again, expected):
                    raise SystemExit(f"error: {name} does not decode what it encoded")
                best[name] = [math.inf, math.inf, len(expected), 8 * len(data)]
            else:
                best[name][:2] = min(best[name][0], encoding), min(best[name][1], decoding)
    rows = {}
    for name, (encoding, decoding, size, bits) in best.items():
        rows[name] = {"encode": round(size / encoding / 1e6, 2)}
        rows[name]["decode"] = round(size / decoding / 1e6, 2)
        if size == count:
            rows[name]["overhead_percent"] = round(100 * (bits / ideal - 1), 3)
    return rows


def hardware() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {(names or [platform.machine()])[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    out = Path(__file__).parent / "results" / "entropy_coders.json"
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()

    peers = {k: f for k, f in PEERS.items() if importlib.util.find_spec(k)}
    for name in PEERS.keys() - peers.keys():
        print(f"{name} does not take part: it cannot be imported")
    packages = ("numpy", "jax", *(k.replace("_", "-") for k in peers))
    record = {
        "hardware": hardware(),
        "versions": {name: metadata.version(name) for name in packages},
        "symbols": args.count,
        "rounds": args.rounds,
        "unit": "million symbols a second of CPU time",
    }
    for kind in ("uniform", "realistic"):
        values, index, bits = drawn(kind, args.count)
        contestants = {}
        for make in (ours, ours_in_their_formats, *peers.values()):
            contestants |= make(values, index)
        rows = measure(contestants, bits, args.count, args.rounds)
        record[kind] = {"bits_per_symbol": round(bits / args.count, 4), "coders": rows}
        print(f"\n{kind}, {bits / args.count:.3f} bits a symbol, {record['hardware']}")
        print(f"{'':46}{'encode':>8}{'decode':>8}  overhead")
        for name, row in rows.items():
            overhead = f"{row['overhead_percent']:8.3f} %" if "overhead_percent" in row else ""
            print(f"{name:46}{row['encode']:8.2f}{row['decode']:8.2f}  {overhead}")
    records = json.loads(args.out.read_text()) if args.out.exists() else {}
    records[", ".join(f"{k} {v}" for k, v in record["versions"].items())] = record
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(records, indent=2) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
