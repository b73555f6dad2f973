"""Pictures whose objects are rectangles of one colour, so that boxes can be found from pixels."""

import numpy as np

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
BACK = np.uint8([40, 40, 40])


def drawing(height: int, width: int, boxes, labels=None) -> dict:
    """A sample whose object k is a rectangle in the colour of its label."""
    labels = list(range(len(boxes))) if labels is None else labels
    image = np.tile(BACK, (height, width, 1))
    for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
        image[y0:y1, x0:x1] = COLOURS[label]
    return dict(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        crowd=np.zeros(len(boxes), bool),
        windows=np.array([[0, 0, width, height]]),
    )


def found(image: np.ndarray, label: int) -> np.ndarray | None:
    """The box of the pixels that are nearer to a label's colour than half way to anything else."""
    near = np.abs(image.astype(int) - COLOURS[label]).max(-1) < 108  # half of 255 - 40
    if not near.any():
        return None
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check(sample: dict, atol: float = 1.0) -> int:
    """Compares every box with the pixels; returns how many there are."""
    for box, label in zip(sample["boxes"], sample["labels"], strict=True):
        np.testing.assert_allclose(found(sample["image"], label), box, atol=atol)
    return len(sample["boxes"])


THREE = [(10, 12, 30, 40), (50, 20, 90, 35), (60, 60, 75, 66)]
