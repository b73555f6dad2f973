"""Training slots: which box each query starts from, and what it must become."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.losses.boxes import (
    EPSILON,
    area,
    giou,
    iou,
    pairwise_intersection,
    pairwise_iou,
    to_corners,
)

ASSIGNERS = ("iou", "hungarian", "dynamic_k")
FAR = 1e5  # the cost of what may not be matched: finite, since the assignment must stay one


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotConfig:
    """Shares of the training slots, and how the unaligned ones find an object.

    `aligned` slots are noised ground truth, repeated in turn; `learned` are the dense head's
    proposals, because inference starts from those; the rest are Gaussian. Times are
    shares of the schedule with u uniform: one an image drawn as u^`skew` (1 is uniform, more looks
    oftener at little noise, which small objects need: at a tenth of the cosine schedule the centre
    is already off by 4 % of the image), and one for the learned slots, u·`start`: they learn where
    `sampler.start` lets them begin.
    `assigner` is for the last two kinds: "iou" takes the object that the predicted box overlaps by
    more than `overlap`, "hungarian" one slot an object, "dynamic_k" several. A box learns to score
    its IoU, and nothing where that is less than `overlap`: 0.5 keeps poor boxes out, but of tiny
    objects most boxes are poor at first, and what is told to be background does not learn to move.
    """

    count: int = 300
    aligned: float = 0.5
    learned: float = 0.25
    skew: float = 1.0
    start: float = 0.3
    assigner: str = "iou"
    overlap: float = 0.5

    def __post_init__(self):
        if self.assigner not in ASSIGNERS:
            raise ValueError(f"slots.assigner {self.assigner!r} is none of {ASSIGNERS}")
        if self.count < 1:
            raise ValueError(f"slots.count={self.count} must be at least 1")
        if min(self.aligned, self.learned) < 0 or self.aligned + self.learned > 1:
            raise ValueError(
                f"slots.aligned={self.aligned} and slots.learned={self.learned} must be shares of "
                "at most 1 together"
            )
        if self.assigner != "iou" and self.n_aligned == self.count:
            raise ValueError(f"slots.assigner {self.assigner!r} has nothing to do: all are aligned")
        if not 0 < self.overlap < 1:
            raise ValueError(f"slots.overlap={self.overlap} must be between 0 and 1")
        if not 0 < self.start <= 1:
            raise ValueError(f"slots.start={self.start} must be above 0 and at most 1")
        if self.skew <= 0:
            raise ValueError(f"slots.skew={self.skew} must be above 0")

    @property
    def n_aligned(self) -> int:
        return round(self.count * self.aligned)

    @property
    def n_learned(self) -> int:
        return min(round(self.count * self.learned), self.count - self.n_aligned)

    @property
    def kinds(self) -> np.ndarray:
        """What each slot is, in their order: 0 aligned, 1 learned, 2 Gaussian; int `[n]`."""
        rest = self.count - self.n_aligned - self.n_learned
        return np.repeat([0, 1, 2], [self.n_aligned, self.n_learned, rest])


def attention_mask(cfg: SlotConfig) -> np.ndarray:
    """Which slot may attend to which in training: bool `[n n]`, query by key.

    An aligned slot sees itself and the Gaussian ones, and nobody else sees it. Otherwise the noised
    copies of one object would give it away by their mean, which no picture offers at test time: the
    refiner then learns to average boxes instead of looking (Li et al. 2022, DN-DETR, section 4.4,
    masks its denoising groups for the same reason). Learned slots and Gaussian ones, which are at
    other times, see their own kind alone, as in sampling.
    """
    of, seen = cfg.kinds[:, None], cfg.kinds[None, :]
    same = (of == seen) & (of > 0)
    return same | ((of == 0) & (seen == 2)) | np.eye(cfg.count, dtype=bool)


def repeat_cyclically(valid: jax.Array, count: int, begin: jax.Array) -> jax.Array:
    """Rows of the valid objects in turn: bool `[b m]` -> int `[b count]` (0 if there are none).

    `begin [b 1]` in [0, 1) says with which: drawn anew each time, it lets all have their turn where
    there are more than `count`.
    """
    order = jnp.argsort(~valid, axis=1, stable=True)
    number = jnp.maximum(valid.sum(1, keepdims=True), 1)
    turn = jnp.arange(count)[None] + (begin * number).astype(jnp.int32)
    return jnp.take_along_axis(order, turn % number, axis=1)


def gaussian_boxes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Placeholder boxes ~ N(1/2, 1/6) with sides of at least 1e-2: `[* 4]` (Chen et al. 2023)."""
    boxes = jax.random.normal(key, (*shape, 4)) / 6 + 0.5
    return boxes.at[..., 2:].max(1e-2)


