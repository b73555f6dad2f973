"""Continuous scale field, and the feature pyramid it is compared with.

They differ in how they are read: the field at any scale between its maps, the pyramid at the
nearest. Both are *necks*: `levels(features)` once an image, then `query(levels, points, scales)`
anywhere. Scale s runs from 0 (the finest map) to 1 (the coarsest); points are (x, y) in [0, 1] of
the image.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.nn.embed import Siren, fourier_features


def sample(level: jax.Array, points: jax.Array) -> jax.Array:
    """Bilinear values of `[b h w c]` at `points [b q 2]` (x, y in [0, 1]): `[b q c]`.

    Cell (0, 0) has its centre at (0.5/w, 0.5/h); outside the map the border continues.
    """
    b, h, w, c = level.shape
    x = jnp.clip(points[..., 0] * w - 0.5, 0, w - 1)
    y = jnp.clip(points[..., 1] * h - 0.5, 0, h - 1)
    x0 = jnp.clip(jnp.floor(x), 0, max(w - 2, 0))
    y0 = jnp.clip(jnp.floor(y), 0, max(h - 2, 0))
    ax, ay = (x - x0)[..., None], (y - y0)[..., None]
    right, below = min(1, w - 1), min(1, h - 1)
    corner = (y0 * w + x0).astype(jnp.int32)
    flat = level.reshape(b, h * w, c)

    def at(offset):
        index = (corner + offset)[..., None]
        return jnp.take_along_axis(flat, index, axis=1, mode="promise_in_bounds")

    top = at(0) * (1 - ax) + at(right) * ax
    bottom = at(below * w) * (1 - ax) + at(below * w + right) * ax
    return (top * (1 - ay) + bottom * ay).astype(level.dtype)


def _resize(level: jax.Array, hw: tuple[int, int]) -> jax.Array:
    """The bilinear values of a level at another's cell centres: `sample` on a grid, but cheap."""
    b, h, w, c = level.shape
    if (h, w) == hw:
        return level
    if h > hw[0]:  # a coarse cell's centre lies between the four middle ones of its finer cells
        k = h // hw[0]
        i = k // 2 - 1
        rows = level[:, i::k] + level[:, i + 1 :: k]
        return (rows[:, :, i::k] + rows[:, :, i + 1 :: k]) / 4
    return jax.image.resize(level, (b, *hw, c), "linear")


