"""What the tests of detection metrics and of their report share."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CANVAS = 128


def reference(dataset, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes([dict(r) for r in results]), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def letterboxed(dataset, rows, boxes):
    """A batch and its predictions: `boxes[i]` (xyxy in original pixels) moved to the canvas."""
    letterbox, size, canvas_boxes = [], [], []
    for row, box in zip(rows, boxes, strict=True):
        record = dataset["images"][row]
        h, w = record["height"], record["width"]
        scale = CANVAS / max(h, w)
        left, top = (CANVAS - w * scale) / 2, (CANVAS - h * scale) / 2
        letterbox.append((scale, left, top))
        size.append((h, w))
        canvas_boxes.append((box * scale + (left, top, left, top)) / CANVAS)
    return {
        "image": np.zeros((len(rows), CANVAS, CANVAS, 3), np.uint8),
        "index": np.array(rows, np.int32),
        "letterbox": np.array(letterbox, np.float32),
        "size": np.array(size, np.int32),
    }, np.array(canvas_boxes, np.float32)
