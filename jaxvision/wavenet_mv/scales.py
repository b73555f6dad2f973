"""Which scale each latent's Gaussian has: networks of whole numbers, the same on every machine."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.entropy import exact
from jaxvision.entropy.gaussian import scale_table

LOW, LEVELS = 0.11, 64
SCALES = scale_table(LOW, 256.0, LEVELS)
STEP = float(np.log(SCALES[1] / SCALES[0]))
MOST = 127  # of an activation
BITS = 8  # of a weight
SHARP = 4  # bits of an activation behind the point: activations are 16ths


class WholeConv(nnx.Module):
    """A convolution of whole numbers: `[b h w c] -> [b h w out]`, whole activations 0 … MOST.

    Trained as floats of which the whole numbers are taken at each call, by the functions that a
    decoder uses; inputs and outputs are sixteenths.
    """

    def __init__(self, channels: int, out: int, size: int, *, gain: float = 1.0, rngs: nnx.Rngs):
        products = size * size * channels * MOST * (2 ** (BITS - 1) - 1)
        self.most_bias = float(exact.EXACT - 1 - products)
        if self.most_bias <= 0:
            raise ValueError(f"{channels} channels of {size}×{size}: sums may pass 2^24")
        deviation = gain * (2 / (size * size * channels)) ** 0.5
        shape = (size, size, channels, out)
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros((out,)))

    def whole(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Weights, biases and the shift that takes sums back to sixteenths."""
        weight, shift = exact.quantize_weight(self.kernel[...], BITS)
        bias = exact.quantize_bias(self.bias[...], shift + SHARP)
        return weight, jnp.clip(bias, -self.most_bias, self.most_bias), shift

    def __call__(self, x: jax.Array, *, low: int = 0, high: int = MOST) -> jax.Array:
        weight, bias, shift = self.whole()
        return exact.rescale(exact.exact_conv(x, weight, bias), shift, low=low, high=high)


class ScaleNet(nnx.Module):
    """Whole numbers `[b h w c]` -> an index into SCALES for each of `out` latents, `[b h w out]`.

    `start` is the index that an untrained network gives.
    """

    def __init__(self, channels: int, out: int, *, width: int = 64, start: int, rngs: nnx.Rngs):
        self.conv1 = WholeConv(channels, width, 3, rngs=rngs)
        self.conv2 = WholeConv(width, width, 3, rngs=rngs)
        self.conv3 = WholeConv(width, out, 1, gain=0.1, rngs=rngs)
        self.conv3.bias[...] = jnp.full((out,), float(start))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Whole indexes in float32, whose gradient is that of the sums before their floor."""
        x = self.conv2(self.conv1(x))
        weight, bias, shift = self.conv3.whole()
        sums = exact.exact_conv(x, weight, bias)
        return exact.rescale(sums, shift + SHARP, low=0, high=LEVELS - 1)

    def check(self) -> float:
        """The share of float32's whole numbers that the sums can take; ValueError if all."""
        layers = [layer.whole()[:2] for layer in (self.conv1, self.conv2, self.conv3)]
        return max(exact.check_budget(w, b, most=MOST) for w, b in layers)


def scale_of(index: jax.Array) -> jax.Array:
    """The scale that a whole index stands for, differentiable in the index."""
    return LOW * jnp.exp(STEP * index)


def seen(latents: jax.Array) -> jax.Array:
    """Decoded latents as a network's input: their sizes in whole numbers 0 … MOST.

    Small ones are told apart finely, large ones not: a unit is 16 up to 4, a sixteenth of
    MOST holds the rest.
    """
    return jnp.minimum(16.0 * abs(latents), MOST)
