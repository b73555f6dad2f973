"""Boxes: conversions, overlaps and losses; float32, unreduced, safe for boxes of no area."""

import jax
import jax.numpy as jnp

EPSILON = 1e-9  # of a squared unit: far under any box, far over float32 underflow


def to_corners(boxes: jax.Array) -> jax.Array:
    """(cx, cy, w, h) -> (x0, y0, x1, y1), last axis."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([center - size / 2, center + size / 2], axis=-1)


def to_centers(boxes: jax.Array) -> jax.Array:
    """(x0, y0, x1, y1) -> (cx, cy, w, h), last axis."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def area(boxes: jax.Array) -> jax.Array:
    """Area of corner boxes `[* 4] -> [*]`; inverted boxes have none."""
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def _overlap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    intersection = jnp.prod(jnp.maximum(size, 0), axis=-1)
    return intersection, area(a) + area(b) - intersection


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of corner boxes, elementwise: `[* 4], [* 4] -> [*]`."""
    intersection, union = _overlap(a, b)
    return intersection / (union + EPSILON)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """All pairs of corner boxes: `[* n 4], [* m 4] -> [* n m]`."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalised IoU in [-1, 1], elementwise on corner boxes (Rezatofighi et al. 2019, alg. 1)."""
    intersection, union = _overlap(a, b)
    hull = jnp.prod(
        jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2]), axis=-1
    )
    return intersection / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def box_loss(predicted: jax.Array, target: jax.Array, *, l1: float = 5.0, overlap: float = 2.0):
    """DETR's box loss, `l1·|Δ| + overlap·(1 - GIoU)`, on normalised centre boxes: `[* 4] -> [*]`.

    Carion et al. 2020, eq. 3.
    """
    distance = jnp.abs(predicted - target).sum(-1)
    return l1 * distance + overlap * (1 - giou(to_corners(predicted), to_corners(target)))
