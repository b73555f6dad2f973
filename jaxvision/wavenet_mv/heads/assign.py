"""Which cells answer for which object: SimOTA in fixed shapes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.losses.boxes import pairwise_iou
from jaxvision.wavenet_mv.heads.detect import Cells

RADIUS = 2.5  # strides from an object's centre within which a cell may answer for it
MOST = 10  # cells of an object
FAR = 1e3  # cost of a cell that is not both in the box and near its centre: above all others
OVERLAP = 3.0  # weight of -log IoU beside that of the class


def assign(cells: Cells, boxes: jax.Array, labels: jax.Array, real: jax.Array) -> jax.Array:
    """The object that each cell answers for, or -1: int32 `[b p]`, without gradient.

    Objects are `boxes [b n 4]` xyxy pixels, `labels [b n]`, and `real [b n]` False where there is
    none. Each takes its cells of least cost, as many as the sum of its best IoUs says; a cell that
    several take goes to the cheapest (Ge et al. 2021, YOLOX, section 2.1, eq. 1).
    """

    def one(logits, predicted, boxes, labels, real):
        in_box, near = _inside(cells, boxes)
        may = (in_box | near) & real[:, None]
        overlap = jnp.where(may, pairwise_iou(boxes, predicted), 0)  # [n p]
        cost = _class_cost(logits, labels) - OVERLAP * jnp.log(overlap + 1e-8)
        cost = jnp.where(may, cost + FAR * ~(in_box & near), jnp.inf)
        most = min(MOST, overlap.shape[1])
        count = jax.lax.top_k(overlap, most)[0].sum(-1).astype(jnp.int32)
        count = jnp.clip(count, 1, most)
        least = -jax.lax.top_k(-cost, most)[0]
        limit = jnp.take_along_axis(least, count[:, None] - 1, axis=1)
        taken = jnp.where(may & (cost <= limit), cost, jnp.inf)
        return jnp.where(jnp.isfinite(taken).any(0), taken.argmin(0), -1).astype(jnp.int32)

    return jax.lax.stop_gradient(jax.vmap(one)(cells.logits, cells.boxes, boxes, labels, real))


def within(centres: np.ndarray, boxes: jax.Array) -> jax.Array:
    """Whether centres `[p 2]` lie in boxes `[* n 4]`: bool `[* n p]`."""
    x, y = centres[:, 0], centres[:, 1]
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    return (x > x0) & (x < x1) & (y > y0) & (y < y1)


def _inside(cells, boxes):
    """Cells in boxes, and cells near their centres: bool `[n p]` each."""
    x, y = cells.centres[:, 0], cells.centres[:, 1]
    reach = RADIUS * cells.strides
    near_x = jnp.abs(x - (boxes[:, 0, None] + boxes[:, 2, None]) / 2) < reach
    near_y = jnp.abs(y - (boxes[:, 1, None] + boxes[:, 3, None]) / 2) < reach
    return within(cells.centres, boxes), near_x & near_y


def _class_cost(logits, labels):
    """Binary cross entropy of `[p k]` with each of the labels `[n]`: `[n p]`."""
    return jax.nn.softplus(logits).sum(-1) - logits.T[jnp.maximum(labels, 0)]
