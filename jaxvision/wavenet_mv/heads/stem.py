"""What all heads share: decoded latents brought to one scale, and convolutions on their grid."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

LEAST = 1e-2  # of a spread: under a tenth of the step that suits λ = 1024, 0.16 (see `first_gain`)
MEMORY = 1_000  # batches that the running statistics look back on


class ChannelNorm(nnx.Module):
    """`asinh(gain (x - mean) / spread) + shift` of each channel: `[* c] -> [* c]` float32.

    A low-pass channel is a thousand times a fine one, and a fine one is 0 nearly everywhere with
    rare large values: a scale a channel mends the first, asinh the second. Mean and spread (the
    standard deviation) are running ones in training as in use, so that an example's result depends
    neither on its batch nor on the batch's size; the first batch sets them, then they average all
    batches up to `MEMORY`. A picture's own statistics would do away with its contrast.
    """

    def __init__(self, channels: int):
        self.mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.square = nnx.BatchStat(jnp.zeros((channels,)))
        self.batches = nnx.BatchStat(jnp.zeros(()))
        self.gain = nnx.Param(jnp.ones((channels,)))
        self.shift = nnx.Param(jnp.zeros((channels,)))
        self.use_running_average = False

    def set_view(self, use_running_average: bool | None = None):
        """For `nnx.view`: whether the statistics stay as they are."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        if not self.use_running_average:
            self._add(jax.lax.stop_gradient(x.reshape(-1, x.shape[-1])))
        mean = self.mean[...]
        spread = jnp.sqrt(jnp.maximum(self.square[...] - mean**2, LEAST**2))
        spread = jnp.where(self.batches[...] > 0, spread, 1)
        return jnp.arcsinh(self.gain[...] * (x - mean) / spread) + self.shift[...]

    def _add(self, x):
        self.batches[...] = jnp.minimum(self.batches[...] + 1, MEMORY)
        for statistic, values in ((self.mean, x), (self.square, x**2)):
            statistic[...] += (values.mean(0) - statistic[...]) / self.batches[...]


class ConvNorm(nnx.Module):
    """Convolution, LayerNorm over channels, GELU: `[b h w c] -> [b h/stride w/stride out]`."""

    def __init__(
        self, channels: int, out: int, size: int = 3, *, stride: int = 1, dtype, rngs: nnx.Rngs
    ):
        self.conv = nnx.Conv(
            channels, out, (size, size), strides=stride, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.norm = nnx.LayerNorm(out, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.gelu(self.norm(self.conv(x)))


class PartialBlock(nnx.Module):
    """Half of the channels through residual 3×3 convolutions, then joined: `[b h w c] -> [… out]`.

    CSPNet (Wang et al. 2020, fig. 2b), as YOLO's small models have it.
    """

    def __init__(self, channels: int, out: int, *, depth: int = 1, dtype, rngs: nnx.Rngs):
        half = out // 2
        self.split = nnx.Linear(channels, 2 * half, dtype=dtype, rngs=rngs)
        convs = [ConvNorm(half, half, dtype=dtype, rngs=rngs) for _ in range(2 * depth)]
        self.first, self.second = nnx.List(convs[::2]), nnx.List(convs[1::2])
        self.join = ConvNorm(2 * half, out, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        still, moved = jnp.split(nnx.gelu(self.split(x)), 2, axis=-1)
        for first, second in zip(self.first, self.second, strict=True):
            moved = moved + second(first(moved))
        return self.join(jnp.concatenate([still, moved], axis=-1))


class Stem(nnx.Module):
    """Decoded latents `[b h w c]` -> what every head reads, `[b h w width]`."""

    def __init__(self, channels: int, width: int, *, depth: int, dtype, rngs: nnx.Rngs):
        self.norm = ChannelNorm(channels)
        self.enter = ConvNorm(channels, width, dtype=dtype, rngs=rngs)
        self.block = PartialBlock(width, width, depth=depth, dtype=dtype, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        return self.block(self.enter(self.norm(features)))


def depth_to_space(x: jax.Array) -> jax.Array:
    """Four channels to a cell's four quarters: `[b h w (2 2 c)] -> [b 2h 2w c]`.

    Shi et al. 2016, eq. 4.
    """
    return rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=2, j=2)


def twice(x: jax.Array, like: jax.Array) -> jax.Array:
    """Each cell four times, cut to the height and width of `like`."""
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return x[:, : like.shape[1], : like.shape[2]]
