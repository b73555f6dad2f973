"""A batch some rows at a time, so that what a loop carries stays in a CPU's cache."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax


def in_blocks(
    run: Callable, inputs: Sequence[str], outputs: Sequence[str], cached: int
) -> Callable:
    """`run` of arrays, on a CPU by blocks of the batch whose states `[b d n]` take `cached` bytes.

    Axes are letters as for `partitioned`; an output without b is a sum over the batch.
    """

    def blocked(*arrays):
        pairs = list(zip(arrays, inputs, strict=True))
        sizes = {letter: n for x, w in pairs for letter, n in zip(w, x.shape, strict=True)}
        most = max(1, cached // (4 * sizes["d"] * sizes["n"]))
        rows = max(r for r in range(1, sizes["b"] + 1) if sizes["b"] % r == 0 and r <= most)
        if rows == sizes["b"]:
            return run(*arrays)

        def one(block):
            block = iter(block)
            return run(*(next(block) if "b" in w else x for x, w in pairs))

        out = lax.map(one, [_cut(x, w, rows) for x, w in pairs if "b" in w])
        return tuple(_join(x, w) for x, w in zip(out, outputs, strict=True))

    return lambda *arrays: lax.platform_dependent(*arrays, cpu=blocked, default=run)


def _cut(x, letters, rows):
    """Axis b in blocks of rows, the blocks first."""
    at = letters.index("b")
    return jnp.moveaxis(x.reshape(*x.shape[:at], -1, rows, *x.shape[at + 1 :]), at, 0)


def _join(x, letters):
    """The inverse of `_cut`, or the sum over the blocks."""
    if "b" not in letters:
        return x.sum(0)
    at = letters.index("b")
    x = jnp.moveaxis(x, 0, at)
    return x.reshape(*x.shape[:at], -1, *x.shape[at + 2 :])
