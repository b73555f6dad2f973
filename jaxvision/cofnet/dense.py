"""The dense head: one box and class scores for every cell of every level.

It is the recipe's "standard detection head" and the one-shot arm of the ablation, and its peaks are
the learned proposals that the diffusion refines. Anchor-free as in FCOS (Tian et al. 2019): a cell
answers for objects whose centre is in it or beside it and whose size suits its level.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.losses.boxes import box_loss, iou, to_corners
from jaxvision.losses.classification import quality_focal_loss

BASE = 4.0  # a box of BASE strides is a level's middle size
PRIOR = 0.01  # initial score, so that the many empty cells do not swamp the first steps
RADIUS = 1.0  # a cell is positive within this many strides of an object's centre
BAND = 0.75  # … and when the object's scale is within this many levels of its own


def box_scale(sizes: jax.Array, canvas: tuple[int, int], levels: int) -> jax.Array:
    """The scale s in [0, 1] of boxes with normalised `sizes [* 2]` (w, h): `[*]`.

    Level l suits boxes of 16·2^l pixels (geometric mean of the sides); s = l / (levels - 1)
    between.
    """
    pixels = jnp.sqrt(jnp.maximum(sizes[..., 0] * canvas[1] * sizes[..., 1] * canvas[0], 1e-6))
    level = jnp.log(pixels / (4 * BASE)) / np.log(2)  # log2 is unknown to ONNX's converter
    return jnp.clip(level / max(levels - 1, 1), 0, 1)


class DenseHead(nnx.Module):
    """Scores and boxes of each cell, by a head that all levels share.

    `tower` 3×3 convolutions, then a pointwise layer: with none, it reads the field at each cell
    alone.
    """

    def __init__(
        self, width: int, classes: int, *, tower: int = 1, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        layers = []
        for _ in range(tower):
            layers.append(nnx.Conv(width, width, (3, 3), dtype=dtype, rngs=rngs))
            layers += [nnx.LayerNorm(width, dtype=dtype, rngs=rngs), nnx.gelu]
        layers += [nnx.Linear(width, width, dtype=dtype, rngs=rngs), nnx.gelu]
        self.tower = nnx.Sequential(*layers)
        bias = nnx.initializers.constant(float(-np.log(1 / PRIOR - 1)))
        self.classes = nnx.Linear(width, classes, bias_init=bias, rngs=rngs)
        self.boxes = nnx.Linear(width, 4, kernel_init=nnx.initializers.normal(1e-2), rngs=rngs)

    def __call__(self, levels: Sequence[jax.Array]) -> dict[str, jax.Array]:
        """Field grids `[b h_l w_l width]` -> logits `[b p k]`, boxes `[b p 4]` (centres)."""
        logits, boxes = [], []
        for level in levels:
            b, h, w, _ = level.shape
            x = self.tower(level)
            logits.append(self.classes(x).astype(jnp.float32).reshape(b, h * w, -1))
            delta = self.boxes(x).astype(jnp.float32).reshape(b, h * w, 4)
            stride = np.array([1 / w, 1 / h], np.float32)
            center = cell_centers(h, w) + delta[..., :2] * stride
            size = BASE * stride * jnp.exp(jnp.clip(delta[..., 2:], -3, 3))
            boxes.append(jnp.concatenate([center, size], axis=-1))
        return {"logits": jnp.concatenate(logits, 1), "boxes": jnp.concatenate(boxes, 1)}


def cell_centers(h: int, w: int) -> np.ndarray:
    """Centres (x, y) of a map's cells in [0, 1]: `[(h w) 2]`."""
    x, y = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


def proposals(
    head: Mapping[str, jax.Array], shapes: Sequence[tuple[int, int]], count: int
) -> tuple[jax.Array, jax.Array]:
    """The strongest peaks of the dense head: boxes `[b count 4]` (centres), scores `[b count k]`.

    A cell is a peak when no neighbour of its level scores higher. Without gradient.
    """
    if count > head["boxes"].shape[1]:
        raise ValueError(
            f"{count} proposals from {head['boxes'].shape[1]} cells: lower sampler.slots or "
            "loss.slots.count, or raise model.size"
        )
    scores = nnx.sigmoid(head["logits"])
    b, _, k = scores.shape
    strength, start = [], 0
    for h, w in shapes:
        best = scores[:, start : start + h * w].max(-1).reshape(b, h, w)
        around = nnx.max_pool(best[..., None], (3, 3), strides=(1, 1), padding="SAME")[..., 0]
        strength.append(jnp.where(best >= around, best, 0).reshape(b, h * w))
        start += h * w
    _, index = jax.lax.top_k(jnp.concatenate(strength, 1), count)
    boxes = jnp.take_along_axis(head["boxes"], index[..., None], axis=1)
    picked = jnp.take_along_axis(scores, index[..., None], axis=1)
    return jax.lax.stop_gradient((boxes, picked))


def dense_loss(
    head: Mapping[str, jax.Array],
    shapes: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    batch: Mapping[str, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Mean class and box losses of a batch (`boxes [b m 4]` centres, `labels`, `valid`, `crowd`).

    Each positive cell learns its smallest object; cells inside crowd regions are ignored.
    """
    centers = np.concatenate([cell_centers(h, w) for h, w in shapes])  # [p 2]
    stride = np.concatenate([np.tile([[1 / w, 1 / h]], (h * w, 1)) for h, w in shapes])
    level = np.concatenate([np.full(h * w, i) for i, (h, w) in enumerate(shapes)])
    boxes = batch["boxes"][:, None]  # [b 1 m 4]
    # x and y by themselves: a last axis of 2 is slow on CPU.
    away_x, away_y = (jnp.abs(centers[:, None, i] - boxes[..., i]) for i in range(2))  # [b p m]
    reach_x, reach_y = np.split(RADIUS * stride.astype(np.float32), 2, axis=1)  # [p 1]
    own_level = box_scale(boxes[..., 2:], canvas, len(shapes)) * (len(shapes) - 1)
    suits = jnp.abs(own_level - level[:, None]) <= BAND
    match = (away_x <= reach_x) & (away_y <= reach_y) & suits & batch["valid"][:, None]  # [b p m]
    size = jnp.where(match, boxes[..., 2] * boxes[..., 3], jnp.inf)
    owner, positive = size.argmin(-1), match.any(-1)  # [b p]
    target = jnp.take_along_axis(batch["boxes"], owner[..., None], axis=1)
    label = jnp.take_along_axis(batch["labels"], owner, axis=1)
    overlap = iou(to_corners(head["boxes"]), to_corners(target))
    quality = jax.lax.stop_gradient(jnp.where(positive, jnp.maximum(overlap, 0.1), 0))
    classes = head["logits"].shape[-1]
    targets = quality[..., None] * nnx.one_hot(label, classes)
    inside = (away_x <= boxes[..., 2] / 2) & (away_y <= boxes[..., 3] / 2)
    in_crowd = inside & batch["crowd"][:, None]
    counted = positive | ~in_crowd.any(-1)
    count = jnp.maximum(positive.sum(), 1)
    classification = quality_focal_loss(head["logits"], targets).sum(-1)
    regression = box_loss(head["boxes"], target)
    return (
        jnp.where(counted, classification, 0).sum() / count,
        jnp.where(positive, regression, 0).sum() / count,
    )