def match(
    assigner: str,
    boxes: jax.Array,
    logits: jax.Array,
    batch: Mapping[str, jax.Array],
    *,
    least: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Objects for unaligned slots: predicted `boxes [b n 4]` (centres), `logits [b n k]`.

    `least` is the IoU that "iou" asks for. Returns the row of the object `[b n]` and whether there
    is one `[b n]`. Without gradient.
    """
    corners, objects = to_corners(boxes), to_corners(batch["boxes"])
    overlap = jnp.where(batch["valid"][:, None], pairwise_iou(corners, objects), 0)
    if assigner == "iou":
        return overlap.argmax(-1), overlap.max(-1) > least
    p = jax.nn.sigmoid(logits)
    picked = jax.vmap(lambda p, labels: p[:, labels])(p, batch["labels"])  # [b n m]
    distance = jnp.abs(boxes[:, :, None] - batch["boxes"][:, None]).sum(-1)
    pair_giou = giou(corners[:, :, None], objects[:, None])
    cost = 5 * distance - 2 * pair_giou - 2 * jnp.log(picked + 1e-6)
    cost = jnp.clip(jnp.nan_to_num(cost, nan=FAR, posinf=FAR, neginf=-FAR), -FAR, FAR)
    return jax.vmap(_hungarian if assigner == "hungarian" else _dynamic_k)(
        cost, overlap, batch["valid"]
    )


def in_crowd(boxes: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Boxes `[b n 4]` that lie by half in a crowd region, where nobody says what is an object."""
    corners = to_corners(boxes)
    inside = pairwise_intersection(corners, to_corners(batch["boxes"])) / (
        area(corners)[..., None] + EPSILON
    )
    return jax.lax.stop_gradient((inside >= 0.5) & batch["crowd"][:, None]).any(-1)


def _one_to_one(cost: jax.Array, valid: jax.Array) -> jax.Array:
    # Padding columns all cost the same and more than real ones: they neither bend the optimum nor,
    # where columns outnumber rows, take a row that an object wants.
    padding = jnp.where(valid[None], cost, -FAR).max() + 1
    rows, columns = optax.assignment.hungarian_algorithm(jnp.where(valid[None], cost, padding))
    return jnp.zeros(cost.shape, bool).at[rows, columns].set(True) & valid[None]


def _hungarian(cost: jax.Array, overlap: jax.Array, valid: jax.Array):
    del overlap
    pairs = _one_to_one(cost, valid)
    return pairs.argmax(-1), pairs.any(-1)


def _dynamic_k(cost: jax.Array, overlap: jax.Array, valid: jax.Array):
    """OTA's dynamic k (Ge et al. 2021, section 3.3) joined with the one-to-one matches."""
    cost = jnp.where(valid[None], cost, FAR) - 2 * FAR * _one_to_one(cost, valid)
    best = jax.lax.top_k(overlap.T, min(5, overlap.shape[0]))[0].sum(-1)
    k = jnp.maximum(best.astype(jnp.int32), 1)
    rank = jnp.argsort(jnp.argsort(cost, axis=0), axis=0)
    near = (rank < k[None]) & valid[None]
    owner = jnp.where(near, cost, 2 * FAR).argmin(-1)
    return owner, near.any(-1)


def quality(boxes: jax.Array, targets: jax.Array, floor: float = 0.5) -> jax.Array:
    """IoU of centre boxes as class target `[*]`, 0 under `floor`: bad boxes must not score high."""
    overlap = iou(to_corners(boxes), to_corners(targets))
    return jax.lax.stop_gradient(jnp.where(overlap >= floor, overlap, 0))
