"""The selective scan of Mamba (S6), channels last, with a choice of backends."""

import jax
import jax.numpy as jnp

from jaxvision_kernels import associative, checkpointed, operands, reference, xla

BACKENDS = {
    "reference": reference.scan,
    "associative": associative.scan,
    "scan": checkpointed.scan,
    "xla": xla.scan,
}
CHUNKED = ("scan", "xla")


def selective_scan(
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
    h0: jax.Array | None = None,
    return_last_state: bool = False,
    reverse: bool = False,
    segment_ids: jax.Array | None = None,
    backend: str = "auto",
    chunk: int | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Runs `h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] u[t]`, `y[t] = <C[t], h[t]> + D u[t]`.

    Gu and Dao 2023 (arXiv 2312.00752), eq. 2 and algorithm 2, with `dt = delta + delta_bias`,
    through softplus if `delta_softplus`; the output is `y silu(z)` if `z` is given. States and sums
    are float32 whatever the inputs are. Every float array is differentiable, the last state too.

    Args:
      u, delta, z: `[b l d]`, float32, bfloat16 or float16 in any mix.
      A: `[d n]` real.
      B, C: `[b l n]`; or `[b l g n]`, where each of g groups serves d / g neighbouring channels; or
        `[d n]`, constant in time. B and C need not have the same form.
      D, delta_bias: `[d]`.
      h0: `[b d n]`, the state before the first step (before the last one if `reverse`), else zeros.
      return_last_state: return `(y, state)`, the state after the scan's final step, float32
        `[b d n]`.
      reverse: scan from the end to the start, so that `y[t]` depends on steps t, t+1, …; y keeps
        the order of u.
      segment_ids: integers `[b l]`; the state is cleared wherever the id differs from that of the
        step scanned before, so packed sequences do not see one another. h0 enters the first one.
      backend: "xla" (what "auto" means: fast on a CPU, O(b l d) memory, no forward mode), "scan"
        (that memory too, forward mode and second derivatives, ONNX on its own), "associative"
        (parallel in time, O(b l d n) memory) or "reference" (a plain `lax.scan`).
      chunk: steps between two kept states, of the backends "xla" and "scan"; near sqrt(l) if None.

    Returns:
      `[b l d]` in the dtype of `u`, with `return_last_state` a pair.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r} is none of {('auto', *BACKENDS)}")
    backend = "xla" if backend == "auto" else backend
    if chunk is not None and backend not in CHUNKED:
        raise ValueError(f"chunk={chunk} has no meaning for backend={backend!r}; leave it out")
    u, delta, A, B, C, D, z, delta_bias, h0, segment_ids = (
        None if x is None else jnp.asarray(x)
        for x in (u, delta, A, B, C, D, z, delta_bias, h0, segment_ids)
    )
    operands.check(u, delta, A, B, C, D, z, delta_bias, h0, segment_ids)

    dt = delta.astype(jnp.float32)
    if delta_bias is not None:
        dt = dt + delta_bias.astype(jnp.float32)
    if delta_softplus:
        dt = jax.nn.softplus(dt)  # in float32 equal to PyTorch's, which is linear above 20
    keep = operands.kept_states(segment_ids, reverse)
    extra = {"chunk": operands.chunk_length(u.shape[1], chunk)} if backend in CHUNKED else {}
    A = A.astype(jnp.float32)
    y, state = BACKENDS[backend](u, dt, A, B, C, h0, keep, reverse=reverse, **extra)

    if D is not None:
        y = y + D.astype(jnp.float32) * u.astype(jnp.float32)
    if z is not None:
        y = y * jax.nn.silu(z.astype(jnp.float32))
    y = y.astype(u.dtype)
    return (y, state) if return_last_state else y
