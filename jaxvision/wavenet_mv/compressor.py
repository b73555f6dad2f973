"""CompressorVNVC: latents to whole numbers, and the probabilities that their coder needs."""

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.entropy import gaussian
from jaxvision.entropy.exact import round_through
from jaxvision.wavenet_mv import lifting, steps
from jaxvision.wavenet_mv.contexts import START, Context, board, index_of, scale_of, seen
from jaxvision.wavenet_mv.wavelet import Bands, conv
from jaxvision.wavenet_mv.whole import MOST, on_grid

LAMBDAS = (256, 512, 1024)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """`lambdas` are the qualities of one model: one, or several with steps between them.

    The lowest of the `latents` goes through `deeper` more levels of the linear wavelet.
    `sigma="channel"` has one learned scale a channel, the recipe's; `"hyper"` takes it from side
    information of `hyper` channels on the coarsest grid, and from what is decoded already. Numbers
    smaller than `dead_zone` steps become 0, others are rounded. In a file, a number is whatever
    costs least: its squared error, in steps, and `thrift` for each bit that it then takes.
    """

    latents: int = 128
    deeper: int = 2
    lambdas: tuple[int, ...] = LAMBDAS
    sigma: Literal["hyper", "channel"] = "hyper"
    hyper: int = 16
    width: int = 32  # of the networks of scales
    dead_zone: float = 0.6
    thrift: float = 0.08

    def __post_init__(self):
        if self.sigma not in ("hyper", "channel"):
            raise ValueError(f"compressor.sigma={self.sigma!r} is neither 'hyper' nor 'channel'")
        if not self.lambdas or list(self.lambdas) != sorted(set(self.lambdas)):
            raise ValueError(f"compressor.lambdas={self.lambdas} must rise")
        if self.lambdas[0] <= 0:
            raise ValueError(f"compressor.lambdas={self.lambdas} must be above 0")
        if not 0.5 <= self.dead_zone < 1:
            raise ValueError(f"compressor.dead_zone={self.dead_zone} must be from 0.5 to below 1")
        for name in ("deeper", "thrift"):
            if getattr(self, name) < 0:
                raise ValueError(f"compressor.{name}={getattr(self, name)} must be at least 0")
        for name in ("latents", "hyper", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"compressor.{name}={getattr(self, name)} must be at least 1")


class Coded(NamedTuple):
    """Decoded latents, and bits `[b]`: of the side information if there is any, then by plane."""

    latents: Bands
    bits: list[jax.Array]


