"""Layers of whole numbers held in float32: on every machine the same, in any order of addition.

What a decoder computes must be what the encoder meant: the scales of its Gaussians to the bit, and
the picture too. Activations are sixteenths, of at most `MOST` sixteenths in size, weights have up
to 8 bits, and every sum stays below 2^24, where float32 is exact (`jaxvision.entropy.exact`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.entropy import exact

MOST = 127  # of an activation
SHARP = 4  # bits of an activation behind the point: activations are 16ths
GRID = 12  # bits behind the point of what a decoder adds and subtracts
WEIGHTS = 127  # what the weights of a softmax add up to, about

_EXPONENTIALS = np.rint(4095 * np.exp(-np.arange(256) / (1 << SHARP))).astype(np.int32)


class WholeConv(nnx.Module):
    """A convolution of whole numbers: `[b h w c] -> [b h w out]`, stride 1, zeros around.

    Trained as floats of which the whole numbers are taken at each call, by the functions that a
    decoder uses. Inputs are whole, within ±MOST.
    """

    def __init__(self, channels: int, out: int, size: int, *, gain: float = 1.0, rngs: nnx.Rngs):
        fan = size * size * channels
        self.bits = next(b for b in (8, 7, 6, 5, 2) if fan * MOST * (2 ** (b - 1)) < exact.EXACT)
        self.most_bias = float(exact.EXACT - 1 - fan * MOST * (2 ** (self.bits - 1) - 1))
        if self.bits == 2:
            raise ValueError(f"{channels} channels of {size}×{size}: sums may pass 2^24")
        kernel = (
            gain * (2 / fan) ** 0.5 * jax.random.normal(rngs.params(), (size, size, channels, out))
        )
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros((out,)))

    def whole(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Weights, biases and the shift that takes sums back to sixteenths."""
        weight, shift = exact.quantize_weight(self.kernel[...], self.bits)
        bias = exact.quantize_bias(self.bias[...], shift + SHARP)
        return weight, jnp.clip(bias, -self.most_bias, self.most_bias), shift

    def __call__(self, x: jax.Array, *, low: int = 0, high: int = MOST) -> jax.Array:
        """Whole sixteenths from `low` to `high`; with `low=0` a ReLU."""
        weight, bias, shift = self.whole()
        return exact.rescale(exact.exact_conv(x, weight, bias), shift, low=low, high=high)

    def value(self, x: jax.Array) -> jax.Array:
        """The sums as the numbers that they stand for: fractions with few digits, exact."""
        weight, bias, shift = self.whole()
        return exact.exact_conv(x, weight, bias) * exact.power_of_two(-shift - SHARP)


def check(module: nnx.Module) -> float:
    """The largest share of float32's whole numbers that the sums of a module's layers can take.

    ValueError if those of one may pass them.
    """
    graph, state = nnx.split(module)

    def layers(state):
        found = nnx.iter_graph(nnx.merge(graph, state))
        return [x.whole()[:2] for _, x in found if isinstance(x, WholeConv)]

    shares = [exact.check_budget(*layer, most=MOST) for layer in jax.jit(layers)(state)]
    return max(shares, default=0.0)


def whole(x: jax.Array, bits: int | np.ndarray) -> jax.Array:
    """`x 2^bits` as whole numbers within ±MOST: a layer's input. `bits` may be one a channel."""
    scale = np.exp2(np.asarray(bits, np.float32))
    return exact.round_through(jnp.clip(x * scale, -MOST, MOST))


def on_grid(x: jax.Array) -> jax.Array:
    """The nearest multiple of `2^-GRID`. Sums of these are exact while below 2^11 in size."""
    return exact.round_through(x * float(1 << GRID)) * (1 / (1 << GRID))


def softmax(logits: jax.Array) -> jax.Array:
    """Whole weights that add up to WEIGHTS or a little less, of whole `logits` in sixteenths.

    The exponentials come from a table and the quotients are those of integers. The gradient is the
    softmax's own.
    """
    below = jnp.max(logits, axis=-1, keepdims=True) - logits
    powers = jnp.asarray(_EXPONENTIALS)[jnp.minimum(below, 255).astype(jnp.int32)]
    weights = (WEIGHTS * powers // powers.sum(-1, keepdims=True)).astype(jnp.float32)
    smooth = WEIGHTS * nnx.softmax(logits / (1 << SHARP))
    return jax.lax.stop_gradient(weights) + (smooth - jax.lax.stop_gradient(smooth))
