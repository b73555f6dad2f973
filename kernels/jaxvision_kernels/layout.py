"""The state layout of the chunked backends, `[b g n p]`: channels minor, d = g p in g groups.

A CPU wants the long channel axis innermost and sums over the short state axis as a dot of rows.
"""

import functools
import math

import jax
import jax.numpy as jnp

from jaxvision_kernels.operands import starts, widen

dot = functools.partial(jnp.einsum, precision="highest")  # float32 sums also where TF32 is default


def to_groups(A, B, C, h0, shape):
    """A `[d n]` -> `[g n p]`, h0 `[b d n]` or None -> `[b g n p]`, B and C -> `[b l (g n)]`.

    A weight that is constant in time becomes `[1 1 g n p]`; its five axes mark it in this file.
    `shape` is the shape of u. Arrays over time keep three axes, because XLA copies the whole of an
    array whose unit axis g it lays out otherwise; `split` makes the groups chunk by chunk.
    """
    b, _, d = shape
    groups = group_count(B, C)

    def by_state(x):
        return states_by_group(x, groups)

    def weight(w):
        if w.ndim == 2:
            return by_state(widen(w))[None, None]
        if w.ndim == 3:
            return jnp.tile(w, (1, 1, groups))
        return jnp.repeat(w, groups // w.shape[2], axis=2).reshape(*w.shape[:2], -1)

    h0 = starts(b, A) if h0 is None else h0.astype(A.dtype)
    return by_state(A), weight(B), weight(C), by_state(h0)


def group_count(B, C) -> int:
    """Groups of channels that share both their B and their C."""
    return math.lcm(*(w.shape[2] if w.ndim == 4 else 1 for w in (B, C)))


def split(x, groups: int):
    """`[… (g q)]` -> `[… g q]`."""
    return x.reshape(*x.shape[:-1], groups, -1)


def states_by_group(x, groups: int):
    """`[… d n]` -> `[… g n p]`."""
    return jnp.swapaxes(split(jnp.swapaxes(x, -1, -2), groups), -2, -3)


def states_by_channel(h):
    """`[b g n p]` -> `[b d n]`, the inverse of what `to_groups` does to h0."""
    b, g, n, p = h.shape
    return jnp.swapaxes(h, 2, 3).reshape(b, g * p, n)


def merge(h):
    """`[c b g n p]` -> `[c b n d]`, which one group is already."""
    c, b, _, n, _ = h.shape
    return jnp.swapaxes(h, 2, 3).reshape(c, b, n, -1)


def unmerge(h, groups: int):
    """`[c b n d]` -> `[c b g n p]`."""
    return jnp.swapaxes(split(h, groups), 2, 3)


def pad_time(x, steps: int, value: float = 0.0):
    """Pads `[b l …]` to a multiple of `steps`; leaves constant weights and None as they are.

    dt = 0 makes a step the identity, `h = exp(0) h + 0`, whichever way the scan runs.
    """
    if x is None or is_constant(x):
        return x
    rest = ((0, 0),) * (x.ndim - 2)
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % steps), *rest), constant_values=value)


def is_constant(w: jax.Array) -> bool:
    """Whether a weight of `to_groups`, or a time step of it, is constant in time."""
    return w.ndim == 5


def advance(h, x, dt, A, B, keep):
    """One step: `exp(dt A) h + x B` with `x = dt u`, `[b g p]` -> `[b g n p]`."""
    h = jnp.exp(dt[:, :, None] * A) * clear(h, keep)
    return h + outer(x, B)


def clear(h, keep):
    """Zeros the states of the batch rows where keep `[b]` is 0."""
    # Chosen, not multiplied: what is not finite stays in its segment.
    return h if keep is None else jnp.where(keep[:, None, None, None] > 0, h, 0.0)


def outer(x, w):
    """`x[p] w[n]`: x `[b g p]`, w `[b g n]` or constant -> `[b g n p]`.

    Spelled as a dot because the gradients of a dot are dots, and those of a broadcast slow reduces.
    """
    return x[:, :, None] * w[0] if is_constant(w) else dot("bgp,bgn->bgnp", x, w)


def inner(h, w):
    """`sum over n of h[n] w[n]`: h `[b g n p]`, w `[b g n]` or constant -> `[b g p]`."""
    return sum_states(h * w[0]) if is_constant(w) else dot("bgnp,bgn->bgp", h, w)


def sum_states(h):
    """Sums over n by a tree of rows: XLA's CPU compiler vectorises it better than a reduce."""
    rows = [h[..., i, :] for i in range(h.shape[-2])]
    while len(rows) > 1:
        rows = [sum(rows[i : i + 2]) for i in range(0, len(rows), 2)]
    return rows[0]
