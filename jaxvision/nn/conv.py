"""Convolutions over maps `[b h w c]`."""

import jax
import jax.numpy as jnp
from flax import nnx


class DepthwiseConv(nnx.Module):
    """Depthwise convolution with 'same' zero padding: `[b h w c] -> [b h w c]`, odd `kernel`.

    Written as a sum of shifted products: XLA fuses it into one pass over the map, which on CPU is 4
    to 10 times faster, forward and backward, than a grouped convolution.
    """

    def __init__(self, channels: int, kernel: int = 3, *, dtype=jnp.float32, rngs: nnx.Rngs):
        if kernel % 2 == 0:
            raise ValueError(f"DepthwiseConv: kernel={kernel} must be odd")
        bound = 1 / kernel
        init = jax.random.uniform(
            rngs.params(), (kernel, kernel, channels), jnp.float32, -bound, bound
        )
        self.kernel = nnx.Param(init)
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...].astype(self.dtype)
        size, r = kernel.shape[0], kernel.shape[0] // 2
        h, w = x.shape[1:3]
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (r, r), (r, r), (0, 0)))
        shifts = [
            padded[:, i : i + h, j : j + w] * kernel[i, j] for i in range(size) for j in range(size)
        ]
        return sum(shifts[1:], shifts[0]) + self.bias[...].astype(self.dtype)
