"""Compiles contestants in JAX, leaves out what does not fit in memory, and times the others."""

import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import jaxvision_kernels
from clock import reason, seconds
from jaxvision_kernels import pallas_mosaic, pallas_triton
from jaxvision_kernels.pallas_scan import Tiling

OURS = tuple(b for b in ("pallas", "mosaic") if b in jaxvision_kernels.BACKENDS)
FILLED = 0.9  # of the device's memory; beyond, its allocator may find no piece large enough
THREADS = min(8, os.cpu_count() or 1)
INTERPRETED = Tiling(channels=4, inner=2, outer=4, splits=2)  # something to divide, in tiny shapes


@contextlib.contextmanager
def pallas(tiling: Tiling | None = None, *, interpret: bool = False):
    """Within it, scans that are traced by Pallas run on a CPU, or "pallas" takes this tiling."""
    if interpret and tiling is None:
        tiling = INTERPRETED
    scan = functools.partial(pallas_triton.scan, tiling=tiling, interpret=interpret)
    mosaic = functools.partial(pallas_mosaic.scan, interpret=interpret)
    with (
        mock.patch.object(pallas_triton, "scan", scan),
        mock.patch.object(pallas_mosaic, "scan", mosaic),
    ):
        yield


def passes(f: Callable) -> dict[str, Callable]:
    """`f(x)`, and that with the gradients of x, both of `(x, dy)`.

    The cotangent dy is an argument: a loss would cost PyTorch passes over y that XLA fuses away.
    """

    def both(x, dy):
        y, pull = jax.vjp(f, x)
        return y, pull(dy)[0]

    return {"forward": lambda x, dy: f(x), "forward+backward": both}


def measured(functions: dict[str, Callable], *arguments, rounds: int = 15) -> dict[str, dict]:
    """A row for each function: `ms` and `memory_mib`, or why it was `not measured`.

    Memory is what a call needs beyond its arguments: XLA's temporaries and the outputs, by
    `memory_analysis()`, which is a plan and so the same however full the device is.
    """
    rows, runs = {}, {}
    jobs = {name: (f, arguments) for name, f in functions.items()}
    for name, program in compiled(jobs).items():
        refused = program if isinstance(program, str) else too_large(program)
        if refused:
            rows[name] = {"not measured": refused}
        else:
            plan = program.memory_analysis()
            memory = plan.temp_size_in_bytes + plan.output_size_in_bytes
            rows[name] = {"memory_mib": memory / 2**20}
            runs[name] = functools.partial(program, *arguments)
    for name, time in seconds(runs, jax.block_until_ready, rounds=rounds).items():
        failed = isinstance(time, Exception)
        rows[name] = {"not measured": reason(time)} if failed else {"ms": 1e3 * time} | rows[name]
    return {name: rows[name] for name in functions}


def compiled(jobs: dict[str, tuple[Callable, tuple]]) -> dict:
    """By name the program of `f(*arguments)`, or in a line why there is none.

    Traced in turn, compiled side by side: compiling is most of what a run of the benchmark does.
    """

    def attempt(step):
        try:
            return step()
        except Exception as error:  # a kernel that does not lower has many ways to say so
            return reason(error)

    def compile_if_lowered(lowered):
        return lowered if isinstance(lowered, str) else attempt(lowered.compile)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        futures = {}
        for name, (f, arguments) in jobs.items():
            lowered = attempt(functools.partial(lower, f, arguments))
            futures[name] = pool.submit(compile_if_lowered, lowered)
        return {name: future.result() for name, future in futures.items()}


def lower(f: Callable, arguments: tuple):
    return jax.jit(f).lower(*arguments)


def too_large(program, device=None) -> str:
    """Why not to run a program, if the device has no room for it; else nothing."""
    limit = ((device or jax.devices()[0]).memory_stats() or {}).get("bytes_limit")
    plan = program.memory_analysis()
    needed = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    if limit is None or needed <= FILLED * limit:
        return ""
    return f"it needs {needed / 2**30:.1f} GiB of the {limit / 2**30:.1f} GiB that JAX may take"


def arrays(x: dict, narrow: tuple[str, ...], dtype="bfloat16") -> dict[str, jax.Array]:
    """NumPy's float32 arrays on the device, `narrow` ones in `dtype`."""
    return {k: jnp.asarray(v, dtype if k in narrow else "float32") for k, v in x.items()}
