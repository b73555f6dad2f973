"""Which detection found which object: confusion between classes, misses and false alarms."""

import dataclasses

import numpy as np

from jaxvision.metrics.detection import Detections, GroundTruth

FALSE, IGNORED = -1, -2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matches:
    """Of one image: detections at or above a score, best first, and the object each stands for.

    `detections [n]` index the image's detections; `objects [n]` index its ground truth, or are
    FALSE (nothing there) or IGNORED (within a crowd region). `missed [m]` index objects not found.
    """

    detections: np.ndarray
    objects: np.ndarray
    missed: np.ndarray


def match(truth: GroundTruth, row: int, found: Detections, *, score: float, iou: float) -> Matches:
    """Pairs detections with objects one to one, first within a class, then across classes.

    The best scored chooses first, the object with the largest IoU, as COCO does at one threshold.
    """
    chosen = np.argsort(-found.scores, kind="stable")
    chosen = chosen[found.scores[chosen] >= score]
    crowd = truth.crowd[row]
    overlap, _ = overlaps(found.boxes[chosen], truth.boxes[row])
    overlap[:, crowd] = 0
    same = found.labels[chosen][:, None] == truth.labels[row][None]
    objects = np.full(len(chosen), FALSE)
    for allowed in (same, ~same):
        for i in np.flatnonzero(objects == FALSE):
            candidates = np.where(allowed[i], overlap[i], 0)
            if candidates.size and candidates.max() >= iou:
                objects[i] = candidates.argmax()
                overlap[:, objects[i]] = 0
    _, within = overlaps(found.boxes[chosen], truth.boxes[row][crowd])
    same_crowd = found.labels[chosen][:, None] == truth.labels[row][crowd][None]
    excused = (same_crowd & (within >= iou)).any(axis=1)
    objects = np.where((objects == FALSE) & excused, IGNORED, objects)
    missed = np.setdiff1d(np.flatnonzero(~crowd), objects)
    return Matches(detections=chosen, objects=objects, missed=missed)


def confusion(
    truth: GroundTruth, detections: dict[int, Detections], *, score: float, iou: float = 0.5
) -> np.ndarray:
    """Counts `[k+1 k+1]`: row = true class, column = predicted class, last = background."""
    classes = len(truth.names)
    counts = np.zeros((classes + 1, classes + 1), int)
    for row, found in detections.items():
        matches = match(truth, row, found, score=score, iou=iou)
        for detection, thing in zip(matches.detections, matches.objects, strict=True):
            if thing != IGNORED:
                actual = classes if thing == FALSE else truth.labels[row][thing]
                counts[actual, found.labels[detection]] += 1
        np.add.at(counts, (truth.labels[row][matches.missed], classes), 1)
    return counts


def overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of xyxy boxes `[n 4]` and `[m 4]`: IoU `[n m]`, and how much of each `a` is in `b`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area_a = np.prod(np.maximum(a[:, 2:] - a[:, :2], 0), axis=1)[:, None]
    area_b = np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=1)[None]
    tiny = np.finfo(np.float64).tiny
    return shared / np.maximum(area_a + area_b - shared, tiny), shared / np.maximum(area_a, tiny)
