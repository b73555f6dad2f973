"""AdaMixNet: parallel filters mixed by attention; and the bands' way into latents and back."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from jaxvision.entropy import exact
from jaxvision.wavenet_mv.wavelet import CORRECTION, HIGH, LOW, Bands
from jaxvision.wavenet_mv.whole import WEIGHTS, WholeConv, softmax, whole

BRANCHES = 4
_SHIFT = 7  # bits that WEIGHTS takes


class AdaMixNet(nnx.Module):
    """`[b h w c] -> [b h w out]`: of `BRANCHES` 3×3 filters, each on its own share of the channels,
    a sum by weights that a softmax takes from all of them, position by position; then 1×1.

    c is the recipe's 4C'; a branch has c / 8 features, the recipe's C'/2. Whole numbers throughout
    (`whole.py`): `bits` are those of each input channel, with `whole`. The last layer starts at
    `gain` times its usual size: 0 for what it adds to.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        bits: int | tuple[int, ...],
        features: int | None = None,
        gain: float = 0.0,
        rngs: nnx.Rngs,
    ):
        self.padding = -channels % BRANCHES
        channels += self.padding
        features = max(1, channels // 8) if features is None else features
        share = channels // BRANCHES
        self.bits = bits
        self.branches = nnx.List(
            [WholeConv(share, features, 3, rngs=rngs) for _ in range(BRANCHES)]
        )
        self.attention = WholeConv(channels, 64, 3, rngs=rngs)
        self.logits = WholeConv(64, BRANCHES, 1, rngs=rngs)
        self.out = WholeConv(features, out, 1, gain=gain, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.pad(whole(x, self.bits), [(0, 0)] * 3 + [(0, self.padding)])
        shares = jnp.split(x, BRANCHES, axis=-1)
        filtered = [f(s) for f, s in zip(self.branches, shares, strict=True)]
        weights = softmax(self.logits(self.attention(x), low=-128))
        mixed = sum(f * weights[..., i : i + 1] for i, f in enumerate(filtered))
        return self.out.value(exact.rescale(mixed, _SHIFT, low=0, high=WEIGHTS))


def to_grid(band: jax.Array, factor: int) -> jax.Array:
    """A finer level's band on the coarsest grid: `[b (h f) (w f) c]` -> `[b h w (f f c)]`."""
    return rearrange(band, "b (h i) (w j) c -> b h w (i j c)", i=factor, j=factor)


def from_grid(x: jax.Array, factor: int) -> jax.Array:
    """The inverse of `to_grid`."""
    return rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=factor, j=factor)


def kept_bands(channels: int, levels: int, latents: int) -> list[int]:
    """Which of the finest level's LH HL HH of each colour `latents` have room for.

    Coarser levels are kept whole; of the finest the luminance first, then the other colours, LH
    and HL before HH.
    """
    coarse = channels + sum(3 * channels * 4**i for i in range(levels - 1))
    each = 4 ** (levels - 1)
    room, over = divmod(latents - coarse, each)
    if over or not 1 <= room <= 3 * channels:
        fits = [coarse + each * k for k in range(1, 3 * channels + 1)]
        raise ValueError(f"compressor.latents={latents} is none of {fits}, which the levels leave")
    place = np.arange(3 * channels)
    order = np.lexsort((place, place // channels == 2, place % channels))
    return sorted(order[:room].tolist())


class Mixer(nnx.Module):
    """Bands <-> latents: `Bands` again, of which the finest may be fewer.

    Both ways a fixed choice of bands, to which AdaMixNets add what they see on the coarsest grid:
    an untrained mixer is that choice, and loses only what there is no room for. The way back takes
    for a level's bands its own latents and coarser ones alone, so that a prefix gives a smaller
    picture.
    """

    def __init__(self, channels: int, levels: int, latents: int, *, rngs: nnx.Rngs):
        self.kept = tuple(kept_bands(channels, levels, latents))
        self.bands = (channels, *[3 * channels] * levels)
        self.sizes = (*self.bands[:-1], len(self.kept))
        whole, kept = _numbers(self.bands), _numbers(self.sizes)
        self.analysis = AdaMixNet(
            sum(whole), sum(kept), bits=_bits(channels, sum(whole)), rngs=rngs
        )
        known = np.cumsum(kept)[1:].tolist()
        added = [whole[0] + whole[1], *whole[2:]]
        self.synthesis = nnx.List(
            [
                AdaMixNet(n, out, bits=_bits(channels, n), features=32, rngs=rngs)
                for n, out in zip(known, added, strict=True)
            ]
        )

    def forward(self, bands: Bands) -> Bands:
        more = CORRECTION * self.analysis(joined(bands))
        kept = [*bands[:-1], bands[-1][..., list(self.kept)]]
        return [x + y for x, y in zip(kept, parted(more, self.sizes), strict=True)]

    def inverse(self, latents: Bands, rounded=lambda x: x) -> Bands:
        """The bands of as many levels as there are latents for."""
        if len(latents) == 1:
            return latents
        bands: Bands = []
        for i, net in enumerate(self.synthesis[: len(latents) - 1]):
            own = latents[i + 1]
            more = rounded(CORRECTION * net(joined(latents[: i + 2])))
            if i == 0:
                low, more = jnp.split(more, [self.bands[0]], axis=-1)
                bands.append(latents[0] + low)
            more = from_grid(more, 2**i)
            if own.shape[-1] < more.shape[-1]:
                whole = jnp.zeros_like(more)
                own = whole.at[..., np.array(self.kept)].set(own)
            bands.append(own + more)
        return bands


def joined(bands: Bands) -> jax.Array:
    """All bands on the coarsest grid, `[b h w k]`."""
    return jnp.concatenate([bands[0], *(to_grid(x, 2**i) for i, x in enumerate(bands[1:]))], -1)


def parted(x: jax.Array, sizes: tuple[int, ...]) -> Bands:
    """The inverse of `joined`, for bands of `sizes` channels."""
    low, *highs = jnp.split(x, np.cumsum(_numbers(sizes))[:-1].tolist(), axis=-1)
    return [low, *(from_grid(h, 2**i) for i, h in enumerate(highs))]


def _numbers(channels):
    """How many numbers bands of so many channels have in a cell of the coarsest grid."""
    return [channels[0], *(n * 4**i for i, n in enumerate(channels[1:]))]


def _bits(low, total):
    """With which numbers of the coarsest grid enter a network, the lowest band's first."""
    return (LOW,) * low + (HIGH,) * (total - low)
