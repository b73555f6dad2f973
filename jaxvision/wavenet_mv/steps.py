"""The quantiser's steps at any quality: numbers of few digits, so that all decoders agree."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.entropy.exact import power_of_two, round_through

PARTS = 64  # of an octave, in which steps are told apart
QUALITY = 256  # parts between two qualities
_MANTISSAS = np.rint(1024 * 2 ** (np.arange(PARTS) / PARTS)).astype(np.float32)


def first(lambdas: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Base-2 logarithms `[k c]` of steps that suit `lambda MSE + bits a pixel`.

    `norms [c]` say how much a unit of each number changes a picture. At high rates a step Δ costs
    `lambda Δ² / 36` and saves log2 Δ bits a number, which gives `Δ² = 26 / lambda`; with a dead
    zone, of photographs at half a bit a pixel, 34 was measured.
    """
    return (0.5 * np.log2(34 / lambdas)[:, None] - np.log2(norms)).astype(np.float32)


def at(logarithms: jax.Array, quality: jax.Array) -> jax.Array:
    """Steps `[b c]` at qualities `[b]` from 0 to k - 1, of logarithms `[k c]`.

    Between two qualities the logarithms are interpolated (Cui et al. 2021, eq. 7), all in whole
    numbers; the gradient is that of the powers.
    """
    last = logarithms.shape[0] - 1
    place = jnp.round(QUALITY * jnp.clip(quality, 0, last)).astype(jnp.int32)
    low = jnp.minimum(place // QUALITY, max(last - 1, 0))
    high = jnp.minimum(low + 1, last)
    part = (place - QUALITY * low).astype(jnp.float32)[:, None]
    parts = round_through(PARTS * logarithms)
    total = (QUALITY - part) * parts[low] + part * parts[high]
    whole = jnp.floor((jax.lax.stop_gradient(total) + QUALITY // 2) / QUALITY).astype(jnp.int32)
    octave = whole // PARTS
    step = jnp.asarray(_MANTISSAS)[whole - PARTS * octave] * power_of_two(octave - 10)
    smooth = jnp.exp2(total / (PARTS * QUALITY))
    return step + (smooth - jax.lax.stop_gradient(smooth))
