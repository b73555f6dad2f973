"""AdaMixNet: parallel filters mixed by attention; and the bands' way into latents and back."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from jaxvision.wavenet_mv.wavelet import Bands, conv

BRANCHES = 4


class AdaMixNet(nnx.Module):
    """`[b h w c] -> [b h w out]`: of `BRANCHES` 3×3 filters, each on its own share of the channels,
    a sum by weights that a softmax takes from all of them, position by position; then 1×1.

    c is the seed's 4C'; a branch has c / 8 features, the seed's C'/2. The last layer starts at
    zero, for what it adds to.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        features: int | None = None,
        zero: bool = True,
        rngs: nnx.Rngs,
    ):
        if channels % BRANCHES:
            raise ValueError(f"AdaMixNet: {channels} channels do not split in {BRANCHES} branches")
        features = max(1, channels // 8) if features is None else features
        share = channels // BRANCHES
        self.branches = nnx.List([conv(share, features, 3, rngs=rngs) for _ in range(BRANCHES)])
        self.attention = conv(channels, 64, 3, rngs=rngs)
        self.logits = conv(64, BRANCHES, 1, rngs=rngs)
        self.out = conv(features, out, 1, zero=zero, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        shares = jnp.split(x, BRANCHES, axis=-1)
        filtered = [nnx.relu(f(s)) for f, s in zip(self.branches, shares, strict=True)]
        weights = nnx.softmax(self.logits(nnx.relu(self.attention(x))))
        return self.out(jnp.einsum("bhwnf,bhwn->bhwf", jnp.stack(filtered, axis=-2), weights))


def to_grid(band: jax.Array, factor: int) -> jax.Array:
    """A finer level's band on the coarsest grid: `[b (h f) (w f) c]` -> `[b h w (f f c)]`."""
    return rearrange(band, "b (h i) (w j) c -> b h w (i j c)", i=factor, j=factor)


def from_grid(x: jax.Array, factor: int) -> jax.Array:
    """The inverse of `to_grid`."""
    return rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=factor, j=factor)


def group_sizes(channels: int, levels: int) -> list[int]:
    """Numbers on the coarsest grid: the lowest band with the coarsest level's, then each finer."""
    return [4 * channels, *(3 * channels * 4**i for i in range(1, levels))]


def kept_channels(channels: int, levels: int, latents: int) -> list[np.ndarray]:
    """Which of each group's channels an untrained mixer keeps, so that `latents` hold the most.

    Coarse groups whole; of the finest the luminance first, then the other colours, LH and HL
    before HH.
    """
    sizes = group_sizes(channels, levels)
    left = latents - sum(sizes[:-1])
    if left < 1:
        raise ValueError(
            f"{latents} latents do not hold the {sum(sizes[:-1])} numbers of the coarser levels; "
            "take more latents or fewer levels"
        )
    place = np.arange(sizes[-1])
    colour, band = place % channels, place // channels % 3
    if levels == 1:  # the lowest band is in this group, before the three
        band = place // channels % 4 - 1
    order = np.lexsort((place, band == 2, colour))
    finest = np.sort(order[: min(left, sizes[-1])])
    return [*map(np.arange, sizes[:-1]), finest]


class Mixer(nnx.Module):
    """Bands <-> latents `[b h w k]` a group, on the grid of the coarsest level.

    Both ways a fixed choice of channels, to which AdaMixNets add: an untrained mixer is that
    choice, and loses only what there is no room for. The way back takes for a level's bands its
    own latents and coarser ones alone, so that a prefix of the groups gives a smaller picture.
    """

    def __init__(self, channels: int, levels: int, latents: int, *, rngs: nnx.Rngs):
        self.levels = levels
        self.kept = tuple(map(tuple, kept_channels(channels, levels, latents)))
        self.bands = tuple(group_sizes(channels, levels))
        total = sum(self.bands)
        self.sizes = tuple(map(len, self.kept))
        self.analysis = AdaMixNet(total, sum(self.sizes), rngs=rngs)
        self.synthesis = nnx.List(
            [
                AdaMixNet(_up(known), bands, features=32, rngs=rngs)
                for known, bands in zip(np.cumsum(self.sizes).tolist(), self.bands, strict=True)
            ]
        )

    def forward(self, bands: Bands) -> list[jax.Array]:
        groups = self._groups(bands)
        more = self.analysis(jnp.concatenate(groups, axis=-1))
        more = jnp.split(more, np.cumsum(self.sizes)[:-1].tolist(), axis=-1)
        kept = [x[..., list(k)] for x, k in zip(groups, self.kept, strict=True)]
        return [x + y for x, y in zip(kept, more, strict=True)]

    def inverse(self, latents: list[jax.Array]) -> Bands:
        """The bands of as many levels as there are groups of latents."""
        bands: Bands = []
        for i, x in enumerate(latents):
            known = jnp.concatenate(latents[: i + 1], axis=-1)
            known = jnp.pad(known, [(0, 0)] * 3 + [(0, _up(known.shape[-1]) - known.shape[-1])])
            group = jnp.zeros((*x.shape[:-1], self.bands[i]), x.dtype)
            group = group.at[..., np.array(self.kept[i])].set(x) + self.synthesis[i](known)
            if i == 0:
                channels = self.bands[0] // 4
                bands += [group[..., :channels], group[..., channels:]]
            else:
                bands.append(from_grid(group, 2**i))
        return bands

    def _groups(self, bands: Bands) -> list[jax.Array]:
        low, coarsest, *finer = bands
        first = jnp.concatenate([low, coarsest], axis=-1)
        return [first, *(to_grid(x, 2**i) for i, x in enumerate(finer, start=1))]


def _up(channels: int) -> int:
    """The next number that splits among the branches."""
    return -(-channels // BRANCHES) * BRANCHES
