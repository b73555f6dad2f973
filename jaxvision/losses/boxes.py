"""Boxes: conversions, overlaps and losses; float32, unreduced, safe for boxes of no area."""

import jax
import jax.numpy as jnp

EPSILON = 1e-9  # of a squared unit: far under any box, far over float32 underflow


def to_corners(boxes: jax.Array) -> jax.Array:
    """(cx, cy, w, h) -> (x0, y0, x1, y1), last axis."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([center - size / 2, center + size / 2], axis=-1)


def area(boxes: jax.Array) -> jax.Array:
    """Area of corner boxes `[* 4] -> [*]`; inverted boxes have none."""
    x0, y0, x1, y1 = _planes(boxes)
    return jnp.maximum(x1 - x0, 0) * jnp.maximum(y1 - y0, 0)


def _planes(boxes: jax.Array) -> tuple[jax.Array, ...]:
    # Each coordinate by itself: XLA's CPU code for a last axis of 2 or 4 is several times slower.
    return tuple(boxes[..., i] for i in range(4))


def _overlap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    ax0, ay0, ax1, ay1 = _planes(a)
    bx0, by0, bx1, by1 = _planes(b)
    width = jnp.maximum(jnp.minimum(ax1, bx1) - jnp.maximum(ax0, bx0), 0)
    height = jnp.maximum(jnp.minimum(ay1, by1) - jnp.maximum(ay0, by0), 0)
    intersection = width * height
    return intersection, area(a) + area(b) - intersection


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of corner boxes, elementwise: `[* 4], [* 4] -> [*]`."""
    intersection, union = _overlap(a, b)
    return intersection / (union + EPSILON)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """All pairs of corner boxes: `[* n 4], [* m 4] -> [* n m]`."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def pairwise_intersection(a: jax.Array, b: jax.Array) -> jax.Array:
    """Common area of all pairs of corner boxes: `[* n 4], [* m 4] -> [* n m]`."""
    return _overlap(a[..., :, None, :], b[..., None, :, :])[0]


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalised IoU in [-1, 1], elementwise on corner boxes (Rezatofighi et al. 2019, alg. 1)."""
    intersection, union = _overlap(a, b)
    ax0, ay0, ax1, ay1 = _planes(a)
    bx0, by0, bx1, by1 = _planes(b)
    hull = (jnp.maximum(ax1, bx1) - jnp.minimum(ax0, bx0)) * (
        jnp.maximum(ay1, by1) - jnp.minimum(ay0, by0)
    )
    return intersection / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def box_loss(predicted: jax.Array, target: jax.Array, *, l1: float = 5.0, overlap: float = 2.0):
    """DETR's box loss, `l1·|Δ| + overlap·(1 - GIoU)`, on normalised centre boxes: `[* 4] -> [*]`.

    Carion et al. 2020, eq. 3.
    """
    distance = jnp.abs(predicted - target).sum(-1)
    return l1 * distance + overlap * (1 - giou(to_corners(predicted), to_corners(target)))
