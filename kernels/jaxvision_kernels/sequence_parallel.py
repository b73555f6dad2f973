"""The selective scan of a sequence that lies on several devices, a part on each."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels import meshes, operands
from jaxvision_kernels.selective_scan import scan_as


def sequence_parallel_scan(
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
    axis_name: str,
    h0: jax.Array | None = None,
    return_last_state: bool = False,
    reverse: bool = False,
    segment_ids: jax.Array | None = None,
    backend: str = "auto",
    chunk: int | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """A `selective_scan` within `jax.shard_map`, the steps sharded over the mesh axis `axis_name`.

    Two passes: each device scans its part from a state of zeros for the state at its end, all
    gather those and the decays over the parts, `[s b d n]` each, whatever the length; then each
    scans from the state it now knows to begin with. What the first pass leaves of a part is
    `h -> exp(A sum dt) h + end`, so the states compose (Blelloch 1990).

    Args:
      u, delta, B, C, z, segment_ids: this device's steps, `[b l/s …]`; the rest as a whole.
      axis_name: the mesh axis over which axis 1 is sharded, in order.

    Other arguments and the result are those of `selective_scan`; h0 and the last state are the
    whole sequence's, the same on every device.
    """
    u, delta, A, B, C = operands.arrays(u=u, delta=delta, A=A, B=B, C=C)
    D, z, delta_bias, h0, segment_ids = operands.arrays_or_none(
        D=D, z=z, delta_bias=delta_bias, h0=h0, segment_ids=segment_ids
    )
    operands.check(u, delta, A, B, C, D, z, delta_bias, h0)
    try:
        parts, part = lax.axis_size(axis_name), lax.axis_index(axis_name)
    except NameError as error:
        raise ValueError(f"axis_name={axis_name!r} is no axis of a jax.shard_map here") from error
    if any(jax.typeof(x).sharding.mesh.explicit_axes for x in (u, delta, A, B, C)):
        raise ValueError(
            "sequence_parallel_scan has no explicit axes beside its own; make the mesh with "
            "axis_types=(AxisType.Auto, …), or map all its axes by jax.shard_map"
        )
    options = dict(reverse=reverse, segment_ids=segment_ids, backend=backend, chunk=chunk)
    selected = (u, delta, A, B, C)
    steps = (delta_bias, delta_softplus)

    _, end = scan_as(None, *selected, None, None, *steps, **options)
    dt = operands.step_sizes(delta, delta_bias, delta_softplus)
    decay, enters = dt.sum(1)[..., None] * operands.widen(A), True  # the decay's logarithm
    if segment_ids is not None:
        enters, passes = _continuity(segment_ids, axis_name, reverse)
        decay = jnp.where(passes, decay, -jnp.inf)
    # What all hold alike, the last state too, says so in its type if `check_vma` keeps account.
    to = "invarying" if axis_name in meshes.varying(end) else "varying"
    ends, decays = lax.all_gather((end, jnp.exp(decay)), axis_name, to=to)  # [s b d n]

    state = jnp.zeros_like(ends[0]) if h0 is None else h0.astype(end.dtype)
    starts = [state]
    for s in range(parts)[:: -1 if reverse else 1]:
        # Chosen, not multiplied alone: what is not finite stays in its segment.
        starts.append(decays[s] * jnp.where(decays[s] == 0, 0.0, starts[-1]) + ends[s])
    last = starts.pop()
    starts = jnp.stack(starts[::-1] if reverse else starts)
    h0 = lax.dynamic_index_in_dim(starts, part, 0, keepdims=False)
    h0 = jnp.where(enters, h0, 0.0)
    y, _ = scan_as(None, *selected, D, z, *steps, h0=h0, **options)
    return (y, last) if return_last_state else y


def _continuity(ids, axis_name, reverse):
    """Whether a state enters this part, and whether it passes through it, `[b 1 1]` bool."""
    parts, part = lax.axis_size(axis_name), lax.axis_index(axis_name)
    first, last = (-1, 0) if reverse else (0, -1)  # steps, in the order of the scan
    hop = [(s, (s + (-1 if reverse else 1)) % parts) for s in range(parts)]
    before = lax.ppermute(ids[:, last], axis_name, hop)
    begins = part == (parts - 1 if reverse else 0)
    enters = begins | (before == ids[:, first])
    passes = enters & (ids[:, 1:] == ids[:, :-1]).all(1)
    return tuple(x[:, None, None] for x in (enters, passes))