class CompressorVNVC(nnx.Module):
    """Latents <-> planes of whole numbers, coarse to fine, each on a grid twice the last one's.

    The coarsest plane has the lowest band and its level's, the others one level's. `sizes` are the
    latents' channels.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        cfg: CompressorConfig,
        *,
        wavelet: lifting.Wavelet,
        kept: tuple[int, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        self.cfg, self.wavelet, self.sizes = cfg, wavelet, sizes
        low, *highs = sizes
        self.deeper = cfg.deeper if highs else 0
        highs = [3 * low] * self.deeper + highs
        self.planes = (low + highs[0], *highs[1:]) if highs else (low,)
        self.coarser = 1 if highs else 4  # the side information's grid, beside the coarsest plane's
        norms = _norms(wavelet, low, len(highs), kept) if highs else np.ones(low)
        self.steps = nnx.Param(steps.first(np.asarray(cfg.lambdas), norms))
        if cfg.sigma == "channel":
            self.channel_index = nnx.Param(jnp.full((sum(self.planes),), START))
            return
        self.analysis1 = conv(sum(self.planes), 64, 3, rngs=rngs)
        self.analysis2 = conv(64, cfg.hyper, 3, rngs=rngs)
        self.side_index = nnx.Param(jnp.full((cfg.hyper,), START))
        known = [cfg.hyper, *(cfg.width + n for n in self.planes[:-1])]
        self.contexts = nnx.List(
            [
                Context(k, n, width=cfg.width, enlarged=i > 0, rngs=rngs)
                for i, (k, n) in enumerate(zip(known, self.planes, strict=True))
            ]
        )

    def train(self, latents: Bands, quality: jax.Array, key: jax.Array) -> Coded:
        """Rounded, with gradients: of the bits to the latents by noise in place of rounding."""
        sizes = self._steps(quality)
        planes = [x / s for x, s in zip(self.split(latents), sizes, strict=True)]
        symbols = [self._rounded(x) for x in planes]
        side, noise = self._noise(planes, key)
        known, bits = self._side(planes, side)
        for i, (x, y) in enumerate(zip(planes, symbols, strict=True)):
            index, known = self._both(i, known, y)
            scale = scale_of(index)
            hard = _bits(y, scale)
            soft = _bits(x + noise[i], jax.lax.stop_gradient(scale))
            bits.append(_sum(hard + soft - jax.lax.stop_gradient(soft)))
        through = [x + jax.lax.stop_gradient(y - x) for x, y in zip(planes, symbols, strict=True)]
        return Coded(self.join([x * s for x, s in zip(through, sizes, strict=True)]), bits)

    def symbols(self, latents: Bands, quality: jax.Array) -> list[jax.Array]:
        """The whole numbers to be coded, float32: side information first if there is any."""
        return self.chosen(self.in_steps(latents, quality))

    def in_steps(self, latents: Bands, quality: jax.Array) -> list[jax.Array]:
        """The side information, if there is any, and planes before they become whole numbers."""
        sizes = self._steps(quality)
        planes = [x / s for x, s in zip(self.split(latents), sizes, strict=True)]
        side = [] if self.cfg.sigma == "channel" else [jnp.round(self._hyper(planes))]
        return side + planes

    def rounded(self, numbers: list[jax.Array]) -> list[jax.Array]:
        """Whole numbers of those `in_steps`, each for itself, as in training."""
        begin = len(numbers) - len(self.planes)
        return numbers[:begin] + list(map(self._rounded, numbers[begin:]))

    def chosen(self, numbers: list[jax.Array]) -> list[jax.Array]:
        """Whole numbers of those `in_steps`, of a picture or a tile: what costs least to code."""
        rows, begin = self.indexes(self.rounded(numbers)), len(numbers) - len(self.planes)
        planes = zip(numbers[begin:], rows[begin:], strict=True)
        return numbers[:begin] + [self._thrifty(x, row) for x, row in planes]

    def latents(self, planes: list[jax.Array], quality: jax.Array) -> Bands:
        """What whole numbers stand for; without the finest planes, the coarser latents."""
        sizes = self._steps(quality)
        return self.join([x * s for x, s in zip(planes, sizes, strict=False)])

    def indexes(self, symbols: list[jax.Array]) -> list[jax.Array]:
        """Rows of the tables for all `symbols` of a picture, int32."""
        if self.cfg.sigma == "channel":
            return [self.first_index(i, None, x.shape)[1] for i, x in enumerate(symbols)]
        side, *planes = symbols
        found, known = [self.index_of_side(side.shape)], self.start(side)
        for i, x in enumerate(planes):
            index, known = self._both(i, known, x)
            found.append(index.astype(jnp.int32))
        return found

    def index_of_side(self, shape: tuple[int, ...]) -> jax.Array:
        """Rows for the side information, int32."""
        return jnp.broadcast_to(index_of(self.side_index[...]).astype(jnp.int32), shape)

    def start(self, side: jax.Array) -> jax.Array:
        """What the coarsest plane's context knows: the side information, from 0."""
        z = jnp.clip(side + (MOST + 1) // 2, 0, MOST)
        for axis in (1, 2):
            z = jnp.repeat(z, self.coarser, axis=axis)
        return z

    def first_index(self, i: int, known, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Features of plane i, and rows int32 for its first pass."""
        if self.cfg.sigma == "channel":
            first = sum(self.planes[:i])
            index = index_of(self.channel_index[first : first + self.planes[i]])
            return known, jnp.broadcast_to(index, shape).astype(jnp.int32)
        features = self.contexts[i].features(known)
        return features, self.contexts[i].first_index(features).astype(jnp.int32)

    def second_index(self, i: int, features, symbols: jax.Array) -> jax.Array:
        """Rows int32 for the second pass, of which `symbols` need only have the first."""
        if self.cfg.sigma == "channel":
            return self.first_index(i, None, symbols.shape)[1]
        return self.contexts[i].second_index(features, symbols).astype(jnp.int32)

    def onward(self, features, symbols: jax.Array):
        """What the next plane's context knows of this one's."""
        if self.cfg.sigma == "channel":
            return None
        return jnp.concatenate([features, seen(symbols)], axis=-1)

    def bits(self, symbols: list[jax.Array]) -> list[jax.Array]:
        """Bits `[b]` of each of the `symbols` by the scales that a file's tables are made from."""
        return [
            _sum(_bits(x, scale_of(rows)))
            for x, rows in zip(symbols, self.indexes(symbols), strict=True)
        ]

    def split(self, latents: Bands) -> list[jax.Array]:
        """Latents -> planes."""
        low, *highs = latents
        if not highs:
            return [low]
        for _ in range(self.deeper):
            low, high = lifting.forward(low, self.wavelet)
            highs.insert(0, high)
        return [jnp.concatenate([low, highs[0]], axis=-1), *highs[1:]]

    def join(self, planes: list[jax.Array]) -> Bands:
        """The inverse of `split`, on the grid; without the finest planes, the coarser latents."""
        planes = list(map(on_grid, planes))
        if len(self.sizes) == 1:
            return planes
        channels = self.sizes[0]
        low, highs = planes[0][..., :channels], [planes[0][..., channels:], *planes[1:]]
        for high in highs[: self.deeper]:
            low = lifting.inverse(low, high, self.wavelet, rounded=on_grid)
        return [low, *highs[self.deeper :]]

    def _steps(self, quality):
        each = steps.at(self.steps[...], quality)[:, None, None]
        return jnp.split(each, np.cumsum(self.planes)[:-1].tolist(), axis=-1)

    def _rounded(self, x):
        small = abs(x) < self.cfg.dead_zone
        return jax.lax.stop_gradient(jnp.where(small, 0, jnp.round(x)))

    def _thrifty(self, x, rows):
        """Each number rounded, one nearer to 0 than that, or 0: what costs least by the rows."""
        size = abs(x)
        nearest = jnp.round(size)
        choices = jnp.stack([nearest, jnp.maximum(nearest - 1, 0), jnp.zeros_like(size)])
        costs = jnp.square(size - choices) + self.cfg.thrift * _bits(choices, scale_of(rows))
        best = jnp.argmin(costs, axis=0, keepdims=True)  # of equals the first
        return jnp.sign(x) * jnp.take_along_axis(choices, best, axis=0)[0]

    def _both(self, i, known, symbols):
        """Whole indexes of a plane, differentiable, and what the next one knows."""
        if self.cfg.sigma == "channel":
            first = sum(self.planes[:i])
            index = index_of(self.channel_index[first : first + self.planes[i]])
            return jnp.broadcast_to(index, symbols.shape), None
        context = self.contexts[i]
        features = context.features(known)
        first = context.first_index(features)
        second = context.second_index(features, symbols)
        index = jnp.where(board(symbols.shape), first, second)
        return index, self.onward(features, symbols)

    def _hyper(self, planes):
        height, width = (-(-n // self.coarser) for n in planes[0].shape[1:3])
        pooled = []
        for x in planes:
            x = jnp.log1p(abs(x))
            pads = [(0, -n % m) for n, m in zip(x.shape[1:3], (height, width), strict=True)]
            x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
            shape = (x.shape[0], height, x.shape[1] // height, width, -1, x.shape[3])
            pooled.append(x.reshape(shape).mean((2, 4)))
        x = jnp.concatenate(pooled, axis=-1)
        return self.analysis2(nnx.relu(self.analysis1(x)))

    def _side(self, planes, noise):
        if self.cfg.sigma == "channel":
            return None, []
        z = self._hyper(planes)
        scale = scale_of(index_of(self.side_index[...]))
        bits = _sum(_bits(z + noise, scale))
        return self.start(round_through(z)), [bits]

    def _noise(self, planes, key):
        """Of a step's width, for the side information and each plane; drawn at once."""
        first = planes[0].shape
        side = [-(-n // self.coarser) for n in first[1:3]]
        shapes = [(first[0], *side, self.cfg.hyper), *(x.shape for x in planes)]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        drawn = jax.random.uniform(key, (int(ends[-1]),), minval=-0.5, maxval=0.5)
        parts = jnp.split(drawn, ends[:-1].tolist())
        side, *rest = (x.reshape(shape) for x, shape in zip(parts, shapes, strict=True))
        return side, rest


def _norms(wavelet, channels, levels, kept):
    """Of all planes' channels: how much a unit of each changes a picture."""
    found = [np.repeat(x, channels) for x in lifting.norms(wavelet, levels)]
    if kept is not None:
        found[-1] = found[-1][list(kept)]
    return np.concatenate(found)


def _bits(x, scale):
    """Of each number; a table of 16 bits, and the escape beyond it, hold no less than 2^-16."""
    return gaussian.bits(gaussian.likelihood(x, scale, floor=2.0**-16))


def _sum(bits):
    return bits.sum((1, 2, 3))
