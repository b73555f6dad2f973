"""The denoiser: boxes look at the field where they stand, at each other, and move.

Each box looks as far around itself as the noise may have moved it, at the scale that such a view
asks for, and may move as far: at late times it sees the whole picture coarsely, at early ones its
own surroundings in detail.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.cofnet.dense import PRIOR, box_scale
from jaxvision.nn.embed import fourier_features, sinusoidal

MARGIN = 1.2  # without noise, a box looks this much around itself
MIN_VIEW = 0.04  # … and at least this share of the image: a small box must see where it should be
REACH = 0.02  # and moves by its own size, but at least this share of the image
LEFT = 1 / 3  # the share of the noise that each round is taken to leave to the next


class RegionAttention(nnx.Module):
    """Each box attends to the points of its own region and to a coarse map of the whole image."""

    def __init__(self, width: int, points: int, heads: int, *, dtype, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, width, width, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (points, width)))
        self.heads, self.dtype = heads, dtype

    def __call__(self, slots: jax.Array, region: jax.Array, context: jax.Array) -> jax.Array:
        """`slots [b n d]`, `region [b n p d]`, `context [b c d]` -> `[b n d]`."""
        b, n, width = slots.shape
        per_head = (self.heads, width // self.heads)
        q = self.query(slots).reshape(b, n, *per_head) * per_head[1] ** -0.5
        own = region + self.position[...].astype(self.dtype)
        own_k, own_v = (f(own).reshape(b, n, -1, *per_head) for f in (self.key, self.value))
        all_k, all_v = (f(context).reshape(b, -1, *per_head) for f in (self.key, self.value))
        logits = jnp.concatenate(
            [jnp.einsum("bnhd,bnphd->bnhp", q, own_k), jnp.einsum("bnhd,bchd->bnhc", q, all_k)], -1
        )
        weights = nnx.softmax(logits.astype(jnp.float32)).astype(self.dtype)
        near, far = jnp.split(weights, [region.shape[2]], axis=-1)
        mixed = jnp.einsum("bnhp,bnphd->bnhd", near, own_v)
        mixed += jnp.einsum("bnhc,bchd->bnhd", far, all_v)
        return self.out(mixed.reshape(b, n, width))


class RefinerHead(nnx.Module):
    """One round: read the region, attend, predict a box delta and class logits."""

    def __init__(self, width: int, classes: int, *, points: int, bands: int, dtype, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, dtype=dtype, rngs=rngs)
        norm = functools.partial(nnx.LayerNorm, width, dtype=dtype, rngs=rngs)
        zero = nnx.initializers.zeros_init()
        heads = max(width // 32, 1)
        self.embed = nnx.Sequential(linear(8 * bands, width), nnx.gelu, linear(width, width))
        self.time = linear(width, 2 * width, kernel_init=zero)
        self.read = nnx.Sequential(
            linear(points**2 * width, 2 * width), nnx.gelu, linear(2 * width, width)
        )
        self.cross = RegionAttention(width, points**2, heads, dtype=dtype, rngs=rngs)
        self.self_attention = nnx.MultiHeadAttention(
            heads, width, dtype=dtype, decode=False, rngs=rngs
        )
        self.mlp = nnx.Sequential(linear(width, 2 * width), nnx.gelu, linear(2 * width, width))
        self.norms = nnx.List([norm() for _ in range(4)])
        bias = nnx.initializers.constant(float(-np.log(1 / PRIOR - 1)))
        self.delta = nnx.Linear(width, 4, kernel_init=nnx.initializers.normal(1e-3), rngs=rngs)
        self.classes = nnx.Linear(width, classes, bias_init=bias, rngs=rngs)
        self.points, self.bands = points, bands

    def __call__(self, slots, boxes, spread, time, neck, levels, context, canvas, mask=None):
        """-> slots `[b n d]`, deltas `[b n 4]`, logits `[b n k]`; `mask [n n]`, query by key.

        `spread [b n 1]` is the standard deviation of each box's noise, in sides of the image,
        `time [b n d]` the embedding of its time.
        """
        b, n, _ = boxes.shape
        region = self.look(boxes, spread, neck, levels, canvas)  # [b n p d]
        embedded = self.embed(fourier_features(boxes * 2 - 1, self.bands))
        slots = embedded if slots is None else slots + embedded
        gain, offset = jnp.split(self.time(time), 2, axis=-1)
        slots = slots * (1 + gain) + offset + self.read(region.reshape(b, n, -1))
        slots += self.cross(self.norms[0](slots), region, context)
        slots += self.self_attention(self.norms[1](slots), mask=mask)
        slots += self.mlp(self.norms[2](slots))
        out = self.norms[3](slots).astype(jnp.float32)
        return slots, self.delta(out), self.classes(out)

    def look(
        self, boxes: jax.Array, spread: jax.Array, neck, levels: Sequence[jax.Array], canvas
    ) -> jax.Array:
        """The field at a `points × points` grid over each box: `[b n 4]` -> `[b n points² d]`.

        The grid reaches over two standard deviations of the noise on each side.
        """
        b, n, _ = boxes.shape
        steps = (np.arange(self.points, dtype=np.float32) + 0.5) / self.points - 0.5
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        view = jnp.maximum(boxes[..., 2:] * MARGIN, MIN_VIEW) + 4 * spread
        points = boxes[..., None, :2] + grid * view[..., None, :]  # [b n p 2]
        scale = box_scale(view / MARGIN, canvas, len(levels))
        scale = jnp.broadcast_to(scale[..., None], points.shape[:-1])
        count = self.points**2
        values = neck.query(levels, points.reshape(b, n * count, 2), scale.reshape(b, n * count))
        return values.reshape(b, n, count, -1)


def move(boxes: jax.Array, delta: jax.Array, spread: jax.Array) -> jax.Array:
    """Shifts centres, scales sides by up to e^±2, stays in the image.

    A centre moves by up to the box's size and two standard deviations of the noise.
    """
    reach = jnp.maximum(boxes[..., 2:], REACH) + 2 * spread
    center = boxes[..., :2] + jnp.tanh(delta[..., :2]) * reach
    size = boxes[..., 2:] * jnp.exp(jnp.clip(delta[..., 2:], -2, 2))
    return jnp.concatenate([jnp.clip(center, 0, 1), jnp.clip(size, 2e-3, 1)], axis=-1)


class BoxRefiner(nnx.Module):
    """Rounds of `RefinerHead`, each from the boxes of the last, whose gradient stops there."""

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        rounds: int = 3,
        points: int = 3,
        bands: int = 6,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        make = functools.partial(RefinerHead, width, classes, points=points, bands=bands)
        self.heads = nnx.List([make(dtype=dtype, rngs=rngs) for _ in range(rounds)])
        self.time = nnx.Sequential(
            nnx.Linear(width, width, dtype=dtype, rngs=rngs),
            nnx.gelu,
            nnx.Linear(width, width, dtype=dtype, rngs=rngs),
            nnx.gelu,
        )
        self.context = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.width = width

    def __call__(self, boxes, spread, t, neck, levels, canvas, mask=None):
        """`boxes [b n 4]` (centres), `t [b n]` -> each round's boxes and logits, the last delta.

        `spread [b n 1]` is the standard deviation of the boxes' noise at t.
        """
        time = self.time(sinusoidal(t, self.width))
        coarse = levels[-1]
        context = self.context(coarse.reshape(coarse.shape[0], -1, coarse.shape[-1]))
        slots, all_boxes, all_logits = None, [], []
        for head in self.heads:
            read = (spread, time, neck, levels, context, canvas, mask)
            slots, delta, logits = head(slots, boxes, *read)
            moved = move(boxes, delta, spread)
            all_boxes.append(moved)
            all_logits.append(logits)
            boxes, spread = jax.lax.stop_gradient(moved), spread * LEFT
        return all_boxes, all_logits, delta
