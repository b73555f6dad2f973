"""What bounds a scan on this GPU, measured: bytes copied a second, exponentials a second."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from programs import measured

ELEMENTS = 1024  # of a program: with 4 warps 8 independent exponentials a thread
UNROLLED = 16


def exponentials(programs: int, runs: int, *, interpret: bool = False) -> jax.Array:
    """Takes `programs ELEMENTS runs UNROLLED` exponentials in registers, and writes the last.

    By the `exp2` of the scan's own kernels, which Triton makes one instruction, `ex2.approx`.
    """

    def kernel(out):
        def some(_, x):
            for _ in range(UNROLLED):
                x = jnp.exp2(-x)
            return x

        first = pl.program_id(0).astype(jnp.float32) + jnp.arange(ELEMENTS)
        out[...] = lax.fori_loop(0, runs, some, first / (programs * ELEMENTS))

    options = {} if interpret else {"compiler_params": plgpu.CompilerParams(num_warps=4)}
    return pl.pallas_call(
        kernel,
        grid=(programs,),
        out_specs=pl.BlockSpec((ELEMENTS,), lambda i: (i,)),
        out_shape=jax.ShapeDtypeStruct((programs * ELEMENTS,), jnp.float32),
        interpret=interpret,
        **options,
    )()


def ceilings(*, interpret: bool = False) -> dict:
    """Of each kind the rate a second, or a row that says why it was not measured."""
    size, programs, runs = (2**16, 2, 2) if interpret else (2**29, 2**14, 128)
    x = jnp.ones((size,), jnp.bfloat16)
    work = {"copy": 2 * x.nbytes, "exp": programs * ELEMENTS * runs * UNROLLED}
    functions = {
        "copy": lambda x: x + 1,
        "exp": lambda x: exponentials(programs, runs, interpret=interpret),
    }
    rows = measured(functions, x, rounds=5)
    return {k: work[k] / (1e-3 * row["ms"]) if "ms" in row else row for k, row in rows.items()}


def shares(shape, kind: str, ms: float, limits: dict, tiling=None) -> dict[str, float]:
    """How near a time is to the ceilings: 1 is an algorithm that nothing else holds up.

    `of_copy` and `of_exp` count the least that an algorithm with O(b l d) memory can do: forward it
    reads u, delta, z, B, C, writes y, and takes one exponential for each of `b l d n`; backward it
    reads these and dy, writes five gradients, and takes each exponential once more, since to keep
    them takes O(b l d n). Softplus and gate, three for each of `b l d`, are left out. With a
    tiling, `of_own_exp` counts those that our kernels take.
    """
    b, length, d, n = shape
    rows, columns = {"forward": (4, 2), "forward+backward": (4 + 7, 2 + 4)}[kind]
    work = {"copy": 2 * b * length * (rows * d + columns * n)}  # in bfloat16
    exps = {"exp": {"forward": 1, "forward+backward": 2}[kind]}
    if tiling is not None:
        exps["own_exp"] = own_exponentials(tiling, kind)
    work |= {k: count * b * length * d * n for k, count in exps.items()}
    rates = {k: limits[k.removeprefix("own_")] for k in work}
    rates = {k: rate for k, rate in rates.items() if isinstance(rate, float)}
    return {f"of_{k}": work[k] / rate / (1e-3 * ms) for k, rate in rates.items()}


def own_exponentials(tiling, kind: str) -> int:
    """How often `pallas_kernels` decays each state.

    Forward once, and once before it where the sequence is split. Backward: to redo `outer` steps,
    to redo `inner` of them, to undo these, and once before it all where it is split.
    """
    split = tiling.splits > 1
    forward = 1 + split
    backward = (tiling.outer > tiling.inner) + 2 + split
    return forward if kind == "forward" else forward + backward
