"""Frames of any size through a detector compiled for one batch of one canvas size."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.cofnet import tiling
from jaxvision.cofnet.tiling import Found
from jaxvision.data.geometry import letterbox
from jaxvision.metrics.detection import undo_letterbox

Detect = Callable[[np.ndarray], Mapping[str, Any]]
AHEAD = 1  # batches given to the device before the results of an earlier one are waited for


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """An image, uint8 `[h w 3]` RGB, or None where `error` says why there is none.

    `number` counts the frames of a video from 0 and is None for a still.
    """

    path: Path
    image: np.ndarray | None
    number: int | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    """How a frame is looked at: whole, and in tiles of `tile` pixels where that is given.

    Everything is fitted onto a canvas of `size` (h, w), `batch` of them at a time.
    """

    size: tuple[int, int]
    batch: int
    tile: int | None = None
    score: float = 0.3

    def __post_init__(self):
        if self.batch < 1 or min(self.size) < 1:
            raise ValueError(f"batch={self.batch} and size={self.size} must be at least 1")
        if self.tile is not None and self.tile < 1:
            raise ValueError(f"tile={self.tile} must be a number of pixels >= 1")
        if not 0 <= self.score <= 1:
            raise ValueError(f"score={self.score} must be between 0 and 1")

    def of(self, height: int, width: int) -> np.ndarray:
        """The parts of a frame that are looked at, the whole first: int `[n 4]` xyxy."""
        whole = np.array([[0, 0, width, height]])
        if self.tile is None:
            return whole
        return np.concatenate([whole, tiling.tiles(height, width, self.tile)])


def detect_frames(
    detect: Detect, frames: Iterable[Frame], views: Views
) -> Iterator[tuple[Frame, Found]]:
    """What is found in each frame, in order, boxes in pixels of the frame.

    `detect` always sees uint8 `[batch h w 3]`: the last batch is filled up with black. No more than
    `AHEAD + 2` batches are read ahead. A frame without an image comes back with nothing found.
    """
    looks = (look for frame in frames for look in _looks(frame, views))
    parts = _detect_looks(detect, looks, views)
    for frame, group in itertools.groupby(parts, key=lambda part: part[0].frame):
        looked, found = zip(*group, strict=True)
        if len(found) == 1:  # the detector's own suppression has the last word
            yield frame, found[0]
            continue
        height, width = frame.image.shape[:2]
        is_cut = [
            tiling.cut(part.boxes, look.region, height, width, look.pixel)
            for look, part in zip(looked, found, strict=True)
        ]
        yield frame, tiling.merge(tiling.concatenate(found), np.concatenate(is_cut))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    """A part of a frame, fitted onto a canvas: `letterbox` is (scale, left, top)."""

    frame: Frame
    region: np.ndarray
    canvas: np.ndarray | None
    letterbox: np.ndarray

    @property
    def pixel(self) -> float:
        return 1 / float(self.letterbox[0])


def _looks(frame: Frame, views: Views) -> Iterator[_Look]:
    if frame.image is None:
        yield _Look(frame=frame, region=np.zeros(4, int), canvas=None, letterbox=np.ones(3))
        return
    for region in views.of(*frame.image.shape[:2]):
        x0, y0, x1, y1 = region
        canvas, fit = letterbox(frame.image[y0:y1, x0:x1], views.size)
        yield _Look(frame=frame, region=region, canvas=canvas, letterbox=fit)


def _detect_looks(
    detect: Detect, looks: Iterator[_Look], views: Views
) -> Iterator[tuple[_Look, Found]]:
    """Each look with its boxes in pixels of the frame; one batch runs while another is read."""
    running: collections.deque = collections.deque()
    while chunk := list(itertools.islice(looks, views.batch)):
        canvases = np.zeros((views.batch, *views.size, 3), np.uint8)
        for i, look in enumerate(chunk):
            if look.canvas is not None:
                canvases[i] = look.canvas
        running.append((chunk, detect(canvases)))
        if len(running) > AHEAD:
            yield from _read_out(*running.popleft(), views)
    while running:
        yield from _read_out(*running.popleft(), views)


def _read_out(chunk, predictions, views: Views) -> Iterator[tuple[_Look, Found]]:
    height, width = views.size
    boxes = np.asarray(predictions["boxes"], np.float64) * (width, height, width, height)
    scores, labels = np.asarray(predictions["scores"]), np.asarray(predictions["labels"])
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"{chunk[0].frame.path}: predictions are not finite; is the model sound?")
    for i, look in enumerate(chunk):
        x0, y0, x1, y1 = look.region
        mine = undo_letterbox(boxes[i], look.letterbox, (y1 - y0, x1 - x0)) + (x0, y0, x0, y0)
        real = (scores[i] >= max(views.score, 1e-9)) & (mine[:, 2:] > mine[:, :2]).all(axis=1)
        yield (
            look,
            Found(
                boxes=mine[real],
                scores=scores[i][real].astype(np.float64),
                labels=labels[i][real],
                pixel=np.full(real.sum(), look.pixel),
            ),
        )
