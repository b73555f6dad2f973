"""The kernels on an NVIDIA GPU: right first, then how fast, beside mamba_ssm and associative_scan.

    uv run --extra cuda python benchmarks/scan_gpu.py [--check] [--shapes …]

Correctness: every operation and dtype against its own reference on the same GPU, values and
gradients; a wrong one stops it. Timing: forward, and forward with backward, medians of interleaved
rounds; shares are of two ceilings measured here, the copy bandwidth and the rate of exponentials.
Tilings of our kernels are tried first, and the best is told. Writes
benchmarks/results/scan-GPU.json.

mamba_ssm takes part where it can be imported, after the rounds. Memory is not the same quantity for
both: XLA's temporaries here, PyTorch's peak, outputs and gradients included, there.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import re
import statistics
import time
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # room for PyTorch beside

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jaxvision_kernels import pallas_triton, selective_scan, ssd  # noqa: E402
from jaxvision_kernels.pallas_triton import Tiling  # noqa: E402
from scan_gpu_checks import check, operands  # noqa: E402

SHAPES = {  # b l d n
    "Vim-S": (64, 197, 768, 16),
    "B8 L4096 D1536": (8, 4096, 1536, 16),
    "B1 L65536 D768": (1, 65536, 768, 16),
}
HYDRA = (8, 4096, 24, 64, 64)  # b l heads channels states
TILINGS = [
    *(Tiling(channels=c, inner=i, warps=w) for c, w in ((32, 4), (16, 2), (64, 8)) for i in (4, 8)),
    Tiling(channels=32, inner=4, outer=128),
]
ASSOCIATIVE_LIMIT = 32 * 2**30  # bytes of states above which associative_scan is left out
TORCH_ROUNDS = 20


def seconds(runs: dict, rounds: int = 15) -> dict[str, float]:
    """Medians of interleaved rounds, each long enough for the clock."""
    repeats = {}
    for name, run in runs.items():
        run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, int(0.02 / max(time.perf_counter() - start, 1e-6)))
    times = {k: [] for k in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeats[name] - 1):
                run(wait=False)
            run()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {k: statistics.median(v) for k, v in times.items()}


def compiled(f, x):
    """A run of the compiled `f(x)`, and its temporary memory in bytes."""
    program = jax.jit(f).lower(x).compile()

    def run(wait=True):
        out = program(x)
        if wait:
            jax.block_until_ready(out)

    return run, program.memory_analysis().temp_size_in_bytes


def passes(f):
    """Forward, and forward with backward, of a scan of a dict."""

    def loss(x):
        return f(x).astype(jnp.float32).sum()

    return {"forward": f, "forward+backward": jax.value_and_grad(loss)}


@contextlib.contextmanager
def tiled(tiling: Tiling | None):
    """Within it, scans that are compiled take this tiling, with the default's splits."""
    choose = pallas_triton.choose
    if tiling is not None:
        pallas_triton.choose = lambda *sizes: dataclasses.replace(
            tiling, splits=choose(*sizes).splits
        )
    try:
        yield
    finally:
        pallas_triton.choose = choose


def ours(x):
    return selective_scan(**x, delta_softplus=True, backend="pallas")


def tune(x) -> tuple[Tiling, list[dict]]:
    """The tiling with the fastest forward and backward pass."""
    rows = []
    for tiling in TILINGS:
        times = {}
        for kind, f in passes(ours).items():
            with tiled(tiling):
                jax.clear_caches()  # the same function, with another tiling
                run, _ = compiled(f, x)
            times[kind] = seconds({kind: run}, rounds=5)[kind]
        rows.append(dataclasses.asdict(tiling) | {k: 1e3 * v for k, v in times.items()})
        print("  ", tiling, " ".join(f"{k} {1e3 * v:.3f} ms" for k, v in times.items()), flush=True)
    best = min(range(len(rows)), key=lambda i: rows[i]["forward+backward"])
    return TILINGS[best], rows


def ceilings() -> dict[str, float]:
    """Bytes copied and exponentials taken a second."""
    x = jnp.ones((2**29,), jnp.bfloat16)
    copy, _ = compiled(lambda x: x + 1, x)
    y = -jnp.linspace(0.0, 1.0, 2**24)

    def exps(y):
        return jax.lax.fori_loop(0, 256, lambda _, y: jnp.exp2(-y), y, unroll=64)

    exp, _ = compiled(exps, y)
    times = seconds({"copy": copy, "exp": exp}, rounds=5)
    return {"copy": 2 * x.nbytes / times["copy"], "exp": 256 * y.size / times["exp"]}


def ideal(shape, itemsize, kind, limits) -> dict[str, float]:
    """Seconds that the least traffic and the least exponentials take at the ceilings."""
    b, length, d, n = shape
    rows = {"forward": 4, "forward+backward": 4 + 7}[kind]  # u delta z y; and dy, du, ddelta, dz
    exps = {"forward": 1, "forward+backward": 3}[kind]
    return {
        "copy": rows * b * length * d * itemsize / limits["copy"],
        "exp": exps * b * length * d * n / limits["exp"],
    }


