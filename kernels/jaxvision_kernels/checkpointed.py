"""The selective scan as a scan of rematerialised scans, in differentiable operations alone.

Forward mode, second derivatives and exporters that know no custom derivative all work on it.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels import layout
from jaxvision_kernels.operands import widen


def scan(u, dt, A, B, C, h0, keep, *, reverse: bool, chunk: int) -> tuple[jax.Array, jax.Array]:
    """As `reference.scan`. Reverse mode keeps one state in `chunk` and redoes the rest."""
    length = u.shape[1]
    A, B, C, h0 = layout.to_groups(A, B, C, h0, u.shape)
    if reverse:
        u, dt, B, C, keep = (flip_time(x) for x in (u, dt, B, C, keep))
    A = lax.optimization_barrier(A)
    groups = A.shape[0]
    padded = {k: layout.pad_time(x, chunk) for k, x in (("u", u), ("dt", dt), ("B", B), ("C", C))}
    fixed = {k: x for k, x in padded.items() if layout.is_constant(x)}
    moving = {k: time_major_chunks(x, chunk) for k, x in padded.items() if k not in fixed}
    if keep is not None:
        keep = time_major_chunks(layout.pad_time(keep, chunk, value=1.0), chunk)

    def step(h, xs):
        x, keep = xs
        x = {k: layout.split(widen(v), groups) for k, v in x.items()} | fixed
        h = layout.advance(h, x["dt"] * x["u"], x["dt"], A, x["B"], keep)
        return h, layout.inner(h, x["C"])

    @jax.checkpoint
    def block(h, xs):
        return lax.scan(step, h, xs)

    last, y = lax.scan(block, h0, (moving, keep))  # y [c k b g p]
    y = jnp.swapaxes(y.reshape(-1, u.shape[0], u.shape[2]), 0, 1)[:, :length]
    return flip_time(y) if reverse else y, layout.states_by_channel(last)


def flip_time(x):
    """Reverses `[b l …]` in time: ONNX has no loop that runs backwards. Constants and None stay."""
    return x if x is None or layout.is_constant(x) else jnp.flip(x, axis=1)


def time_major_chunks(x: jax.Array, chunk: int) -> jax.Array:
    """`[b (c k) …]` -> `[c k b …]`."""
    x = jnp.swapaxes(x, 0, 1)
    return x.reshape(-1, chunk, *x.shape[1:])
