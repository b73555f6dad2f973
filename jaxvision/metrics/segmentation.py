"""Mean intersection over union of masks, on the host."""

from collections.abc import Mapping, Sequence

import numpy as np

UNLABELLED = 255


class MeanIoU:
    """A host metric of `segments [b h w]`, class indices; 255 in the truth is not counted.

    One table of counts over all pictures, as Everingham et al. 2015 (PASCAL VOC), section 4.1.3:
    `IoU = TP / (TP + FP + FN)`. A class that neither truth nor predictions have is left out of the
    mean; one that is only predicted counts as 0.
    """

    def __init__(self, classes: int, *, names: Sequence[str] = ()):
        if not 1 <= classes <= UNLABELLED:
            raise ValueError(f"classes={classes} must be from 1 to {UNLABELLED}")
        if names and len(names) != classes:
            raise ValueError(f"{len(names)} names for {classes} classes")
        self.names = tuple(names)
        self.counts = np.zeros((classes, classes), np.int64)  # row: truth, column: predicted

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        """Takes the rows that `mask` does not mark as padding."""
        truth, found = np.asarray(batch["segments"]), np.asarray(predictions["segments"])
        if truth.shape != found.shape:
            raise ValueError(f"masks {truth.shape} and predictions {found.shape} differ in shape")
        mask = np.asarray(batch.get("mask", np.ones(len(truth), bool)))
        truth, found = truth[mask].astype(np.int64), found[mask].astype(np.int64)
        counted = truth != UNLABELLED
        truth, found, classes = truth[counted], found[counted], len(self.counts)
        for name, values in (("the truth", truth), ("predictions", found)):
            wrong = values[(values < 0) | (values >= classes)]
            if wrong.size:
                raise ValueError(f"{name} of masks have class {wrong[0]}; there are {classes}")
        flat = np.bincount(truth * classes + found, minlength=classes**2)
        self.counts += flat.reshape(classes, classes)

    def result(self) -> dict[str, float]:
        """`mIoU`, `pixel_accuracy`, and with names `IoU/<class>` of the classes that occur."""
        total = self.counts.sum()
        if not total:
            raise ValueError("no labelled pixel was evaluated")
        right = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - right
        overlap = right / np.where(union > 0, union, np.nan)
        scalars = {"mIoU": float(np.nanmean(overlap)), "pixel_accuracy": float(right.sum() / total)}
        named = zip(self.names, overlap, strict=bool(self.names))
        return scalars | {f"IoU/{name}": float(v) for name, v in named if np.isfinite(v)}


def scalar_names(names: Sequence[str]) -> tuple[str, ...]:
    """What `MeanIoU.result` may hold for these classes."""
    return ("mIoU", "pixel_accuracy", *(f"IoU/{name}" for name in names))
