"""Picking detections on the device, in static shapes."""

import jax
import jax.numpy as jnp

from jaxvision.losses.boxes import pairwise_iou


def nms_keep(boxes: jax.Array, scores: jax.Array, labels: jax.Array, threshold: float) -> jax.Array:
    """Greedy non-maximum suppression in each class: `[n 4]` corners, best first -> bool `[n]`.

    A box goes when an earlier kept box of its class overlaps it by more than `threshold`; boxes of
    score 0 are empty slots and go as well.
    """
    n = boxes.shape[0]
    overlap = pairwise_iou(boxes, boxes) > threshold
    rivals = overlap & (labels[:, None] == labels[None]) & ~jnp.eye(n, dtype=bool)

    def visit(i, keep):
        return keep & ~(rivals[i] & keep[i] & (jnp.arange(n) > i))

    return jax.lax.fori_loop(0, n, visit, scores > 0)


def select(
    boxes: jax.Array, scores: jax.Array, *, top: int, threshold: float, candidates: int
) -> dict[str, jax.Array]:
    """The best detections of a batch: `boxes [b n 4]` corners, `scores [b n k]` -> `[b top]`.

    Only the `candidates` best pairs of box and class enter NMS; where they are fewer than `top`, so
    are the rows. Returns boxes `[b top 4]`, scores `[b top]` descending with 0 for empty slots,
    labels int32 `[b top]`. A box may be taken once for
    each class, as COCO's evaluation permits.
    """
    n, k = scores.shape[1:]
    candidates = min(candidates, n * k)

    def one(boxes, scores):
        best, index = jax.lax.top_k(scores.reshape(n * k), candidates)
        chosen, labels = boxes[index // k], (index % k).astype(jnp.int32)
        best = jnp.where(nms_keep(chosen, best, labels, threshold), best, 0)
        best, order = jax.lax.top_k(best, min(top, candidates))
        return {"boxes": chosen[order], "scores": best, "labels": labels[order]}

    return jax.vmap(one)(boxes, scores)
