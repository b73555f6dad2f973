"""What a selective scan accepts, and the forms its backends want it in."""

import math

import jax
import jax.numpy as jnp

FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16)


def check(u, delta, A, B, C, D, z, delta_bias, h0, segment_ids) -> None:
    """Raises `ValueError`, naming argument and mend, for shapes and dtypes that do not fit."""
    if u.ndim != 3:
        raise ValueError(f"u has shape {u.shape}; selective_scan takes [b l d], channels last")
    b, length, d = u.shape
    if length == 0:
        raise ValueError(f"u of shape {u.shape} has no time steps")
    if A.ndim != 2 or A.shape[0] != d or A.shape[1] == 0:
        raise ValueError(f"A has shape {A.shape}; with u {u.shape} it must be [d n] = ({d}, n)")
    if jnp.iscomplexobj(A):
        raise ValueError(f"A is {A.dtype}: complex A is not supported; pass a real A")
    n = A.shape[1]
    _expect("delta", delta, {"[b l d]": u.shape})
    for name, w in (("B", B), ("C", C)):
        groups = w.shape[2] if w.ndim == 4 else 1
        if groups == 0 or d % groups:
            raise ValueError(f"{name} has {groups} groups, which do not divide u's {d} channels")
        varying = {"[b l n]": (b, length, n), "[b l g n]": (b, length, groups, n)}
        _expect(name, w, {**varying, "[d n]": (d, n)})
    _expect("D", D, {"[d]": (d,)})
    _expect("delta_bias", delta_bias, {"[d]": (d,)})
    _expect("z", z, {"[b l d]": u.shape})
    _expect("h0", h0, {"[b d n]": (b, d, n)})
    named = {"u": u, "delta": delta, "A": A, "B": B, "C": C}
    named |= {"D": D, "z": z, "delta_bias": delta_bias, "h0": h0}
    for name, x in named.items():
        if x is not None and x.dtype not in FLOATS:
            raise ValueError(f"{name} is {x.dtype}; cast it to float32, bfloat16 or float16")
    _expect("segment_ids", segment_ids, {"[b l]": (b, length)})
    if segment_ids is not None and not jnp.issubdtype(segment_ids.dtype, jnp.integer):
        raise ValueError(f"segment_ids is {segment_ids.dtype}; it must hold integers")


def _expect(name: str, x, forms: dict[str, tuple[int, ...]]) -> None:
    if x is not None and x.shape not in forms.values():
        wanted = " or ".join(f"{form} = {shape}" for form, shape in forms.items())
        raise ValueError(f"{name} has shape {x.shape}; it must be {wanted}")


def kept_states(segment_ids: jax.Array | None, reverse: bool) -> jax.Array | None:
    """`[b l]` float32: 0 where the state is cleared, before a segment's first step, else 1."""
    if segment_ids is None:
        return None
    ids = segment_ids
    same = (ids[:, 1:] == ids[:, :-1]).astype(jnp.float32)
    edge = jnp.ones((ids.shape[0], 1), jnp.float32)
    return jnp.concatenate([same, edge] if reverse else [edge, same], axis=1)


def chunk_length(length: int, chunk: int | None) -> int:
    """The chunk asked for, else one near sqrt(length / 2) that wants the least padding.

    A backward pass keeps length / chunk states, and chunk more while it works through one chunk; of
    the sum's flat minimum the lower side is the kinder to caches.
    """
    if chunk is not None:
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk={chunk!r} must be a whole number of steps, 1 or more")
        return min(chunk, length)
    target = math.sqrt(length / 2)
    near = range(max(1, round(target / 2)), round(target * 2) + 1)
    return min(near, key=lambda k: (-length % k, abs(math.log(k / target))))


def with_groups(w: jax.Array) -> jax.Array:
    """B or C as `[b l g n]`; `[1 1 d n]`, d groups of one channel, if constant in time."""
    return w[None, None] if w.ndim == 2 else w[:, :, None] if w.ndim == 3 else w


def per_channel(w: jax.Array, channels: int) -> jax.Array:
    """`[… g n]` -> `[… d n]`, or `[… 1 n]` to broadcast from."""
    groups = w.shape[-2]
    return w if groups == 1 else jnp.repeat(w, channels // groups, axis=-2)
