"""Which scale each number's Gaussian has, from what is decoded already: nets of whole numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from jaxvision.entropy import exact
from jaxvision.entropy.gaussian import scale_table
from jaxvision.wavenet_mv.whole import MOST, SHARP, WholeConv

LOW, LEVELS = 0.11, 64
SCALES = scale_table(LOW, 256.0, LEVELS)
STEP = float(np.log(SCALES[1] / SCALES[0]))
UNIT = 3  # bits: a network's 1 is 8 indexes, near an octave of the scale, to learn them faster
START = 2.5  # of an untrained network, in those units


class Context(nnx.Module):
    """The scale indexes of one level, `[b h w c]`, in two passes.

    Of the first pass, every other number as on a chessboard, they come from the coarser levels;
    of the second also from the numbers between them (as He et al. 2021, arXiv 2103.15306).
    `enlarged` says that what is known comes on a grid of half the size.
    """

    def __init__(self, known: int, channels: int, *, width: int, enlarged: bool, rngs: nnx.Rngs):
        self.channels, self.enlarged = channels, enlarged
        self.conv1 = WholeConv(known, width * (4 if enlarged else 1), 3, rngs=rngs)
        self.conv2 = WholeConv(width, width, 3, rngs=rngs)
        self.first = WholeConv(width, channels, 1, gain=0.1, rngs=rngs)
        self.around = WholeConv(width + channels, width, 3, rngs=rngs)
        self.second = WholeConv(width, channels, 1, gain=0.1, rngs=rngs)
        for layer in (self.first, self.second):
            layer.bias[...] = jnp.full((channels,), START)

    def features(self, known: jax.Array) -> jax.Array:
        """Whole numbers of the coarser grid, or of this -> `[b h w width]` of this."""
        x = self.conv1(known)
        if self.enlarged:
            x = rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=2, j=2)
        return self.conv2(x)

    def first_index(self, features: jax.Array) -> jax.Array:
        """Of all numbers, as far as the coarser levels tell; whole, float32."""
        return _index(self.first, features)

    def second_index(self, features: jax.Array, symbols: jax.Array) -> jax.Array:
        """Of all numbers, knowing those `symbols` of the first pass; others may be anything."""
        known = jnp.where(board(symbols.shape), seen(symbols), 0)
        x = self.around(jnp.concatenate([features, known], axis=-1))
        return _index(self.second, x)


def _index(layer, x):
    weight, bias, shift = layer.whole()
    sums = exact.exact_conv(x, weight, bias)
    return exact.rescale(sums, shift + SHARP - UNIT, low=0, high=LEVELS - 1)


def index_of(value: jax.Array) -> jax.Array:
    """The whole index that a parameter of its own stands for, in networks' units."""
    return exact.round_through(jnp.clip(value * 2.0**UNIT, 0, LEVELS - 1))


def board(shape: tuple[int, ...]) -> np.ndarray:
    """The chessboard's fields of the first pass, bool `[h w 1]`."""
    rows, columns = np.indices(shape[1:3])
    return ((rows + columns) % 2 == 0)[..., None]


def scale_of(index: jax.Array) -> jax.Array:
    """The scale that a whole index stands for, differentiable in the index."""
    return LOW * jnp.exp(STEP * index)


def seen(symbols: jax.Array) -> jax.Array:
    """Decoded numbers as a network's input: their sizes in whole numbers 0 … MOST.

    Small ones are told apart finely, large ones not: 16 a unit up to 8.
    """
    return jnp.minimum(16.0 * abs(symbols), MOST)
