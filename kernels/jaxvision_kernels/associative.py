"""The selective scan by `lax.associative_scan`: log2(l) sweeps over all states at once."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels.operands import per_channel, widen, with_groups


def scan(u, dt, A, B, C, h0, keep, *, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """As `reference.scan`. Maps `h -> a h + x` compose to maps of that form (Blelloch 1990)."""
    B, C = (widen(per_channel(with_groups(w), u.shape[2])) for w in (B, C))
    a = jnp.exp(dt[..., None] * A)
    if keep is not None:
        a = keep[..., None, None] * a
    x = ((dt * u.astype(jnp.float32))[..., None] * B).astype(A.dtype)
    if h0 is not None:
        first = -1 if reverse else 0
        x = x.at[:, first].add(a[:, first] * h0.astype(A.dtype))

    def compose(before, after):
        return after[0] * before[0], after[0] * before[1] + after[1]

    _, h = lax.associative_scan(compose, (a, x), axis=1, reverse=reverse)
    return (h * C).sum(-1), h[:, 0 if reverse else -1]
