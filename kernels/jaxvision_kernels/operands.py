"""What a selective scan accepts, and the forms its backends want it in."""

import math

import jax
import jax.numpy as jnp

FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16)


def arrays(**named) -> list[jax.Array]:
    """Arguments as arrays, in order; raises `ValueError` naming one that is None or no array."""
    for name, x in named.items():
        if x is None:
            raise ValueError(f"{name} is None; it must be an array")
    return arrays_or_none(**named)


def arrays_or_none(**named) -> list[jax.Array | None]:
    """As `arrays`; None passes."""
    return [None if x is None else _array(name, x) for name, x in named.items()]


def _array(name, x):
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:  # text, lists of unequal lengths
        raise ValueError(f"{name} is no array: {error}") from error


def check(u, delta, A, B, C, D, z, delta_bias, h0) -> None:
    """Raises `ValueError`, naming argument and mend, for shapes and dtypes that do not fit."""
    if u.ndim != 3:
        raise ValueError(f"u has shape {u.shape}; selective_scan takes [b l d], channels last")
    b, length, d = u.shape
    if 0 in u.shape:
        raise ValueError(f"u has shape {u.shape}; b, l and d must be 1 or more")
    if A.ndim != 2 or A.shape[0] != d or A.shape[1] == 0:
        raise ValueError(f"A has shape {A.shape}; with u {u.shape} it must be [d n] = ({d}, n)")
    n = A.shape[1]
    expect("delta", delta, {"[b l d]": u.shape})
    for name, w in (("B", B), ("C", C)):
        groups = w.shape[2] if w.ndim == 4 else 1
        if groups == 0 or d % groups:
            raise ValueError(f"{name} has {groups} groups, which do not divide u's {d} channels")
        varying = {"[b l n]": (b, length, n), "[b l g n]": (b, length, groups, n)}
        expect(name, w, {**varying, "[d n]": (d, n)})
    expect("D", D, {"[d]": (d,)})
    expect("delta_bias", delta_bias, {"[d]": (d,)})
    expect("z", z, {"[b l d]": u.shape})
    expect("h0", h0, {"[b d n]": (b, d, n)})
    expect_float({"u": u, "delta": delta, "D": D, "z": z, "delta_bias": delta_bias})
    for name, x in {"A": A, "B": B, "C": C, "h0": h0}.items():
        if x is not None and x.dtype == jnp.complex64:
            if A.dtype != jnp.complex64:
                raise ValueError(f"{name} is complex64 and A is {A.dtype}; make both complex64")
        else:
            expect_float({name: x})


def expect(name: str, x, forms: dict[str, tuple[int, ...]]) -> None:
    """Raises `ValueError` for an array that is there and has none of these shapes."""
    if x is not None and x.shape not in forms.values():
        wanted = " or ".join(f"{form} = {shape}" for form, shape in forms.items())
        raise ValueError(f"{name} has shape {x.shape}; it must be {wanted}")


def expect_float(named: dict[str, jax.Array | None]) -> None:
    """Raises `ValueError` for an array whose dtype the kernels do not read."""
    for name, x in named.items():
        if x is not None and x.dtype not in FLOATS:
            raise ValueError(f"{name} is {x.dtype}; cast it to float32, bfloat16 or float16")


def step_sizes(delta, delta_bias, softplus: bool) -> jax.Array:
    """`dt = delta + delta_bias` in float32, through softplus if asked for."""
    dt = delta.astype(jnp.float32)
    if delta_bias is not None:
        dt = dt + delta_bias.astype(jnp.float32)
    return jax.nn.softplus(dt) if softplus else dt  # in float32 equal to PyTorch's, linear above 20


def skip_and_gate(y, u, D, z) -> jax.Array:
    """`(y + D u) silu(z)` in float32; D broadcasts to u, and either may be None."""
    if D is not None:
        y = y + D.astype(jnp.float32) * u.astype(jnp.float32)
    return y if z is None else y * jax.nn.silu(z.astype(jnp.float32))


def positive_steps(chunk: int) -> int:
    """`chunk` itself, if it is a whole number of steps."""
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk={chunk!r} must be a whole number of steps, 1 or more")
    return chunk


def widen(x: jax.Array) -> jax.Array:
    """Float32, or complex64 if x is complex: what states and sums are kept in."""
    return x.astype(jnp.complex64 if jnp.iscomplexobj(x) else jnp.float32)


def chunk_length(length: int, chunk: int | None) -> int:
    """The chunk asked for, else one near sqrt(length / 2) that wants the least padding.

    A backward pass keeps length / chunk states, and chunk more while it works through one chunk; of
    the sum's flat minimum the lower side is the kinder to caches.
    """
    if chunk is not None:
        return min(positive_steps(chunk), length)
    target = math.sqrt(length / 2)
    near = range(max(1, round(target / 2)), round(target * 2) + 1)
    return min(near, key=lambda k: (-length % k, abs(math.log(k / target))))


def starts(b: int, A: jax.Array) -> jax.Array:
    """States `[b d n]` of zeros, which within `jax.shard_map` vary over what A varies over."""
    return jnp.zeros_like(A, shape=(b, *A.shape))


def with_groups(w: jax.Array) -> jax.Array:
    """B or C as `[b l g n]`; `[1 1 d n]`, d groups of one channel, if constant in time."""
    return w[None, None] if w.ndim == 2 else w[:, :, None] if w.ndim == 3 else w


def per_channel(w: jax.Array, channels: int) -> jax.Array:
    """`[… g n]` -> `[… d n]`, or `[… 1 n]` to broadcast from."""
    groups = w.shape[-2]
    return w if groups == 1 else jnp.repeat(w, channels // groups, axis=-2)
