"""The kernels on an NVIDIA GPU: right first, then how fast, beside their peers.

    uv run --extra cuda python benchmarks/scan_gpu [--check | --timings] [--shapes …]

Correctness: every operation, form and dtype against its own reference on the same GPU, values and
gradients; a wrong one stops it. Timing: forward, and forward with backward, medians of interleaved
rounds; shares are of two ceilings measured here, the copy bandwidth and the rate of exponentials.
Then tilings of our kernel are tried, and the best is told.

Peers: XLA's associative_scan; mamba_ssm and jax-linear-attention, where this Python has them, or
the ones that --torch-python and --jla-python name. These run in processes of their own, before the
others fill the memory. For all, memory is what a call needs beyond its arguments: temporaries and
results, gradients included; as XLA plans it, or at PyTorch's peak.

Writes benchmarks/results/scan-GPU.json after each step; with --check scan-GPU-checks.json. What no
longer fits in --minutes is skipped, and recorded as skipped. --interpret is a dry run on a CPU, in
tiny sizes, with the kernels interpreted: no time that it tells means anything.
"""

import argparse
import functools
import json
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # room for the peers beside

import jax  # noqa: E402
from cases import TINY, Sizes  # noqa: E402
from ceilings import ceilings  # noqa: E402
from checks import check, failures  # noqa: E402
from clock import Deadline  # noqa: E402
from peers import PEERS, measure_peer  # noqa: E402
from programs import pallas  # noqa: E402
from shapes import HYDRA, SHAPES, TINY_HYDRA, TINY_SHAPES  # noqa: E402
from timings import device_name, measure_hydra, measure_scan, tune  # noqa: E402

STEP = 20.0  # seconds that a step takes at least: with less left it is not begun
SHARE_OF_CHECKS = 0.4  # of a run that also times
SHARE_OF_PEER = 0.25  # of the time left, for each
LATE = {"skipped": "the minutes are over"}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="correctness alone")
    parser.add_argument("--timings", action="store_true", help="timings alone")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--minutes", type=float, default=7.0, help="of the whole run, about")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with mamba_ssm")
    parser.add_argument("--jla-python", default=sys.executable, help="with jax-linear-attention")
    parser.add_argument("--output", type=Path, help="where to write, else benchmarks/results")
    parser.add_argument("--interpret", action="store_true", help="dry run in Pallas' interpreter")
    return parser.parse_args()


def has_gpu() -> bool:
    try:
        return jax.default_backend() == "gpu"
    except RuntimeError:  # JAX_PLATFORMS asks for one that is not there
        return False


def save(path: Path, record: dict) -> None:
    """Whole, or not at all: what ends the run leaves the last step's file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def run_checks(record: dict, write, deadline: Deadline, *, interpret: bool) -> None:
    print("== values and gradients, beside the references'", flush=True)

    def report(rows):
        record["checks"] = rows
        write()

    with pallas(interpret=interpret):
        rows = check(TINY if interpret else Sizes(), deadline, report=report)
    report(rows)
    if skipped := sum("skipped" in row for row in rows):
        print(f"  {skipped} of {len(rows)} checks were skipped: the minutes are over")
    if bad := failures(rows):
        names = ", ".join(f"{row['case']} ({row['backend']})" for row in bad)
        raise SystemExit(f"error: {len(bad)} of {len(rows)} checks failed: {names}")


def run_timings(record: dict, write, deadline: Deadline, args) -> None:
    """Peers, ceilings, shapes, Hydra, then tilings, which may take what is left."""
    shapes, hydra = (TINY_SHAPES, TINY_HYDRA) if args.interpret else (SHAPES, HYDRA)
    shapes = {k: shapes[k] for k in args.shapes if k in shapes}

    def step(title, run, *keys):
        """Runs a step, shown and recorded under its keys, if time is left."""
        print(f"== {title}", flush=True)
        late = deadline.left() < STEP
        if late:
            print(f"  skipped: {LATE['skipped']}", flush=True)
        place = record  # down to where the result belongs
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = dict(LATE) if late else run()
        write()

    pythons = dict(zip(PEERS, (args.torch_python, args.jla_python), strict=True))
    for name, python in pythons.items():
        step(name, functools.partial(peer, name, python, shapes, deadline, args), "peers", name)
    step("ceilings", functools.partial(ceilings, interpret=args.interpret), "ceilings")
    limits = {k: record["ceilings"].get(k) for k in ("copy", "exp")}
    if all(isinstance(v, float) for v in limits.values()):
        print(f"  copy {limits['copy'] / 1e12:.2f} TB/s, {limits['exp'] / 1e12:.2f} T exp/s")
    else:
        print(f"  {record['ceilings']}")

    def of_peers(*keys):
        rows = {}
        for name, found in record["peers"].items():
            for key in keys:
                found = found.get(key, {})
            rows |= {name: found} if found else {}
        return rows

    for name, shape in shapes.items():
        run = functools.partial(
            measure_scan, shape, limits, of_peers("scan", name), interpret=args.interpret
        )
        step(f"{name}: b l d n = {shape}, bfloat16", run, "scan", name)
    run = functools.partial(measure_hydra, hydra, of_peers("hydra"))
    step(f"Hydra, both directions: b l h p n = {hydra}, bfloat16", run, "hydra")
    for i, (name, shape) in enumerate(shapes.items()):
        share = 0.6 / (len(shapes) - i)  # the rest of it is for the best tiling's rounds
        run = functools.partial(tune, shape, deadline, share=share, interpret=args.interpret)
        step(f"tilings of {name}", run, "tilings", name)


def peer(name: str, python: str, shapes: dict, deadline: Deadline, args) -> dict:
    limit = SHARE_OF_PEER * deadline.left()
    found = measure_peer(name, python, list(shapes), tiny=args.interpret, limit=limit)
    for word in ("not measured", "ended early"):
        if word in found:
            print(f"  {word}: {found[word]}", flush=True)
    if "scan" in found:
        print("  what it measured stands beside ours below", flush=True)
    return found


def main() -> None:
    args = parsed()
    if not (args.interpret or has_gpu()):
        raise SystemExit("error: JAX sees no GPU here; nothing was measured")
    deadline = Deadline(args.minutes)
    kind = jax.devices()[0].device_kind
    print(f"== {device_name()}, JAX {jax.__version__}", flush=True)
    name = re.sub(r"\W+", "-", kind).strip("-") + ("-checks" if args.check else "")
    name = f"{name}-interpreted" if args.interpret else name
    out = args.output or Path(__file__).parents[1] / "results" / f"scan-{name}.json"
    record: dict = {"device": kind, "jax": jax.__version__}
    write = functools.partial(save, out, record)
    try:
        if not args.timings:
            own = Deadline(args.minutes * (1.0 if args.check else SHARE_OF_CHECKS))
            run_checks(record, write, own, interpret=args.interpret)
        if not args.check:
            run_timings(record, write, deadline, args)
    finally:
        if out.exists():
            print(f"written to {out}")


if __name__ == "__main__":
    main()
