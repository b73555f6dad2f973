"""State space duality: the scan of Mamba-2, one decay a head, as matrix products."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels import meshes, segments
from jaxvision_kernels.operands import (
    arrays,
    arrays_or_none,
    expect,
    expect_float,
    positive_steps,
    skip_and_gate,
    step_sizes,
)

SSD_BACKENDS = ("xla", "reference")
CHUNK = 64


def ssd(
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
    """Runs `h[t] = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t]^T`, `y[t] = h[t] C[t] + D u[t]` by heads.

    Dao and Gu 2024 (arXiv 2405.21060), section 6 and listing 1: within a chunk a masked attention,
    between chunks a scan of states. Everything but the ids is differentiable, and the backward pass
    keeps only the arguments. All is float32 at full precision; but with a bfloat16 u the matrix
    products take bfloat16 operands, the state's too, and add in float32. Decays stay float32.

    Args:
      u, z: `[b l h p]`, h heads of p channels.
      delta: `[b l h]`; `dt = delta + delta_bias`, through softplus if `delta_softplus`.
      A: `[h]`, negative for a state that decays.
      B, C: `[b l n]`, or `[b l g n]` for g groups of h / g neighbouring heads.
      D: `[h]` or `[h p]`. delta_bias: `[h]`.
      h0: `[b h p n]`; as are return_last_state, reverse and segment_ids in `selective_scan`.
      backend: "xla" (what "auto" means) or "reference", one step at a time.
      chunk: steps of one attention, of "xla"; 64 if None.

    Returns:
      `[b l h p]` in the dtype of `u`, times `silu(z)` if given; with `return_last_state` a pair,
      the state float32 `[b h p n]`.
    """
    if backend not in ("auto", *SSD_BACKENDS):
        raise ValueError(f"backend={backend!r} is none of {('auto', *SSD_BACKENDS)}")
    if chunk is not None and backend == "reference":
        raise ValueError(f"chunk={chunk} has no meaning for backend='reference'; leave it out")
    u, delta, A, B, C = arrays(u=u, delta=delta, A=A, B=B, C=C)
    D, z, delta_bias, h0, segment_ids = arrays_or_none(
        D=D, z=z, delta_bias=delta_bias, h0=h0, segment_ids=segment_ids
    )
    _check(u, delta, A, B, C, D, z, delta_bias, h0, segment_ids)
    chunk = min(u.shape[1], positive_steps(CHUNK if chunk is None else chunk))
    scan = _reference
    if backend != "reference":
        scan = jax.checkpoint(functools.partial(_chunked, chunk=chunk), static_argnums=7)

    def run(u, delta, A, B, C, D, z, delta_bias, h0, segment_ids):
        b, _, h, p = u.shape
        B, C = (w[:, :, None] if w.ndim == 3 else w for w in (B, C))
        groups = math.lcm(B.shape[2], C.shape[2])
        B, C = (jnp.repeat(w, groups // w.shape[2], axis=2) for w in (B, C))
        dt = step_sizes(delta, delta_bias, delta_softplus)
        keep = segments.kept(segment_ids, reverse)
        A = A.astype(jnp.float32)
        state = (b, h, p, B.shape[3])
        h0 = jnp.zeros_like(A, shape=state) if h0 is None else h0.astype(jnp.float32)
        y, state = scan(u, dt, A, B, C, h0, keep, reverse)
        D = D[:, None] if D is not None and D.ndim == 1 else D
        return skip_and_gate(y, u, D, z).astype(u.dtype), state

    given = (u, delta, A, B, C, D, z, delta_bias, h0, segment_ids)
    y, state = meshes.run(run, given, *(meshes.spec(u, "blhp", axes) for axes in ("blhp", "bhpn")))
    return (y, state) if return_last_state else y


def _reference(u, dt, A, B, C, h0, keep, reverse):
    """u `[b l h p]`, dt `[b l h]`, B, C `[b l g n]`, h0 `[b h p n]`, keep `[b l]` or None."""
    heads = u.shape[2] // B.shape[2]
    keep = jnp.ones(u.shape[:2]) if keep is None else keep
    xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).astype(jnp.float32), (u, dt, B, C, keep))

    def step(state, x):
        u, dt, B, C, keep = x
        B, C = (jnp.repeat(w, heads, axis=1)[:, :, None] for w in (B, C))  # [b h 1 n]
        state = jnp.where(keep[:, None, None, None] > 0, state, 0.0)
        state = jnp.exp(dt * A)[..., None, None] * state + (dt[..., None] * u)[..., None] * B
        return state, (state * C).sum(-1)

    state, y = lax.scan(step, h0, xs, reverse=reverse)
    return jnp.swapaxes(y, 0, 1), state


def _chunked(u, dt, A, B, C, h0, keep, reverse, *, chunk):
    """As `_reference`. Letters: c chunks of k steps (i, j), g groups of r heads."""
    b, length, h, p = u.shape
    g, n = B.shape[2:]
    # Float16 would overflow where states do not.
    narrow = jnp.bfloat16 if u.dtype == jnp.bfloat16 else jnp.float32
    precision = "highest" if narrow == jnp.float32 else None

    def dot(letters, *operands):
        operands = [x.astype(narrow) for x in operands]
        return jnp.einsum(
            letters, *operands, precision=precision, preferred_element_type=jnp.float32
        )

    def chunks(x, *shape):  # steps of dt = 0 leave the state as it is
        pads = ((0, 0), (0, -length % chunk), *((0, 0),) * (x.ndim - 2))
        return jnp.pad(x, pads).reshape(b, -1, chunk, *shape)

    u, dt = chunks(u, g, h // g, p), chunks(dt, g, h // g)
    B, C = chunks(B, g, n), chunks(C, g, n)
    A = A.reshape(g, h // g)
    clears = jnp.zeros((b, u.shape[1], chunk), jnp.int32)
    if keep is not None:
        clears = chunks(1 - keep.astype(jnp.int32))
        clears = lax.cumsum(clears, axis=2, reverse=reverse)
    last = 0 if reverse else -1

    high, low = _running_sum(dt * A, axis=2, reverse=reverse)  # log decay up to a step, [b c k g r]
    since = (high[:, :, :, None] - high[:, :, None]) + (low[:, :, :, None] - low[:, :, None])
    sees = jnp.arange(chunk)[:, None] >= jnp.arange(chunk)
    sees = sees.T if reverse else sees
    sees = sees & (clears[:, :, :, None] == clears[:, :, None])  # [b c i j]
    decay = jnp.exp(jnp.where(sees[..., None, None], since, -jnp.inf))  # [b c i j g r]
    scores = dot("bcign,bcjgn->bcijg", C, B)
    mixing = scores[..., None] * decay * dt[:, :, None]
    y = dot("bcijgr,bcjgrp->bcigrp", mixing, u)

    reaches_end = decay[:, :, last] * dt  # [b c j g r]
    states = dot("bcjgrp,bcjgn->bcgrpn", reaches_end[..., None] * u, B)
    total = jnp.where((clears[:, :, last] == 0)[..., None, None], high[:, :, last], -jnp.inf)
    entering, state = _between(jnp.exp(total), states, h0.reshape(b, g, -1, p, n), reverse)
    carried = jnp.where((clears == 0)[..., None, None], jnp.exp(high), 0.0)
    y = y + carried[..., None] * dot("bcign,bcgrpn->bcigrp", C, entering)
    return y.reshape(b, -1, h, p)[:, :length], state.reshape(b, h, p, n)


def _between(decay, states, h0, reverse):
    """`H[c+1] = decay[c] H[c] + states[c]`, `[b c g r p n]`: what enters chunks, and the last."""

    def step(state, x):
        decay, new = x
        return decay[..., None, None] * state + new, state

    xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (decay, states))
    state, entering = lax.scan(step, h0, xs, reverse=reverse)
    return jnp.swapaxes(entering, 0, 1), state


def _running_sum(x, *, axis, reverse):
    """Inclusive sums as pairs (high, low) of twice float32's precision.

    The difference of two of them is a sum over the steps between that keeps its own precision
    however large the two are (Knuth's two-sum; Dekker 1971).
    """

    def add(a, b):
        high = a[0] + b[0]
        part = high - a[0]
        error = lax.stop_gradient((a[0] - (high - part)) + (b[0] - part))
        return high, a[1] + b[1] + error

    return lax.associative_scan(add, (x, jnp.zeros_like(x)), axis=axis, reverse=reverse)


def _check(u, delta, A, B, C, D, z, delta_bias, h0, segment_ids):
    if u.ndim != 4 or 0 in u.shape:
        raise ValueError(f"u has shape {u.shape}; ssd takes [b l h p], each 1 or more")
    b, length, h, p = u.shape
    expect("A", A, {"[h]": (h,)})
    expect("delta", delta, {"[b l h]": (b, length, h)})
    if 0 in B.shape[-1:]:
        raise ValueError(f"B has shape {B.shape}; a state has n = 1 or more")
    n = B.shape[-1] if B.ndim else 1
    for name, w in (("B", B), ("C", C)):
        groups = w.shape[2] if w.ndim == 4 else 1
        if groups == 0 or h % groups:
            raise ValueError(f"{name} has {groups} groups, which do not divide u's {h} heads")
        expect(name, w, {"[b l n]": (b, length, n), "[b l g n]": (b, length, groups, n)})
    expect("D", D, {"[h]": (h,), "[h p]": (h, p)})
    expect("z", z, {"[b l h p]": u.shape})
    expect("delta_bias", delta_bias, {"[h]": (h,)})
    expect("h0", h0, {"[b h p n]": (b, h, p, n)})
    named = {"u": u, "delta": delta, "A": A, "B": B, "C": C}
    expect_float(named | {"D": D, "z": z, "delta_bias": delta_bias, "h0": h0})
    segments.check(segment_ids, (b, length))
