"""CompressorVNVC: latents to whole numbers, and the probabilities that their coder needs."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.entropy import gaussian
from jaxvision.entropy.exact import round_through
from jaxvision.wavenet_mv.scales import LEVELS, MOST, ScaleNet, scale_of, seen
from jaxvision.wavenet_mv.wavelet import conv

LAMBDAS = (256, 512, 1024)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """`lambdas` are the qualities of one model: one, or several with gain units between them.

    `sigma="channel"` has one learned scale a channel, the seed's; `"hyper"` has side information
    `[b h/4 w/4 hyper]` and, for finer groups, the coarser ones that are decoded already.
    """

    latents: int = 128
    lambdas: tuple[int, ...] = LAMBDAS
    sigma: Literal["hyper", "channel"] = "hyper"
    hyper: int = 16
    width: int = 64  # of the scale networks

    def __post_init__(self):
        if self.sigma not in ("hyper", "channel"):
            raise ValueError(f"compressor.sigma={self.sigma!r} is neither 'hyper' nor 'channel'")
        if not self.lambdas or list(self.lambdas) != sorted(set(self.lambdas)):
            raise ValueError(f"compressor.lambdas={self.lambdas} must rise")
        if self.lambdas[0] <= 0:
            raise ValueError(f"compressor.lambdas={self.lambdas} must be above 0")
        for name in ("latents", "hyper", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"compressor.{name}={getattr(self, name)} must be at least 1")


class Coded(NamedTuple):
    """Decoded latents, and bits by group `[b]`: side information first."""

    latents: list[jax.Array]
    bits: list[jax.Array]


class Compressor(nnx.Module):
    """Latents by group `[b h w k]` <-> whole numbers; and the bits that these take."""

    def __init__(self, sizes: tuple[int, ...], cfg: CompressorConfig, *, rngs: nnx.Rngs):
        self.cfg, self.sizes = cfg, sizes
        total = sum(sizes)
        self.gains = nnx.Param(jnp.stack([jnp.full((total,), first_gain(x)) for x in cfg.lambdas]))
        if cfg.sigma == "channel":
            self.channel_index = nnx.Param(jnp.full((total,), 20.0))
            return
        self.analysis1 = conv(total, 64, 3, rngs=rngs)
        self.analysis2 = nnx.Conv(64, 64, (3, 3), strides=2, rngs=rngs)
        self.analysis3 = nnx.Conv(64, cfg.hyper, (3, 3), strides=2, rngs=rngs)
        self.hyper_index = nnx.Param(jnp.full((cfg.hyper,), 30.0))
        known = [cfg.hyper + sum(sizes[:i]) for i in range(len(sizes))]
        nets = [
            ScaleNet(k, n, width=cfg.width, start=20, rngs=rngs)
            for k, n in zip(known, sizes, strict=True)
        ]
        self.scales = nnx.List(nets)

    def gain(self, quality: jax.Array) -> list[jax.Array]:
        """Steps per unit of each group's channels at qualities `[b]` in 0 … len(lambdas) - 1.

        Between two qualities the gains' logarithms are interpolated (Cui et al. 2021, eq. 7).
        """
        last = len(self.cfg.lambdas) - 1
        at = jnp.clip(quality, 0, last)
        low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, max(last - 1, 0))
        part = (at - low)[:, None]
        high = jnp.minimum(low + 1, last)
        logs = (1 - part) * self.gains[low] + part * self.gains[high]
        gains = jnp.exp(logs)[:, None, None]
        return jnp.split(gains, np.cumsum(self.sizes)[:-1].tolist(), axis=-1)

    def train(self, latents: list[jax.Array], quality: jax.Array, key: jax.Array) -> Coded:
        """Noise for rounding in what is decoded and in its bits; rounded in what is known of it."""
        keys = jax.random.split(key, len(latents) + 1)
        gains = self.gain(quality)
        steps = [x * g for x, g in zip(latents, gains, strict=True)]
        known, bits = self._side(steps, keys[-1])
        decoded = []
        for i, (x, g) in enumerate(zip(steps, gains, strict=True)):
            noisy = gaussian.noisy(x, keys[i])
            scale = scale_of(self._index(i, known, x.shape))
            bits.append(_sum(gaussian.bits(gaussian.likelihood(noisy, scale))))
            decoded.append(noisy / g)
            known = _add(known, jax.lax.stop_gradient(jnp.round(x)))
        return Coded(decoded, bits)

    def symbols(self, latents: list[jax.Array], quality: jax.Array) -> list[jax.Array]:
        """The whole numbers to be coded, float32: side information first if there is any."""
        steps = [x * g for x, g in zip(latents, self.gain(quality), strict=True)]
        side = [] if self.cfg.sigma == "channel" else [jnp.round(self._hyper(steps))]
        return side + [jnp.round(x) for x in steps]

    def latents(self, symbols: list[jax.Array], quality: jax.Array) -> list[jax.Array]:
        """What `symbols` without the side information stand for; a prefix of the groups will do."""
        return [x / g for x, g in zip(symbols, self.gain(quality), strict=False)]

    def side_index(self, shape: tuple[int, ...]) -> jax.Array:
        """Table rows of the side information, int32."""
        return jnp.broadcast_to(_whole(self.hyper_index[...]).astype(jnp.int32), shape)

    def index(self, known: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
        """Table rows of the group after those `known` (side information first), int32 `shape`."""
        joined = None
        for i, x in enumerate(known):
            joined = _spread(x, shape) if i == 0 else _add(joined, x)
        i = len(known) - (self.cfg.sigma == "hyper")
        if self.cfg.sigma == "channel":
            joined = None
        return self._index(i, joined, shape).astype(jnp.int32)

    def bits(self, symbols: list[jax.Array]) -> list[jax.Array]:
        """Bits `[b]` of each of the `symbols` by the scales that a file's tables are made from."""
        bits = []
        for i, x in enumerate(symbols):
            side = i == 0 and self.cfg.sigma == "hyper"
            rows = self.side_index(x.shape) if side else self.index(symbols[:i], x.shape)
            bits.append(_sum(gaussian.bits(gaussian.likelihood(x, scale_of(rows)))))
        return bits

    def check(self) -> float:
        """Raises ValueError if another machine might find other indexes."""
        return max(net.check() for net in self.scales) if self.cfg.sigma == "hyper" else 0.0

    def _index(self, i, known, shape):
        if self.cfg.sigma == "channel":
            first = sum(self.sizes[:i])
            index = self.channel_index[first : first + self.sizes[i]]
            return jnp.broadcast_to(_whole(index), shape)
        return self.scales[i](known)

    def _hyper(self, steps):
        x = jnp.log1p(abs(jnp.concatenate(steps, axis=-1)))
        x = nnx.relu(self.analysis2(nnx.relu(self.analysis1(x))))
        return self.analysis3(x)

    def _side(self, steps, key):
        if self.cfg.sigma == "channel":
            return None, []
        z = self._hyper(steps)
        noisy = gaussian.noisy(z, key)
        scale = scale_of(_whole(self.hyper_index[...]))
        bits = _sum(gaussian.bits(gaussian.likelihood(noisy, scale)))
        return _spread(round_through(z), steps[0].shape), [bits]


def first_gain(weight: float) -> float:
    """The logarithm of steps per unit at which an orthonormal transform is best at high rates.

    `weight MSE + bits a pixel`, MSE over three colours: a step Δ costs `weight Δ² / 36` and saves
    log2 Δ bits a number, so `Δ² = 18 / (weight ln 2)`.
    """
    return -0.5 * float(np.log(18 / (weight * np.log(2))))


def _whole(index):
    return round_through(jnp.clip(index, 0, LEVELS - 1))


def _add(known, decoded):
    return None if known is None else jnp.concatenate([known, seen(decoded)], axis=-1)


def _spread(z, shape):
    """`[b h/4 w/4 c] -> [b h w c]`: side information at every latent's place, from 0."""
    z = jnp.clip(z + (MOST + 1) // 2, 0, MOST)
    for axis in (1, 2):
        z = jnp.repeat(z, 4, axis=axis)
    return z[:, : shape[1], : shape[2]]


def _sum(bits):
    return bits.sum((1, 2, 3))
