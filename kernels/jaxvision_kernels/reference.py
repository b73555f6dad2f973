"""The selective scan as its definition reads: one `lax.scan` over time."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels.operands import per_channel, starts, widen, with_groups


def scan(u, dt, A, B, C, h0, keep, *, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """u, dt `[b l d]`, A `[d n]`, h0 `[b d n]`, keep `[b l]` -> y `[b l d]`, last state `[b d n]`.

    A complex A makes both results complex. Its gradient keeps every state: O(b l d n) memory.
    """
    b, length, d = u.shape
    h0 = starts(b, A) if h0 is None else h0.astype(A.dtype)
    operands = {"u": u, "dt": dt, "B": with_groups(B), "C": with_groups(C)}
    operands |= {} if keep is None else {"keep": keep}
    moving = {k: jnp.swapaxes(x, 0, 1) for k, x in operands.items() if x.shape[1] == length}
    fixed = {k: x[:, 0] for k, x in operands.items() if x.shape[1] != length}

    def step(h, x):
        x = {k: widen(v) for k, v in {**fixed, **x}.items()}
        if keep is not None:
            h = jnp.where(x["keep"][:, None, None] > 0, h, 0.0)
        B, C = per_channel(x["B"], d), per_channel(x["C"], d)
        h = jnp.exp(x["dt"][..., None] * A) * h + (x["dt"] * x["u"])[..., None] * B
        return h, (h * C).sum(-1)

    last, y = lax.scan(step, h0, moving, reverse=reverse)
    return jnp.swapaxes(y, 0, 1), last
