"""The conditional Gaussian of a hyperprior: probabilities of unit bins, and quantisers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lower_bound(x: jax.Array, bound: float) -> jax.Array:
    """`max(x, bound)`, whose gradient still reaches an `x` below that descent would raise.

    A plain maximum would leave such an `x` where it is for ever. As Ballé et al. 2018 (arXiv
    1802.01436) bound their scales.
    """
    return jnp.maximum(x, bound)


def _lower_bound_forward(x, bound):
    return jnp.maximum(x, bound), x >= bound


def _lower_bound_backward(bound, above, gradient):
    return (jnp.where(above | (gradient < 0), gradient, 0.0),)


lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)


def likelihood(
    y: jax.Array,
    scale: jax.Array,
    *,
    mean: jax.Array | float = 0.0,
    bound: float = 0.11,
    floor: float = 1e-9,
) -> jax.Array:
    """Mass that a Gaussian gives to `y - 1/2 … y + 1/2`, elementwise, in float32.

    Ballé et al. 2018, eq. 8, with scales of at least `bound`. Both edges are taken on the lower
    side, where the difference of two erfc keeps its digits. At least `floor`, a bound like that of
    the scale, so that its logarithm is finite.
    """
    y, scale, mean = (jnp.asarray(x, jnp.float32) for x in (y, scale, mean))
    scale = lower_bound(scale, bound) * math.sqrt(2)
    distance = abs(y - mean)
    edges = (distance - 0.5) / scale, (distance + 0.5) / scale
    near, far = (0.5 * jax.scipy.special.erfc(edge) for edge in edges)
    return lower_bound(near - far, floor)


def bits(mass: jax.Array) -> jax.Array:
    """Code length of events of probability `mass`, elementwise."""
    return -jnp.log2(mass)


def scale_table(low: float = 0.11, high: float = 256.0, levels: int = 64) -> np.ndarray:
    """Scales from `low` to `high` in equal ratios, float64 `[levels]`."""
    if not 0 < low < high:
        raise ValueError(f"low={low}, high={high}: give 0 < low < high")
    if levels < 2:
        raise ValueError(f"levels={levels}: give two or more")
    return np.exp(np.linspace(math.log(low), math.log(high), levels))


def scale_index(scale: jax.Array, table: np.ndarray) -> jax.Array:
    """The first row of an ascending `table [k]` that is not below `scale`, else the last; int32.

    Exact for a given float32 scale; but two machines may compute that scale differently, and then a
    decoder needs `exact`.
    """
    table = np.asarray(table)
    if table.ndim != 1 or not (np.diff(table) > 0).all():
        raise ValueError(f"table of shape {table.shape} is not one ascending row")
    edges = jnp.asarray(table[:-1], jnp.float32)
    scale = jnp.asarray(scale, jnp.float32)
    return (scale[..., None] > edges).sum(-1, dtype=jnp.int32)


def noisy(y: jax.Array, key: jax.Array) -> jax.Array:
    """`y` with uniform noise of one step's width: the quantiser that training can differentiate."""
    return y + jax.random.uniform(key, y.shape, y.dtype, -0.5, 0.5)


def symbols(y: jax.Array, mean: jax.Array | float = 0.0) -> jax.Array:
    """The integers that the file holds, int32: whole steps from the mean."""
    return jnp.round(y - mean).astype(jnp.int32)


def rounded(y: jax.Array, mean: jax.Array | float = 0.0) -> jax.Array:
    """What the decoder has of `y`; the gradient passes to `y` as if it were unchanged."""
    value = jnp.round(y - mean) + mean
    return jax.lax.stop_gradient(value) + (y - jax.lax.stop_gradient(y))  # the value to the bit
