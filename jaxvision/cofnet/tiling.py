"""Small objects in large frames: overlapping tiles, and their boxes merged into one set.

Akyon et al. 2022, "Slicing Aided Hyper Inference"; boxes that a tile's border cuts go first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

OVERLAP = (
    0.2  # share of a tile that its neighbour sees too; objects up to it are whole in one of them
)
INSIDE = 0.6  # share of a cut box within another from which the other is taken for the fuller one
TRUST = 0.5  # of the cut box's score that the fuller one must have


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Boxes `[n 4]` xyxy in pixels of the frame, with `scores [n]` and `labels [n]`.

    `pixel [n]` is the size, in pixels of the frame, of one pixel of the canvas a box was found on.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    pixel: np.ndarray

    def __getitem__(self, rows) -> "Found":
        return Found(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


def concatenate(parts: Sequence[Found]) -> Found:
    """The boxes of all parts, in their order."""
    names = [f.name for f in dataclasses.fields(Found)]
    return Found(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def tiles(height: int, width: int, tile: int) -> np.ndarray:
    """Squares of side `tile` that cover the frame and overlap by at least 20 %: int `[n 4]` xyxy.

    Evenly spread; a side shorter than a tile gives shorter tiles. None for a frame no larger than
    one tile.
    """
    if tile < 1:
        raise ValueError(f"tile={tile} must be a number of pixels >= 1")
    if height <= tile and width <= tile:
        return np.zeros((0, 4), int)
    tops, lefts = _starts(height, tile), _starts(width, tile)
    return np.array(
        [(x, y, min(x + tile, width), min(y + tile, height)) for y in tops for x in lefts]
    )


def _starts(length: int, tile: int) -> np.ndarray:
    if length <= tile:
        return np.zeros(1, int)
    stride = max(1, int(tile * (1 - OVERLAP)))
    count = 1 + -(-(length - tile) // stride)
    return np.linspace(0, length - tile, count).round().astype(int)


def cut(boxes: np.ndarray, tile: np.ndarray, height: int, width: int, pixel: float) -> np.ndarray:
    """Which boxes `[n 4]` reach a border of their tile that is no border of the frame: `[n]` bool.

    Within a pixel of the canvas counts as reaching.
    """
    x0, y0, x1, y1 = tile
    borders = np.array([x0 > 0, y0 > 0, x1 < width, y1 < height])
    return (borders & (abs(boxes - tile) <= pixel)).any(axis=1)


def merge(found: Found, is_cut: np.ndarray, *, iou: float = 0.5) -> Found:
    """One set of boxes out of those of overlapping views, best first.

    First, boxes cut by a tile's border go where a fuller box of their class covers them. Then
    class-aware non-maximum suppression gathers the boxes of each object, of which the one seen at
    the finest resolution, whole, stays, with the best score of them all.
    """
    area = _area(found.boxes)
    keep = np.ones(len(area), bool)
    for i in np.flatnonzero(is_cut):
        share = _shared(found.boxes[i], found.boxes) / max(area[i], np.finfo(float).tiny)
        fuller = (share >= INSIDE) & (area > area[i]) & (found.labels == found.labels[i])
        keep[i] = not (fuller & (found.scores >= TRUST * found.scores[i])).any()
    order = np.flatnonzero(keep)[np.argsort(-found.scores[keep], kind="stable")]
    found, is_cut = found[order], is_cut[order]
    groups = gather(found, iou=iou)
    best = np.array([group[0] for group in groups], int)
    finest = [g[np.lexsort((-found.scores[g], found.pixel[g], is_cut[g]))[0]] for g in groups]
    return dataclasses.replace(found[np.array(finest, int)], scores=found.scores[best])


def gather(found: Found, *, iou: float) -> list[np.ndarray]:
    """Groups of rows, of boxes sorted by score, that class-aware suppression takes for one object.

    The best row of each comes first. A shift of one canvas pixel is forgiven, so that a tiny object
    seen coarsely in the whole frame and exactly in a tile is one object.
    """
    groups = []
    left = np.arange(len(found.scores))
    while len(left):
        best = left[0]
        grow = np.maximum(found.pixel[best], found.pixel[left])[:, None] * (-1, -1, 1, 1)
        one, others = found.boxes[best] + grow, found.boxes[left] + grow
        shared = _shared(one, others)
        same = (found.labels[left] == found.labels[best]) & (
            shared >= iou * (_area(one) + _area(others) - shared)
        )
        groups.append(left[same])
        left = left[~same]
    return groups


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return np.prod(np.maximum(high - low, 0), axis=-1)
