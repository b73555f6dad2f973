"""The selective scan one step at a time, for decoding."""

import jax

from jaxvision_kernels import pages
from jaxvision_kernels.operands import arrays, arrays_or_none, expect
from jaxvision_kernels.selective_scan import selective_scan


def selective_state_update(
    state: jax.Array,
    u: jax.Array,
    delta: jax.Array,
    A: jax.Array,
    B: jax.Array,
    C: jax.Array,
    D: jax.Array | None = None,
    z: jax.Array | None = None,
    delta_bias: jax.Array | None = None,
    delta_softplus: bool = False,
    *,
    indices: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Takes the next step or steps of a `selective_scan`; returns the output and the new state.

    A scan that returns its last state, then updates, equal one scan over all steps. Donate the
    state to `jax.jit` to have it updated in place.

    Args:
      state: `[b d n]`, what `selective_scan` returned; with `indices`, `[slots d n]`.
      u, delta, z: `[b d]`, one step, or `[b k d]`.
      A, D, delta_bias, delta_softplus: as in `selective_scan`.
      B, C: `[b n]` or `[b g n]` for one step; for k, any form that `selective_scan` takes.
      indices: integers `[b]`, the slot of each row, none twice. A negative one marks a row of
        padding: its output is zero and no state changes. So it is under `jax.jit` with one past the
        last slot, which elsewhere is an error.

    Returns:
      y, of the shape and dtype of u, and the states, of the shape and dtype of `state`.
    """
    state, u, delta, B, C = arrays(state=state, u=u, delta=delta, B=B, C=C)
    (z,) = arrays_or_none(z=z)
    if u.ndim not in (2, 3):
        raise ValueError(f"u has shape {u.shape}; an update takes [b d] or [b k d]")
    rows = pages.read(state, indices, u.shape[0], "state")
    one = u.ndim == 2
    if one:
        for name, w in (("B", B), ("C", C)):
            if w.ndim not in (2, 3):
                raise ValueError(f"{name} has shape {w.shape}; one step takes [b n] or [b g n]")
        expect("delta", delta, {"[b d]": u.shape})
        expect("z", z, {"[b d]": u.shape})
        delta, B, C, z = (None if x is None else x[:, None] for x in (delta, B, C, z))
    y, rows = selective_scan(
        u[:, None] if one else u,
        delta,
        A,
        B,
        C,
        D,
        z,
        delta_bias,
        delta_softplus,
        h0=rows,
        return_last_state=True,
        backend="associative" if one else "auto",  # of one step there is no loop
    )
    y, state = pages.write(y, rows, state, indices)
    return y.reshape(u.shape), state
