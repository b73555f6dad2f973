"""How the selective scan's cost grows with the length, on this device: fitted exponents.

    python benchmarks/scan_length.py [--backend=auto] [--shape 1 192 16]

Lengths from 1,024 to 65,536 in powers of two, medians of interleaved rounds; the exponent is the
slope of log time, and of log temporary memory, over log length. Linear is 1. Writes
benchmarks/results/scan_length.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxvision_kernels import selective_scan
from scan_cpu import hardware, inputs

LENGTHS = tuple(2**k for k in range(10, 17))


def programs(length: int, shape: tuple[int, int, int], backend: str) -> dict:
    """Compiled passes by name: a run, and its temporary bytes."""
    b, d, n = shape
    x = {k: jnp.asarray(v) for k, v in inputs(b, length, d, n).items()}

    def forward(x):
        return selective_scan(**x, backend=backend)

    def loss(x):
        return forward(x).sum()

    result = {}
    for name, f in {"forward": forward, "forward+backward": jax.value_and_grad(loss)}.items():
        program = jax.jit(f).lower(x).compile()
        memory = program.memory_analysis().temp_size_in_bytes
        result[name] = (lambda p=program: jax.block_until_ready(p(x))), memory
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--shape", type=int, nargs=3, default=[1, 192, 16], metavar=tuple("BDN"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    compiled = {length: programs(length, tuple(args.shape), args.backend) for length in LENGTHS}
    times = {(length, k): [] for length, passes in compiled.items() for k in passes}
    for _ in range(args.rounds + 1):  # the first warms up
        for (length, k), seconds in times.items():
            start = time.perf_counter()
            compiled[length][k][0]()
            seconds.append(time.perf_counter() - start)
    record = {"hardware": hardware(), "backend": args.backend, "b d n": args.shape}
    for k in ("forward", "forward+backward"):
        ms = [1e3 * statistics.median(times[length, k][1:]) for length in LENGTHS]
        mib = [compiled[length][k][1] / 2**20 for length in LENGTHS]
        logs = np.log(LENGTHS)
        exponents = [float(np.polyfit(logs, np.log(x), 1)[0]) for x in (ms, mib)]
        for length, t, m in zip(LENGTHS, ms, mib, strict=True):
            print(f"{k:17} L {length:6} {t:9.2f} ms {m:9.2f} MiB")
        print(f"{k:17} exponents: time {exponents[0]:.3f}, memory {exponents[1]:.3f}")
        record[k] = {"lengths": LENGTHS, "ms": ms, "mib": mib}
        record[k] |= {"exponent_time": exponents[0], "exponent_memory": exponents[1]}
    out = Path(__file__).parent / "results" / "scan_length.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
