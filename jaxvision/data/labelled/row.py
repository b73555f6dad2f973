"""A sample as one row of a batch: fixed shapes."""

import numpy as np

from jaxvision.data.geometry import Sample

UNLABELLED = 255  # a pixel without a class
NO_LABEL = -1  # a row without a box, a picture without a class
_NO_LETTERBOX = np.array([1, 0, 0], np.float32)


def to_row(
    sample: Sample,
    max_boxes: int,
    *,
    letterbox: np.ndarray = _NO_LETTERBOX,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Objects first, then regions to ignore, then zeros with label -1.

    Of more than `max_boxes` a random part is kept, or without `rng` the first ones. The row of a
    crop has letterbox (1, 0, 0): there is no way back to its file.
    """
    order = np.arange(len(sample["boxes"]))
    if len(order) > max_boxes and rng is not None:
        order = rng.permutation(order)
    kept = order[np.argsort(sample["crowd"][order], kind="stable")][:max_boxes]
    boxes = np.zeros((max_boxes, 4), np.float32)
    labels = np.full(max_boxes, NO_LABEL, np.int32)
    crowd = np.zeros(max_boxes, bool)
    boxes[: len(kept)] = sample["boxes"][kept]
    labels[: len(kept)] = sample["labels"][kept]
    crowd[: len(kept)] = sample["crowd"][kept]
    return dict(
        image=sample["image"],
        boxes=boxes,
        labels=labels,
        crowd=crowd,
        segments=sample["segments"],
        action=np.int32(sample["action"]),
        index=np.int32(sample["index"]),
        size=np.asarray(sample["size"], np.int32),
        broken=np.bool_(sample["broken"]),
        letterbox=np.asarray(letterbox, np.float32),
    )
