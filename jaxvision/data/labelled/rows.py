"""Rows by index: crops to train on, whole pictures to evaluate on."""

import grain
import numpy as np

from jaxvision.data.geometry import Sample
from jaxvision.data.labelled.config import CropConfig
from jaxvision.data.labelled.crop import fitted, random_window
from jaxvision.data.labelled.row import NO_LABEL, UNLABELLED, to_row
from jaxvision.data.pipeline import Row, shuffled


class CroppedRows(grain.MapDataset[Row]):
    """Random windows of a source's pictures: row g depends on (seed, g) alone."""

    def __init__(self, source, cfg: CropConfig, *, size: int, max_boxes: int, seed: int):
        super().__init__()
        self._source, self._cfg, self._seed = source, cfg, seed
        self._size, self._max_boxes = size, max_boxes
        weights = np.ones(len(source))
        weights[list(source.missing)] = 0
        self._order = shuffled(len(source), seed=seed, weights=weights)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        rng = np.random.default_rng((self._seed, 1, int(index)))
        sample = self._source[self._order[int(index)]]
        if sample["broken"]:  # what is labelled in it cannot be seen
            sample = _without_labels(sample)
        sample = random_window(sample, self._size, self._cfg, rng)
        return to_row(sample, self._max_boxes, rng=rng)


class WholeRows(grain.MapDataset[Row]):
    """Every picture of a source once, in its order, fitted into a square."""

    def __init__(self, source, *, size: int, max_boxes: int):
        super().__init__()
        self._source, self._size, self._max_boxes = source, size, max_boxes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        sample, fit = fitted(self._source[int(index) % len(self)], self._size)
        return to_row(sample, self._max_boxes, letterbox=fit)


class DrawnRows(grain.MapDataset[Row]):
    """The scenes of an endless source as they are: row g is scene g."""

    def __init__(self, source, *, max_boxes: int):
        super().__init__()
        self._source, self._max_boxes = source, max_boxes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        return to_row(self._source[int(index)], self._max_boxes)


def _without_labels(sample: Sample) -> Sample:
    none = {key: sample[key][:0] for key in ("boxes", "labels", "crowd")}
    segments = np.full_like(sample["segments"], UNLABELLED)
    return sample | none | dict(segments=segments, action=NO_LABEL)
