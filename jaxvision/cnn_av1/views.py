"""What the network sees of a block: its luma, or its contrast in steps of the quantiser."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.nn.resnet_weights import LUMA_MEAN, LUMA_STD

CHANNELS = {
    "plain": 1,
    "imagenet": 1,
    "contrast": 1,
    "both": 2,
    "levels": 2,
}  # of each input
PEAK = 1023.0  # of 10 bits
# Steps of the AC quantiser for 10 bits at some base indices; between them it is nearly linear: what
# is interpolated is within 5 % of the AV1 specification's table (7.12.2).
INDICES = (0, 1, 4, 8, 16, 32, 64, 96, 120, 144, 168, 192, 216, 236, 255)
STEPS = (4, 9, 16, 27, 55, 122, 267, 409, 604, 922, 1411, 2199, 3455, 5068, 7312)
GAIN = 8.0  # of the transform: a step's size in 10-bit samples is an eighth of the table's


def step_size(qps: jax.Array) -> jax.Array:
    """The quantiser's step in 10-bit samples, of base indices `[*]` from 0 to 255: float32."""
    steps = np.array(STEPS, np.float32) / GAIN
    return jnp.interp(qps.astype(jnp.float32), np.array(INDICES, np.float32), steps)


def see(blocks: jax.Array, qps: jax.Array, kind: str) -> jax.Array:
    """`blocks [b p p]`, 10-bit luma, and base indices `qps [b]` -> `[b p p c]` float32.

    "plain" is luma in [0, 1]; "imagenet" is that as pretrained weights want it; "contrast" is
    `in_steps` by order of magnitude: the encoder's choice hangs on which differences survive a
    step, and far above it little else counts. "both" is "imagenet", then "contrast". "levels" is
    the contrast of blocks `[b p p 2]`, means and deviations (`levels.shrunk`).
    """
    luma = blocks.astype(jnp.float32)
    if kind == "plain":
        return luma[..., None] / PEAK
    if kind in ("contrast", "levels"):
        return compressed(in_steps(blocks, qps))
    standard = (luma / PEAK - LUMA_MEAN) / LUMA_STD
    if kind == "imagenet":
        return standard[..., None]
    if kind == "both":
        return jnp.stack([standard, compressed(in_steps(blocks, qps))[..., 0]], axis=-1)
    raise ValueError(f"input {kind!r} is none of {', '.join(CHANNELS)}")


def in_steps(blocks: jax.Array, qps: jax.Array) -> jax.Array:
    """What blocks hold beside their mean, in steps of the quantiser: `[b p p 1]`.

    Of means and deviations `[b p p 2]`: both so, `[b p p 2]`.
    """
    luma = blocks.astype(jnp.float32)
    luma = luma[..., None] if luma.ndim == 3 else luma
    mean = luma[..., :1].mean((1, 2), keepdims=True)
    rest = jnp.concatenate([luma[..., :1] - mean, luma[..., 1:]], axis=-1)
    return rest / step_size(qps)[:, None, None, None]


def compressed(x: jax.Array) -> jax.Array:
    """The inverse hyperbolic sine to 3e-7, by the logarithm, which XLA vectorises on CPU."""
    size = abs(x)
    return jnp.sign(x) * jnp.log(size + jnp.sqrt(size * size + 1))
