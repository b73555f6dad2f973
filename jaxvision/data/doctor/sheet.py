"""A contact sheet: pictures with their boxes drawn, the quickest check of all."""

from pathlib import Path

import cv2
import numpy as np

from jaxvision.data.doctor.table import Table
from jaxvision.data.images import read_image
from jaxvision.draw import draw_boxes, grid

COUNT, COLUMNS, CELL = 16, 4, 420


def draw_sheet(table: Table, *, seed: int = 0) -> np.ndarray | None:
    """Sixteen readable pictures of a split, those with boxes first: uint8 `[h w 3]` RGB.

    Boxes are drawn as a training run would place them, so that wrong ones show. None where no
    picture can be read.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(table.files))
    with_boxes = np.isin(rows, table.image)
    rows = np.concatenate([rows[with_boxes], rows[~with_boxes]])
    ids = sorted(table.categories)
    names = [*(table.categories[c] for c in ids), "no name"]
    labels = np.where(table.labels < 0, len(ids), table.labels)
    cells, titles = [], []
    for row in rows:
        if len(cells) == COUNT:
            break
        try:
            image = read_image(table.folder / table.files[row])
        except (OSError, ValueError):
            continue  # the doctor's findings name it
        mine = table.image == row
        boxes = table.boxes[mine].copy()
        boxes[:, 2:] += boxes[:, :2]
        scale = CELL / max(image.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)
        drawn = draw_boxes(image, _clip(boxes * scale, image.shape), labels[mine], names)
        cells.append(drawn)
        titles.append(f"{Path(table.files[row]).name}: {mine.sum()} boxes")
    return grid(cells, COLUMNS, CELL, titles) if cells else None


def _clip(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes inside the picture with ordered corners, whatever they were: something to draw."""
    limit = (shape[1], shape[0], shape[1], shape[0])
    boxes = np.clip(boxes, 0, limit)
    return np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
    )
