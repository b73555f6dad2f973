"""The timings of `scan_gpu`: our scan and its peers on each shape, Hydra, and tilings."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ceilings import shares
from clock import Deadline
from jaxvision_kernels import pallas_triton, selective_scan, ssd
from jaxvision_kernels.pallas_scan import Tiling
from programs import INTERPRETED, OURS, THREADS, arrays, measured, pallas, passes
from shapes import KINDS, NARROW, hydra_operands, operands

TILINGS = tuple(
    Tiling(channels=channels, inner=inner, outer=outer, warps=warps)
    for outer in (64, 32, 128)
    for channels, warps in ((32, 4), (16, 2), (64, 8))
    for inner in (4, 8)
)
TINY_TILINGS = tuple(Tiling(channels=c, inner=2, outer=4) for c in (4, 8))
TUNING = 60.0  # seconds of one shape


def scan(backend: str, *, tiling: Tiling | None = None, interpret: bool = False) -> Callable:
    """`selective_scan` of a dict of operands, of this backend and tiling."""

    def run(x):
        with pallas(tiling, interpret=interpret):  # it acts while this is traced
            return selective_scan(**x, delta_softplus=True, backend=backend)

    return run


def each_pass(contestants: dict[str, Callable]) -> dict[tuple[str, str], Callable]:
    return {(who, kind): f for who, g in contestants.items() for kind, f in passes(g).items()}


def by_contestant(rows: dict[tuple[str, str], dict]) -> dict[str, dict]:
    result: dict = {}
    for (who, kind), row in rows.items():
        result.setdefault(who, {})[kind] = row
    return result


def measure_scan(shape, limits: dict, peers: dict[str, dict], *, interpret: bool) -> dict:
    """Rows by contestant and kind. What peers measured on their own joins in."""
    x = arrays(operands(shape), NARROW)
    contestants = {b: scan(b, interpret=interpret) for b in (*OURS, "associative")}
    rows = by_contestant(measured(each_pass(contestants), x, jnp.ones_like(x["u"])))
    rows |= peers
    default = INTERPRETED if interpret else pallas_triton.choose(*shape)
    for who, kinds in rows.items():
        tiling = default if who == "pallas" else None
        for kind, row in kinds.items():
            if "ms" in row:
                row |= shares(shape, kind, row["ms"], limits, tiling)
    show(rows, "pallas")
    return rows


def tune(shape, deadline: Deadline, *, share: float, interpret: bool) -> dict:
    """The tiling with the fastest forward and backward pass, beside the default.

    Stops after TUNING seconds, or when it has had its share of what is left.
    """
    x = arrays(operands(shape), NARROW)
    dy = jnp.ones_like(x["u"])
    default = pallas_triton.choose(*shape)
    tilings = TINY_TILINGS if interpret else TILINGS
    tilings = [dataclasses.replace(t, splits=default.splits) for t in tilings]
    own = Deadline(min(TUNING, share * deadline.left()) / 60)
    rows: dict[Tiling, dict] = {}
    while len(rows) < len(tilings) and (own.left() > 0 or not rows):
        some = tilings[len(rows) :][:THREADS]
        both = {t: passes(scan("pallas", tiling=t, interpret=interpret))[KINDS[1]] for t in some}
        rows |= measured(both, x, dy, rounds=5)
    print(f"  {len(rows)} of {len(tilings)} tilings tried", flush=True)
    result: dict = {"of": len(tilings)}
    result["tried"] = [dataclasses.asdict(t) | row for t, row in rows.items()]
    times = {t: row["ms"] for t, row in rows.items() if "ms" in row}
    if not times:
        return result
    best = min(times, key=times.__getitem__)
    print(f"  best: {best}", flush=True)
    contestants = {
        "default tiling": scan("pallas", interpret=interpret),
        "best tiling": scan("pallas", tiling=best, interpret=interpret),
    }
    rows = by_contestant(measured(each_pass(contestants), x, dy))
    show(rows, "default tiling")
    return result | {"best": dataclasses.asdict(best)} | rows


def measure_hydra(shape, peers: dict[str, dict]) -> dict:
    """Both directions of a Hydra mixer's scans; of the reference the forward pass alone."""

    def both(backend):
        def run(x):
            one, other = (
                ssd(**x, delta_softplus=True, backend=backend, reverse=reverse)
                for reverse in (False, True)
            )
            return one + other

        return run

    x = arrays(hydra_operands(shape), NARROW)
    functions = each_pass({"ssd": both("xla"), "reference": both("reference")})
    del functions["reference", KINDS[1]]
    rows = by_contestant(measured(functions, x, jnp.ones_like(x["u"]))) | peers
    show(rows, "ssd")
    return rows


def show(rows: dict[str, dict], first: str) -> None:
    """A line for each row; ratios are to the contestant `first`."""
    for who, kinds in rows.items():
        for kind, row in kinds.items():
            print(f"  {who:20} {kind:17} {line(row, rows[first].get(kind, {}))}", flush=True)


def line(row: dict, first: dict) -> str:
    if "ms" not in row:
        return f"not measured: {row['not measured']}"
    ratio = f"{row['ms'] / first['ms']:6.2f} x" if "ms" in first else 8 * " "
    parts = " ".join(f"{k[3:]} {100 * v:.0f} %" for k, v in row.items() if k.startswith("of_"))
    return f"{row['ms']:9.3f} ms  {ratio}  {row['memory_mib']:8.0f} MiB  {parts}"


def device_name() -> str:
    device = jax.devices()[0]
    return f"{device.device_kind}, compute capability {getattr(device, 'compute_capability', '?')}"