class Pyramid(nnx.Module):
    """Maps of one width, each with what the coarser ones know: Lin et al. 2017 (FPN), section 3.

    `[b h_l w_l dims[l]]` -> `[b h_l w_l width]`.
    """

    def __init__(self, dims: Sequence[int], width: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.lateral = nnx.List([nnx.Linear(d, width, dtype=dtype, rngs=rngs) for d in dims])
        self.smooth = nnx.List(
            [nnx.Conv(width, width, (3, 3), dtype=dtype, rngs=rngs) for _ in dims]
        )

    def __call__(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        maps = [f(x) for f, x in zip(self.lateral, features, strict=True)]
        for i in range(len(maps) - 2, -1, -1):
            maps[i] += jax.image.resize(maps[i + 1], maps[i].shape, "nearest")
        return [f(x) for f, x in zip(self.smooth, maps, strict=True)]


class ContinuousScaleField(nnx.Module):
    """Features at any position and any scale, from the maps of a pyramid.

    F(x, y, s) = FiLM_s(LN(Σ_l w_l(s) · bilinear(level_l, x, y))), with
    w(s) = softmax(-κ (s (L-1) - l)² + MLP(e(s))) and e(s) = SIREN(fourier(s)): at s = l/(L-1) it is
    close to level l of a pyramid, between levels it interpolates.
    """

    sharpness = 4.0  # κ: a level two steps away weighs e^-16 before learning

    def __init__(
        self, dims: Sequence[int], width: int, *, bands: int = 6, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        zero = nnx.initializers.zeros_init()
        self.pyramid = Pyramid(dims, width, dtype=dtype, rngs=rngs)
        self.encoder = Siren(2 * bands, width, rngs=rngs)
        self.level_logits = nnx.Linear(width, len(dims), kernel_init=zero, rngs=rngs)
        self.film = nnx.Linear(width, 2 * width, kernel_init=zero, rngs=rngs)
        self.norm = nnx.LayerNorm(width, use_bias=False, use_scale=False, rngs=rngs)
        self.bands, self.dtype = bands, dtype

    def levels(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """`[b h_l w_l dims[l]]` -> `[b h_l w_l width]`."""
        return self.pyramid(features)

    def _scale(self, scales: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        embedding = self.encoder(fourier_features(scales[..., None], self.bands))
        count = self.level_logits.out_features
        distance = scales[..., None] * (count - 1) - np.arange(count, dtype=np.float32)
        weights = nnx.softmax(self.level_logits(embedding) - self.sharpness * distance**2)
        gain, offset = jnp.split(self.film(embedding), 2, axis=-1)
        return weights, 1 + gain, offset

    def _blend(self, values: Sequence[jax.Array], scale) -> jax.Array:
        weights, gain, offset = scale
        mixed = sum(v.astype(jnp.float32) * weights[..., i, None] for i, v in enumerate(values))
        return (self.norm(mixed) * gain + offset).astype(self.dtype)

    def query(self, levels: Sequence[jax.Array], points: jax.Array, scales: jax.Array) -> jax.Array:
        """`points [b q 2]`, `scales [b q]` or `[q]` -> `[b q width]`."""
        return self._blend([sample(level, points) for level in levels], self._scale(scales))

    def grid(self, levels: Sequence[jax.Array], index: int) -> jax.Array:
        """The field on the cells of level `index`, at that level's scale: `[b h w width]`."""
        hw = levels[index].shape[1:3]
        scale = self._scale(jnp.asarray(index / max(len(levels) - 1, 1), jnp.float32))
        return self._blend([_resize(level, hw) for level in levels], scale)

    def __call__(
        self, features: Sequence[jax.Array], scales: jax.Array, points: jax.Array | None = None
    ) -> jax.Array:
        """`scales [q]` or `[b q]` -> `[b q width]`: at `points [b q 2]`, else the mean position."""
        levels = self.levels(features)
        if points is not None:
            return self.query(levels, points, scales)
        means = [level.mean((1, 2))[:, None] for level in levels]  # [b 1 width]
        return self._blend(means, self._scale(jnp.atleast_1d(scales)))


class FeaturePyramid(nnx.Module):
    """Feature pyramid network of the same interface: a query reads its nearest level.

    Lin et al. 2017 (FPN), eq. 1.
    """

    def __init__(self, dims: Sequence[int], width: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.pyramid = Pyramid(dims, width, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def levels(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """`[b h_l w_l dims[l]]` -> `[b h_l w_l width]`."""
        return [self.norm(level) for level in self.pyramid(features)]

    def query(self, levels: Sequence[jax.Array], points: jax.Array, scales: jax.Array) -> jax.Array:
        """`points [b q 2]`, `scales [b q]` or `[q]` -> `[b q width]` of level round(s (L-1))."""
        nearest = jnp.round(scales * (len(levels) - 1))
        values = [sample(level, points) for level in levels]
        picked = [v * (nearest == i)[..., None].astype(v.dtype) for i, v in enumerate(values)]
        return sum(picked[1:], picked[0])

    def grid(self, levels: Sequence[jax.Array], index: int) -> jax.Array:
        """Level `index` itself: `[b h w width]`."""
        return levels[index]

    def __call__(
        self, features: Sequence[jax.Array], scales: jax.Array, points: jax.Array | None = None
    ) -> jax.Array:
        """As `ContinuousScaleField.__call__`."""
        levels, scales = self.levels(features), jnp.atleast_1d(scales)
        if points is None:
            levels = [level.mean((1, 2), keepdims=True) for level in levels]
            points = jnp.full((levels[0].shape[0], jnp.shape(scales)[-1], 2), 0.5)
        return self.query(levels, points, scales)
