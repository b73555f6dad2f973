"""The selective scan on a CPU against lax.scan, associative_scan and mamba.py, all in one run.

    python benchmarks/scan_cpu.py                           # B2 L2048 D384 N16
    python benchmarks/scan_cpu.py --shape 8 784 768 16
    python benchmarks/scan_cpu.py --peer …/mambapy/pscan.py

mamba.py (alxndrTL/mamba.py, MIT) computes the scan by its `pscan` in PyTorch. It takes part if
torch and mambapy can be imported (`pip install torch mambapy`), or if torch can and `--peer` names
the file. "PyTorch loop" is the recurrence a step at a time, what mamba_ssm's `selective_scan_ref`
does; forward alone, for its backward pass is quadratic in the length.

All read the same numbers, and their outputs are compared first. Rounds alternate, so that other
load falls on all alike; figures are medians, besides the least CPU time, which other load disturbs
least. CPU time counts every thread of this process. Temporary memory is XLA's own account of it.
The exp floor is one core's time for the b l d n exponentials alone, operands in the cache: a scan
that takes each of them once cannot be faster.
"""

import argparse
import functools
import importlib.util
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxvision_kernels import selective_scan

BACKENDS = {"ours (xla)": "xla", "lax.scan": "reference", "associative_scan": "associative"}
NAMES = ("u", "delta", "A", "B", "C")


def inputs(b: int, length: int, d: int, n: int) -> dict[str, np.ndarray]:
    """Mamba's ranges: small positive steps, A = -(1 … n), standard normal u, B, C."""
    rng = np.random.default_rng(0)
    delta = np.log1p(np.exp(rng.standard_normal((b, length, d)) - 3))
    A = -np.tile(np.arange(1.0, n + 1), (d, 1))
    u = rng.standard_normal((b, length, d))
    B, C = rng.standard_normal((2, b, length, n))
    return {k: x.astype("float32") for k, x in zip(NAMES, (u, delta, A, B, C), strict=True)}


def jax_contestant(backend: str, arrays: dict, weights: np.ndarray) -> dict:
    x, w = jax.device_put(arrays), jnp.asarray(weights)
    forward = jax.jit(lambda x: selective_scan(**x, backend=backend)).lower(x).compile()

    def loss(x):
        return (selective_scan(**x, backend=backend) * w).sum()

    gradient = jax.jit(jax.value_and_grad(loss)).lower(x).compile()
    return {
        "forward": lambda: jax.block_until_ready(forward(x)),
        "forward+backward": lambda: jax.block_until_ready(gradient(x))[1],
        "temporary": {
            "forward": forward.memory_analysis().temp_size_in_bytes,
            "forward+backward": gradient.memory_analysis().temp_size_in_bytes,
        },
    }


def torch_contestant(pscan, arrays: dict, weights: np.ndarray) -> dict:
    import torch

    x = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
    w = torch.tensor(weights)

    def scan():
        a = torch.exp(x["delta"][..., None] * x["A"])  # [b l d n]
        bu = (x["delta"] * x["u"])[..., None] * x["B"][:, :, None]
        return (pscan(a, bu) @ x["C"][..., None])[..., 0]

    def gradient():
        grads = torch.autograd.grad((scan() * w).sum(), [x[k] for k in NAMES])
        return dict(zip(NAMES, grads, strict=True))

    return {"forward": torch.no_grad()(scan), "forward+backward": gradient, "temporary": None}


def torch_loop(arrays: dict, weights: np.ndarray) -> dict:
    import torch

    x = {k: torch.tensor(v) for k, v in arrays.items()}

    def scan():
        a = torch.exp(x["delta"][..., None] * x["A"])  # [b l d n]
        bu = (x["delta"] * x["u"])[..., None] * x["B"][:, :, None]
        h, y = torch.zeros_like(a[:, 0]), []
        for t in range(a.shape[1]):
            h = a[:, t] * h + bu[:, t]
            y.append(torch.einsum("bdn,bn->bd", h, x["C"][:, t]))
        return torch.stack(y, dim=1)

    return {"forward": torch.no_grad()(scan), "temporary": None}


def load_pscan(path: str | None):
    """mamba.py's `pscan` from a file or the installed package; None if there is none."""
    if path:
        spec = importlib.util.spec_from_file_location("peer_pscan", path)
        if spec is None or not Path(path).is_file():
            raise SystemExit(f"error: --peer {path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.pscan
    if not all(importlib.util.find_spec(name) for name in ("torch", "mambapy")):
        return None
    from mambapy.pscan import pscan

    return pscan


def exp_floor(count: int):
    """A function that takes `count` exponentials, a cache-resident row of 4096 at a time."""
    x = -jnp.linspace(0.0, 1.0, 4096)
    rows = -(-count // x.size)
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, rows, lambda _, y: jnp.exp(x + y), x))
    return lambda: jax.block_until_ready(loop(x))


