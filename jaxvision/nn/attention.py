"""Attention over channels and over positions of a map: gates in (0, 1), computed in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

LEAST = 4  # hidden channels of a squeeze, whatever its reduction


class SqueezeExcite(nnx.Module):
    """Weighs channels by what the whole map holds: `[b h w c] -> [b h w c]`.

    Hu et al. 2018, section 3: mean over positions, `channels / reduction` hidden, sigmoid.
    """

    def __init__(self, channels: int, *, reduction: int = 16, rngs: nnx.Rngs):
        hidden = max(channels // reduction, LEAST)
        self.squeeze = nnx.Linear(channels, hidden, rngs=rngs)
        self.excite = nnx.Linear(hidden, channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        mean = x.astype(jnp.float32).mean((1, 2))
        gate = nnx.sigmoid(self.excite(nnx.relu(self.squeeze(mean))))
        return x * gate[:, None, None].astype(x.dtype)


class SpatialAttention(nnx.Module):
    """Weighs positions by mean and maximum over channels: `[b h w c] -> [b h w c]`.

    Woo et al. 2018 (CBAM), eq. 3: one `kernel`×`kernel` convolution, sigmoid.
    """

    def __init__(self, *, kernel: int = 7, rngs: nnx.Rngs):
        if kernel % 2 == 0:
            raise ValueError(f"SpatialAttention: kernel={kernel} must be odd")
        self.conv = nnx.Conv(2, 1, (kernel, kernel), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        # The gradient of a maximum asks where it is equal to its input, which a compiler may have
        # computed twice with other roundings: nowhere, then, and 0 / 0. A chosen place is one.
        largest = nnx.one_hot(wide.argmax(-1), wide.shape[-1])
        told = jnp.stack([wide.mean(-1), (wide * largest).sum(-1)], axis=-1)
        return x * nnx.sigmoid(self.conv(told)).astype(x.dtype)
