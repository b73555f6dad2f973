"""Two selective scans over one sequence, from its start and from its end."""

import jax
import jax.numpy as jnp

from jaxvision_kernels import segments
from jaxvision_kernels.operands import (
    arrays,
    arrays_or_none,
    expect,
    expect_float,
    skip_and_gate,
)
from jaxvision_kernels.selective_scan import scan_as

OWN = ("u", "delta", "A", "B", "C", "delta_bias", "D")  # what the backward scan may have


def bidirectional_scan(
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
    backward: dict[str, jax.Array] | None = None,
    segment_ids: jax.Array | None = None,
    backend: str = "auto",
    chunk: int | None = None,
) -> jax.Array:
    """Sums a selective scan and one in `reverse`: `y = (forward + backward + D u) silu(z)`.

    Vision Mamba's mixer (Zhu et al. 2024, arXiv 2401.09417, algorithm 1) without the flips. Both
    directions see step t itself; `quasiseparable_scan` is the form in which neither does.

    Args:
      backward: what the backward scan has of its own among `u`, `delta`, `A`, `B`, `C` and
        `delta_bias`, in the order of u; the rest it shares with the forward one. A `D` here is a
        second skip, of the backward scan's u.

    Other arguments and the result are those of `selective_scan`; D and z act once.
    """
    (u,) = arrays(u=u)
    y = _both(
        (u, delta, A, B, C, delta_bias), backward, delta_softplus, segment_ids, backend, chunk
    )
    return _finish(sum(y), u, D, z, {"[d]": u.shape[2:]})


def quasiseparable_scan(
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
    backward: dict[str, jax.Array] | None = None,
    segment_ids: jax.Array | None = None,
    backend: str = "auto",
    chunk: int | None = None,
) -> jax.Array:
    """Mixes by a quasiseparable matrix: `y[t] = forward[t-1] + backward[t+1] + D u[t]`.

    Hydra's mixer (Hwang et al. 2024, arXiv 2407.09941, section 3) on selective scans: the scans
    fill the triangles beside the diagonal, and D is the diagonal. D may be `[b l d]` too. Arguments
    and result otherwise as those of `bidirectional_scan`.
    """
    if isinstance(backward, dict) and "D" in backward:
        raise ValueError(
            "backward holds D; a quasiseparable matrix has one diagonal, the D beside it"
        )
    (u,) = arrays(u=u)
    forward, back = _both(
        (u, delta, A, B, C, delta_bias), backward, delta_softplus, segment_ids, backend, chunk
    )
    y = shift(forward, 1, segment_ids) + shift(back, -1, segment_ids)
    return _finish(y, u, D, z, {"[d]": u.shape[2:], "[b l d]": u.shape})


def shift(x: jax.Array, steps: int, segment_ids: jax.Array | None = None) -> jax.Array:
    """`y[t] = x[t - steps]` over axis 1, zeros where that lies outside, or in another segment."""
    (x,) = arrays(x=x)
    (segment_ids,) = arrays_or_none(segment_ids=segment_ids)
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}; shift takes [b l …]")
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise ValueError(f"steps={steps!r} must be a whole number")
    segments.check(segment_ids, x.shape[:2])
    pads = [(max(steps, 0), max(-steps, 0)), *((0, 0),) * (x.ndim - 2)]
    length = x.shape[1]
    x = jnp.pad(x, [(0, 0), *pads])[:, max(-steps, 0) :][:, :length]
    if segment_ids is not None:
        same = segments.same(segments.numbers(segment_ids), -steps)
        x = jnp.where(same.reshape(*same.shape, *(1,) * (x.ndim - 2)), x, 0)
    return x


def _both(operands, backward, delta_softplus, segment_ids, backend, chunk):
    backward = {} if backward is None else backward
    if not isinstance(backward, dict):
        raise ValueError(f"backward is a {type(backward).__name__}; it must be a dict")
    if unknown := set(backward) - set(OWN):
        raise ValueError(f"backward has {sorted(unknown)}; it may hold {OWN}")
    forward = dict(zip(OWN[:-1], operands, strict=True))
    options = dict(
        delta_softplus=delta_softplus, segment_ids=segment_ids, backend=backend, chunk=chunk
    )
    y = scan_as(jnp.float32, **forward, **options)[0]
    try:
        if "u" in backward:
            (u,) = arrays(u=backward["u"])
            expect("u", u, {"[b l d]": y.shape})
        back = scan_as(jnp.float32, **forward | backward, **options, reverse=True)[0]
    except ValueError as error:  # what both scans share, the first has found right
        raise ValueError(f"backward {error}") from error
    return y, back


def _finish(y, u, D, z, diagonal):
    D, z = arrays_or_none(D=D, z=z)
    expect("D", D, diagonal)
    expect("z", z, {"[b l d]": u.shape})
    expect_float({"D": D, "z": z})
    return skip_and_gate(y, u, D, z).astype(u.dtype)
