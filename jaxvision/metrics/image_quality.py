"""How near a decoded image is to its original: PSNR and MS-SSIM, float32, one number an image."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
TAPS, SIGMA = 11, 1.5  # the Gaussian window of Wang et al. 2004, section III-B
C1, C2 = 0.01**2, 0.03**2  # from K1 and K2 there, for values in [0, 1]
LEAST = (TAPS - 1) * 2 ** (len(WEIGHTS) - 1) + 1  # the window must fit the coarsest scale


def psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of images in [0, 1]: `[b h w c]` -> `[b]`.

    The squared error is averaged over pixels and channels before the logarithm; equal images
    have `inf`.
    """
    a, b = _images(a, b)
    return -10 * jnp.log10(jnp.mean((a - b) ** 2, axis=(1, 2, 3)))


def ms_ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multi-scale structural similarity of images in [0, 1]: `[b h w c]` -> `[b]`.

    Wang, Simoncelli, Bovik 2003, eq. 7, over 5 scales: computed in each channel, then averaged
    over channels, as TensorFlow and most codec papers do. Windows lie wholly inside the image; a
    contrast that is negative on average counts as 0.
    """
    a, b = _images(a, b)
    height, width = a.shape[1:3]
    if min(height, width) < LEAST:
        raise ValueError(
            f"images of {height}x{width} are too small for MS-SSIM with {len(WEIGHTS)} scales: "
            f"the least is {LEAST}x{LEAST}"
        )
    return _ms_ssim(a, b)


@jax.jit
def _ms_ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    result = 1.0
    for scale, weight in enumerate(WEIGHTS):
        ssim, contrast = _similarity(a, b)
        last = scale == len(WEIGHTS) - 1
        result *= jnp.maximum(ssim if last else contrast, 0) ** weight
        if not last:
            a, b = _half(a), _half(b)
    return jnp.mean(result, axis=-1)


def ms_ssim_db(similarity: jax.Array) -> jax.Array:
    """MS-SSIM in decibels, which spread what is close to 1: `-10 log10(1 - x)`."""
    return -10 * jnp.log10(1 - similarity)


def _images(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"images must be two [b h w c] of one shape, not {a.shape} and {b.shape}")
    for x in (a, b):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"images must be real numbers in [0, 1], not {x.dtype}: divide by 255")
    return a.astype(jnp.float32), b.astype(jnp.float32)


def _similarity(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """SSIM and its factor of contrast and structure, averaged over places: two `[b c]`.

    Wang et al. 2004, eq. 13.
    """
    # Variances do not depend on the origin, and E[x²] - E[x]² cancels less about mid-grey.
    x, y = a - 0.5, b - 0.5
    moments = _blur(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, square_x, square_y, product = jnp.split(moments, 5, axis=-1)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    contrast = (2 * covariance + C2) / (var_x + var_y + C2)
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return jnp.mean(luminance * contrast, axis=(1, 2)), jnp.mean(contrast, axis=(1, 2))


def _blur(x: jax.Array) -> jax.Array:
    """Means under the window: `[b h w c]` -> `[b h-10 w-10 c]`."""
    window = np.exp(-((np.arange(TAPS) - TAPS // 2) ** 2) / (2 * SIGMA**2))
    window = (window / window.sum()).astype(np.float32)
    # Shifted sums: a convolution would run in TF32 on GPUs, and slowly by channel on CPUs.
    for axis in (1, 2):
        size = x.shape[axis] - TAPS + 1
        shifted = (lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(TAPS))
        x = sum(w * part for w, part in zip(window, shifted, strict=True))
    return x


def _half(x: jax.Array) -> jax.Array:
    """Means of 2x2 pixels; an odd last row or column is repeated."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    return jnp.mean(x.reshape(b, (h + 1) // 2, 2, (w + 1) // 2, 2, c), axis=(2, 4))
