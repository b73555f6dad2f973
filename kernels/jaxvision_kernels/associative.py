"""The selective scan by `lax.associative_scan`: log2(l) sweeps over all states at once."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels.operands import per_channel, widen, with_groups


def scan(u, dt, A, B, C, h0, keep, *, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """As `reference.scan`. Maps `h -> a h + x` compose to maps of that form (Blelloch 1990)."""
    B, C = (widen(per_channel(with_groups(w), u.shape[2])) for w in (B, C))
    a = jnp.exp(dt[..., None] * A)
    clears = () if keep is None else (keep[..., None, None] == 0,)
    x = ((dt * u.astype(jnp.float32))[..., None] * B).astype(A.dtype)
    if h0 is not None:
        first = -1 if reverse else 0
        x = x.at[:, first].add(a[:, first] * h0.astype(A.dtype))

    def compose(before, after):
        a0, x0, *cleared = before
        a, x, *clears = after
        if clears:  # chosen, not multiplied: what is not finite stays in its segment
            a0, x0, a = (jnp.where(clears[0], 0.0, v) for v in (a0, x0, a))
            clears = [cleared[0] | clears[0]]
        return a * a0, a * x0 + x, *clears

    _, h, *_ = lax.associative_scan(compose, (a, x, *clears), axis=1, reverse=reverse)
    return (h * C).sum(-1), h[:, 0 if reverse else -1]