def difference(a, b) -> float:
    a, b = (np.asarray(x.detach() if hasattr(x, "detach") else x, np.float64) for x in (a, b))
    return float(abs(a - b).max() / abs(b).max())


def timed(run) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def hardware() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().replace("\t", "").splitlines() if info.exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    name = facts.get("model name", platform.processor() or platform.machine()).strip()
    wide = ", AVX-512" if "avx512f" in facts.get("flags", "") else ""
    return f"{os.cpu_count()} cores of {name}{wide}"


def measure(contestants: dict, floor, rounds: int) -> dict:
    """Milliseconds by contestant and pass: median wall and CPU time, and the least CPU time."""
    passes = ("forward", "forward+backward")
    runs = {(k, p): c[p] for k, c in contestants.items() for p in passes if p in c}
    runs["exp floor", "forward"] = floor
    for run in runs.values():
        run()
    times = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            times[key].append(timed(run))
    result: dict = {}
    for (name, kind), pairs in times.items():
        wall, cpu = zip(*pairs, strict=True)
        figures = statistics.median(wall), statistics.median(cpu), min(cpu)
        figures = zip(("wall_ms", "cpu_ms", "best_cpu_ms"), figures, strict=True)
        result.setdefault(name, {})[kind] = {k: round(x, 2) for k, x in figures}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shape = dict(type=int, nargs=4, default=[2, 2048, 384, 16], metavar=tuple("BLDN"))
    parser.add_argument("--shape", **shape)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", help="file that defines mamba.py's pscan")
    parser.add_argument(
        "--only", nargs="+", choices=[*BACKENDS, "mamba.py", "PyTorch loop"], help="contestants"
    )
    out = Path(__file__).parent / "results" / "scan_cpu.json"
    parser.add_argument("--out", default=out, type=Path)
    args = parser.parse_args()

    arrays = inputs(*args.shape)
    weights = np.random.default_rng(1).standard_normal(arrays["u"].shape).astype("float32")
    make = {k: functools.partial(jax_contestant, b) for k, b in BACKENDS.items()}
    versions = {"jax": jax.__version__}
    if pscan := load_pscan(args.peer):
        import torch

        make["mamba.py"] = functools.partial(torch_contestant, pscan)
        make["PyTorch loop"] = torch_loop
        versions |= {"torch": torch.__version__, "torch threads": torch.get_num_threads()}
    else:
        print("mamba.py does not take part: torch or mambapy is missing, and no --peer was given")
    ours, *others = [k for k in make if not args.only or k in args.only or k == "ours (xla)"]
    contestants = {k: make[k](arrays, weights) for k in (ours, *others)}

    y, grads = contestants[ours]["forward"](), contestants[ours]["forward+backward"]()
    for k in others:
        dy = difference(contestants[k]["forward"](), y)
        backward = contestants[k].get("forward+backward")
        theirs = backward() if backward else grads
        dg = max(difference(theirs[name], grads[name]) for name in NAMES)
        print(f"{k}: differs from ours by {dy:.1e}, gradients {dg:.1e} of the largest value")
        if max(dy, dg) > 1e-4:
            raise SystemExit(f"error: {k} does not compute what ours does; no use in timing it")

    result = measure(contestants, exp_floor(int(np.prod(args.shape))), args.rounds)
    print(f"\nB L D N = {args.shape}, {hardware()}, {versions}, medians of {args.rounds} rounds")
    columns = ("wall ms", "CPU ms", "least", "wall x", "CPU x", "least x", "temp MiB")
    widths = (10, 10, 10, 8, 8, 9, 10)
    titles = "".join(f"{x:>{w}}" for x, w in zip(columns, widths, strict=True))
    print(f"{'':18}{'pass':18}{titles}")
    for name, passes in result.items():
        for kind, t in passes.items():
            ratios = {k: round(x / result[ours][kind][k], 2) for k, x in t.items()}
            passes[kind] = t | {k.replace("_ms", "_ratio"): x for k, x in ratios.items()}
            temporary = contestants[name]["temporary"] if name in contestants else None
            if temporary:
                passes[kind]["temporary_mib"] = round(temporary[kind] / 2**20, 1)
            row = (*t.values(), *ratios.values(), passes[kind].get("temporary_mib", ""))
            cells = "".join(f"{x:>{w}}" for x, w in zip(row, widths, strict=True))
            print(f"{name:18}{kind:18}{cells}")

    record = json.loads(args.out.read_text()) if args.out.exists() else {}
    key = "B{} L{} D{} N{}".format(*args.shape)
    record[key] = {"hardware": hardware(), "versions": versions, "rounds": args.rounds} | result
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