def mamba_ssm(shape) -> dict | None:
    """mamba_ssm's CUDA scan on the same shape and options, in bfloat16; None if it is not here."""
    if not all(importlib.util.find_spec(m) for m in ("torch", "mamba_ssm")):
        return None
    import torch
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    b, length, d, n = shape
    half = dict(device="cuda", dtype=torch.bfloat16, requires_grad=True)
    full = half | {"dtype": torch.float32}
    u, delta, z = (torch.randn(b, d, length, **half) for _ in range(3))
    B, C = (torch.randn(b, n, length, **half) for _ in range(2))
    A = (-torch.arange(1.0, n + 1, device="cuda").repeat(d, 1)).requires_grad_()
    D, bias = torch.ones(d, **full), torch.full((d,), -4.0, **full)

    def forward():
        return selective_scan_fn(u, delta, A, B, C, D, z, bias, delta_softplus=True)

    inputs = (u, delta, A, B, C, D, z, bias)

    def both():  # without adding to .grad, which JAX does not do either
        torch.autograd.grad(forward().float().sum(), inputs)

    result = {}
    for kind, f in {"forward": torch.no_grad()(forward), "forward+backward": both}.items():
        for _ in range(3):
            f()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        times = []
        for _ in range(TORCH_ROUNDS):
            torch.cuda.synchronize()
            start = time.perf_counter()
            f()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        memory = torch.cuda.max_memory_allocated() - before
        result[kind] = {"ms": 1e3 * statistics.median(times), "memory_mib": memory / 2**20}
    return result


def measure(name, shape, limits) -> dict:
    print(f"== {name}: b l d n = {shape}, bfloat16", flush=True)
    x = operands(shape, "bfloat16")
    best, tried = tune(x)
    contestants = {"ours": ours, "ours, best tiling": ours}
    if 4 * int(np.prod(shape)) < ASSOCIATIVE_LIMIT:
        contestants["associative_scan"] = lambda x: selective_scan(
            **x, delta_softplus=True, backend="associative"
        )
    result: dict = {"tilings": tried, "best": dataclasses.asdict(best)}
    for kind in ("forward", "forward+backward"):
        runs, memory = {}, {}
        for who, f in contestants.items():
            with tiled(best if who == "ours, best tiling" else None):
                jax.clear_caches()  # the same function, with another tiling
                runs[who], memory[who] = compiled(passes(f)[kind], x)
        for who, s in seconds(runs).items():
            shares = {k: v / s for k, v in ideal(shape, 2, kind, limits).items()}
            row = {"ms": 1e3 * s, "memory_mib": memory[who] / 2**20}
            result.setdefault(who, {})[kind] = row | {f"of_{k}": v for k, v in shares.items()}
    if theirs := mamba_ssm(shape):
        result["mamba_ssm"] = theirs
    for who, rows in result.items():
        for kind in ("forward", "forward+backward") if who not in ("tilings", "best") else ():
            r = rows[kind]
            ratio = r["ms"] / result["ours"][kind]["ms"]
            shares = " ".join(
                f"{k[3:]} {100 * r[k]:.0f} %" for k in ("of_copy", "of_exp") if k in r
            )
            print(
                f"  {who:20} {kind:17} {r['ms']:9.3f} ms  {ratio:6.2f} x  "
                f"{r['memory_mib']:8.0f} MiB  {shares}"
            )
    return result


def measure_hydra() -> dict:
    """Both directions of a Hydra mixer's scans, in bfloat16."""
    b, length, h, p, n = HYDRA
    print(f"== Hydra: b l h p n = {HYDRA}, bfloat16", flush=True)
    rng = np.random.default_rng(0)
    x = {"u": rng.standard_normal((b, length, h, p), dtype="f4")}
    x |= {k: rng.standard_normal((b, length, n), dtype="f4") for k in "BC"}
    x["delta"] = rng.standard_normal((b, length, h), dtype="f4") - 4
    x = {k: jnp.asarray(v, jnp.bfloat16) for k, v in x.items()} | {"A": -jnp.arange(1.0, h + 1)}

    def both(x):
        f = functools.partial(ssd, **x, delta_softplus=True)
        return f() + f(reverse=True)

    result = {}
    for kind, f in passes(both).items():
        run, memory = compiled(f, x)
        result[kind] = {"ms": 1e3 * seconds({kind: run})[kind], "memory_mib": memory / 2**20}
        print(f"  ssd, both directions {kind:17} {result[kind]['ms']:9.3f} ms")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="correctness alone")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    args = parser.parse_args()
    if jax.default_backend() != "gpu":
        raise SystemExit("error: JAX sees no GPU here; nothing was measured")
    device = jax.devices()[0]
    print(f"== {device.device_kind}, compute capability {device.compute_capability}")
    record = {"device": device.device_kind, "jax": jax.__version__, "checks": check()}
    if not args.check:
        record["ceilings"] = limits = ceilings()
        print(f"== copy {limits['copy'] / 1e12:.2f} TB/s, {limits['exp'] / 1e12:.2f} T exp/s")
        record["scan"] = {k: measure(k, SHAPES[k], limits) for k in args.shapes}
        record["hydra"] = measure_hydra()
    if not importlib.util.find_spec("mamba_ssm"):
        print("mamba_ssm is not installed here and was not measured")
    name = re.sub(r"\W+", "-", device.device_kind).strip("-")
    out = Path(__file__).parent / "results" / f"scan-{name}.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
