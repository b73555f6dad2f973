"""A sample as one row of a detector's batch."""

from typing import Any

import numpy as np

from jaxvision.data.geometry import Sample

_EIGHT = 8  # rows grow in steps of it: sets that are alike share a compiled program
_NO_LETTERBOX = np.array([1, 0, 0], np.float32)


def boxes_needed(most: int, *, pasted: int = 0) -> int:
    """The `max_boxes` for images of up to `most` objects that get up to `pasted` more."""
    return _EIGHT * max(1, -(-(most + pasted) // _EIGHT))


def to_batch_row(
    sample: Sample,
    max_boxes: int,
    *,
    letterbox: np.ndarray = _NO_LETTERBOX,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """One row of a batch, of fixed shapes: objects first, then regions to ignore, then zeros.

    `boxes [m 4]` become cxcywh as fractions of the canvas. Of more than `max_boxes` a random part
    is kept, or without `rng` the first ones, objects before regions to ignore. The row of an
    augmented canvas has letterbox (1, 0, 0): there is no way back to its file.
    """
    height, width = sample["image"].shape[:2]
    order = np.arange(len(sample["boxes"]))
    if len(order) > max_boxes and rng is not None:
        order = rng.permutation(order)
    crowds = sample["crowd"][order]
    kept = order[np.argsort(crowds, kind="stable")][:max_boxes]
    low, high = np.split(sample["boxes"][kept] / np.float32([width, height] * 2), 2, axis=-1)
    row: dict[str, Any] = dict(
        boxes=np.clip(np.concatenate([(low + high) / 2, high - low], -1), 0, 1),
        labels=sample["labels"][kept],
        valid=~sample["crowd"][kept],
        crowd=sample["crowd"][kept],
    )
    empty = max_boxes - len(kept)
    row = {k: np.pad(v, [(0, empty)] + [(0, 0)] * (v.ndim - 1)) for k, v in row.items()}
    return row | dict(
        image=sample["image"],
        index=np.int32(sample["index"]),
        size=np.asarray(sample["size"], np.int32),
        broken=np.bool_(sample["broken"]),
        letterbox=np.asarray(letterbox, np.float32),
    )
