"""What the heads learn by: boxes and their classes, masks, actions."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.losses.boxes import giou, iou
from jaxvision.losses.classification import masked_cross_entropy, quality_focal_loss
from jaxvision.wavenet_mv.heads.assign import assign, within
from jaxvision.wavenet_mv.heads.detect import Cells
from jaxvision.wavenet_mv.heads.model import HeadsOutput
from jaxvision.wavenet_mv.heads.segment import upsampled

UNLABELLED = 255  # of a mask
NO_ACTION = -1
LEAST = 0.1  # quality of a cell that answers for an object, however badly


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadsLossConfig:
    """Weights of the parts; see `distill` for the last three, which need a teacher."""

    classes: float = 1.0
    boxes: float = 2.0
    segments: float = 1.0
    action: float = 1.0
    distil: float = 0.0
    hint: float = 0.0
    temperature: float = 2.0

    def __post_init__(self):
        for name in ("classes", "boxes", "segments", "action", "distil", "hint"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss.{name}={getattr(self, name)} must be 0 or more")
        if not self.temperature > 0:
            raise ValueError(f"loss.temperature={self.temperature} must be above 0")


def heads_loss(
    output: HeadsOutput, batch: Mapping[str, jax.Array], cfg: HeadsLossConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum over the heads there are, and its parts for the log.

    `boxes [b n 4]` xyxy pixels, `labels [b n]` (-1: no object), `crowd [b n]`; `segments [b h w]`
    (255: unlabelled); `action [b]` (-1: none). A head without its field raises ValueError.
    """
    parts: dict[str, jax.Array] = {}
    if output.cells is not None:
        boxes, labels, crowd = _fields(batch, "boxes", "labels", "crowd")
        found = detection_losses(output.cells, boxes, labels, crowd)
        count = jnp.maximum(found["positive"].sum(), 1)
        parts |= {name: found[name].sum() / count for name in ("classes", "boxes")}
    if output.segments is not None:
        (wanted,) = _fields(batch, "segments")
        parts["segments"] = _mean(*segment_losses(output.segments, wanted))
    if output.action is not None:
        (wanted,) = _fields(batch, "action")
        parts["action"] = _mean(*masked_cross_entropy(output.action, wanted, ignore=NO_ACTION))
    return sum(getattr(cfg, name) * value for name, value in parts.items()), parts


def detection_losses(
    cells: Cells, boxes: jax.Array, labels: jax.Array, crowd: jax.Array
) -> dict[str, jax.Array]:
    """Of each cell, `[b p]`: quality focal loss of `classes`, 1 - GIoU of `boxes`, `positive`.

    A score learns the IoU that its box reaches (Li et al. 2020, eq. 3). Cells in crowd regions that
    answer for no object are not counted.
    """
    owner = assign(cells, boxes, labels, (labels >= 0) & ~crowd)
    positive, owner = owner >= 0, jnp.maximum(owner, 0)
    target = jnp.take_along_axis(boxes, owner[..., None], axis=1)
    label = jnp.take_along_axis(labels, owner, axis=1)
    reached = jnp.maximum(jax.lax.stop_gradient(iou(cells.boxes, target)), LEAST)
    quality = jnp.where(positive, reached, 0)[..., None]
    quality = quality * nnx.one_hot(label, cells.logits.shape[-1])
    classes = quality_focal_loss(cells.logits, quality).sum(-1)
    ignored = (within(cells.centres, boxes) & crowd[..., None]).any(1)
    return {
        "classes": jnp.where(positive | ~ignored, classes, 0),
        "boxes": jnp.where(positive, 1 - giou(cells.boxes, target), 0),
        "positive": positive,
    }


def segment_losses(logits: jax.Array, wanted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross entropy `[b h w]` of every pixel, of logits brought to the mask's size; what counts."""
    return masked_cross_entropy(upsampled(logits, wanted.shape[1:3]), wanted, ignore=UNLABELLED)


def _fields(batch, *names):
    absent = [name for name in names if name not in batch]
    if absent:
        raise ValueError(
            f"the batch has no {', '.join(absent)}, which one of the heads learns from"
        )
    return [batch[name] for name in names]


def _mean(losses, counted):
    return losses.sum() / jnp.maximum(counted.sum(), 1)
