"""What surrounds the lifting networks: polyphase split, linear wavelets, an orthonormal basis."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

Wavelet = Literal["haar", "cdf53"]
WAVELETS = ("haar", "cdf53")

# An orthonormal basis of colours, the cosine transform of three: luminance, red - blue, green -
# magenta. Orthonormal, so that a squared error is the same in it as in RGB.
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]] / np.sqrt([[3.0], [2.0], [6.0]]), np.float32)


def split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`[b h w c]` -> the even cells `[b h/2 w/2 c]`, and those right, below, diagonal, `[… 3c]`."""
    cells = rearrange(x, "b (h i) (w j) c -> b h w (i j) c", i=2, j=2)
    return cells[..., 0, :], rearrange(cells[..., 1:, :], "b h w k c -> b h w (k c)")


def merge(even: jax.Array, odd: jax.Array) -> jax.Array:
    """The inverse of `split`."""
    cells = jnp.concatenate([even, odd], axis=-1)
    return rearrange(cells, "b h w (i j c) -> b (h i) (w j) c", i=2, j=2)


def predicted(even: jax.Array, wavelet: Wavelet) -> jax.Array:
    """What a linear wavelet predicts of the odd cells, `[… c]` -> `[… 3c]`."""
    if wavelet == "haar":
        return jnp.concatenate([even] * 3, axis=-1)
    right, below = _after(even, 2), _after(even, 1)
    diagonal = _after(right, 1)
    means = (even + right) / 2, (even + below) / 2, (even + right + below + diagonal) / 4
    return jnp.concatenate(means, axis=-1)


def updated(high: jax.Array, wavelet: Wavelet) -> jax.Array:
    """What it adds to the even cells, so that they keep the mean: `[… 3c]` -> `[… c]`."""
    right, below, diagonal = jnp.split(high, 3, axis=-1)
    if wavelet == "haar":
        return (right + below + diagonal) / 4
    left, above, side = _before(right, 2), _before(below, 1), _before(diagonal, 2)
    diagonals = diagonal + side + _before(diagonal, 1) + _before(side, 1)
    return (right + left + below + above) / 8 + diagonals / 16


def orthonormal(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Haar's differences in its orthonormal basis: twice the mean; LH, HL, HH."""
    right, below, diagonal = jnp.split(high, 3, axis=-1)
    bands = right - below - diagonal, below - right - diagonal, diagonal - right - below
    return 2 * low, jnp.concatenate(bands, axis=-1) / 2


def differences(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of `orthonormal`."""
    rows, columns, both = jnp.split(high, 3, axis=-1)
    parts = -columns - both, -rows - both, -rows - columns
    return low / 2, jnp.concatenate(parts, axis=-1)


def pad_to(x: jax.Array, multiple: int) -> jax.Array:
    """Reflects `[b h w c]` at its lower and right edges to multiples; edges repeat where short."""
    pads = [(0, -n % multiple) for n in x.shape[1:3]]
    for axis, (_, pad) in enumerate(pads, start=1):
        while pad:
            some = min(pad, max(1, x.shape[axis] - 1))
            mode = "reflect" if x.shape[axis] > 1 else "edge"
            x = jnp.pad(x, [(0, some if a == axis else 0) for a in range(4)], mode=mode)
            pad -= some
    return x


def _after(x, axis):
    """Each cell's neighbour at one more along the axis; the last is its own."""
    last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
    rest = jax.lax.slice_in_dim(x, 1, None, axis=axis)
    return jnp.concatenate([rest, last], axis=axis)


def _before(x, axis):
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    rest = jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)
    return jnp.concatenate([first, rest], axis=axis)
