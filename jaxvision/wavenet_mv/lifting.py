"""Linear wavelets by lifting, on pictures `[b h w c]`; colours; padding."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Wavelet = Literal["haar", "cdf53"]
WAVELETS = ("haar", "cdf53")
Rounded = Callable[[jax.Array], jax.Array]

# Luminance, red - blue, green - magenta: the cosine transform of three, orthonormal, so that a
# squared error is the same in it as in RGB. The way back has few digits, so that its sums are
# exact; the way there is its inverse.
_COSINES = [[1, 1, 1], [1, 0, -1], [1, -2, 1]] / np.sqrt([[3.0], [2.0], [6.0]])
FROM_COLOURS = (np.rint(256 * _COSINES) / 256).astype(np.float32)
TO_COLOURS = np.linalg.inv(FROM_COLOURS.astype(np.float64)).astype(np.float32)

# What a unit of the low and of the high half becomes.
_SMOOTH = {"haar": [1, 1], "cdf53": [0.5, 1, 0.5]}
_ROUGH = {"haar": [-0.5, 0.5], "cdf53": [-0.125, -0.25, 0.75, -0.25, -0.125]}


def unrounded(x: jax.Array) -> jax.Array:
    return x


def forward(
    x: jax.Array, wavelet: Wavelet, *, rounded: Rounded = unrounded
) -> tuple[jax.Array, jax.Array]:
    """One level: low `[b h/2 w/2 c]`, which keeps the mean, and LH HL HH `[b h/2 w/2 3c]`.

    LH is low along the rows and high along the columns. Sweldens 1996; CDF 5/3 is Le Gall and
    Tabatabai 1988. Every sum is `rounded`, which makes whole numbers of whole numbers.
    """
    low, high = _forward(x, wavelet, rounded, axis=2)
    low, low_high = _forward(low, wavelet, rounded, axis=1)
    high_low, high_high = _forward(high, wavelet, rounded, axis=1)
    return low, jnp.concatenate([low_high, high_low, high_high], axis=-1)


def inverse(
    low: jax.Array, high: jax.Array, wavelet: Wavelet, *, rounded: Rounded = unrounded
) -> jax.Array:
    """The inverse of `forward`, of the same rounding exactly."""
    low_high, high_low, high_high = jnp.split(high, 3, axis=-1)
    low = _inverse(low, low_high, wavelet, rounded, axis=1)
    high = _inverse(high_low, high_high, wavelet, rounded, axis=1)
    return _inverse(low, high, wavelet, rounded, axis=2)


def orthonormal(bands: list[jax.Array]) -> list[jax.Array]:
    """Bands of all levels, coarse to fine, scaled as those of Haar's orthonormal wavelet."""
    levels = len(bands) - 1
    parts = np.array([1, 1, 0.5], np.float32)
    scales = [
        np.repeat(2.0 ** (levels - i - 1) * parts, x.shape[-1] // 3)
        for i, x in enumerate(bands[1:])
    ]
    return [bands[0] * 2**levels, *(x * s for x, s in zip(bands[1:], scales, strict=True))]


def norms(wavelet: Wavelet, levels: int) -> list[np.ndarray]:
    """How much a unit of each band's changes a picture, the root of the summed squares.

    The lowest band's `[1]`, then LH, HL, HH `[3]` of each level, coarse to fine.
    """
    low, high = (_bases(wavelet, levels, kind) for kind in (_SMOOTH, _ROUGH))  # fine first
    found = [np.array([low[-1] * low[-1]])]
    for level in reversed(range(levels)):
        found.append(np.array([low[level] * high[level]] * 2 + [high[level] ** 2]))
    return found


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


def _forward(x, wavelet, rounded, axis):
    even, odd = (jax.lax.slice_in_dim(x, i, None, 2, axis) for i in (0, 1))
    high = odd - rounded(_predicted(even, wavelet, axis))
    return even + rounded(_updated(high, wavelet, axis)), high


def _inverse(low, high, wavelet, rounded, axis):
    even = low - rounded(_updated(high, wavelet, axis))
    odd = high + rounded(_predicted(even, wavelet, axis))
    shape = [2 * n if a == axis else n for a, n in enumerate(even.shape)]
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape)


def _predicted(even, wavelet, axis):
    return even if wavelet == "haar" else (even + _after(even, axis)) / 2


def _updated(high, wavelet, axis):
    return high / 2 if wavelet == "haar" else (_before(high, axis) + high) / 4


def _after(x, axis):
    """Each cell's neighbour at one more along the axis; the last is its own."""
    last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
    rest = jax.lax.slice_in_dim(x, 1, None, axis=axis)
    return jnp.concatenate([rest, last], axis=axis)


def _before(x, axis):
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    rest = jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)
    return jnp.concatenate([first, rest], axis=axis)


def _bases(wavelet, levels, kind):
    """Norms of one axis' functions of each level, fine first."""
    found = []
    for level in range(levels):
        function = np.array(kind[wavelet])
        for _ in range(level):
            spread = np.zeros(2 * len(function) - 1)
            spread[::2] = function
            function = np.convolve(spread, _SMOOTH[wavelet])
        found.append(np.sqrt((function**2).sum()))
    return found
