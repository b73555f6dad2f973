"""COCO's annotation files, checked while they are read.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context". A file that cannot be meant is refused
with one line; boxes that reach outside their image or have no area are clipped or dropped, and
counted.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data import entries

Keep = Callable[[Mapping[str, Any]], bool]
SizeOf = Callable[[str], tuple[int, int]]

_CLIP_TOLERANCE = 0.5  # pixels; COCO's own boxes reach outside by what rounding makes
_MOST_DROPPED = 0.5  # share of the boxes; beyond it they are of other images or of another form


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What a file held; the lists name the first few annotation ids."""

    images: int
    objects: int
    crowds: int
    empty: int
    clipped: int
    dropped: int
    orphans: int
    repeated: int
    examples: Mapping[str, Sequence[Any]]

    def problems(self) -> list[str]:
        """One line for each kind of fault that was mended."""
        told = {
            "clipped": "boxes reached outside their image and were clipped",
            "dropped": "boxes had no area within their image and were dropped",
            "orphans": "annotations belong to no image and were dropped",
            "repeated": "annotations have an id that another one has; they were kept",
        }
        return [
            f"{getattr(self, key)} {text} (annotations {', '.join(map(str, self.examples[key]))}"
            f"{', …' if getattr(self, key) > len(self.examples[key]) else ''})"
            for key, text in told.items()
            if getattr(self, key)
        ]

    def useless(self) -> str | None:
        """Why there is nothing to learn from or to measure by, if so."""
        boxes = self.objects + self.crowds + self.dropped
        if self.objects and self.dropped <= _MOST_DROPPED * boxes:
            return None
        return (
            f"{self.objects} objects in {self.images} images, {self.crowds} crowd regions, "
            f"{self.dropped} boxes dropped for want of area within their image"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotations:
    """Images and their objects as flat arrays: image i has the objects `first[i]:first[i + 1]`.

    `images` are records with `file_name`, `id`, `width` and `height`. `boxes [n 4]` are xyxy in
    pixels within the image; `labels [n]` index `categories`, which are in the order of their ids;
    `area [n]` is the file's (of the object's mask where there is one), else the box's.
    """

    file: str
    images: tuple[dict[str, Any], ...]
    categories: tuple[str, ...]
    category_ids: tuple[int, ...]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    first: np.ndarray
    counts: Counts


def read(path: Path, *, keep: Keep | None = None, size_of: SizeOf) -> Annotations:
    """Reads a COCO annotations file, of the images that `keep` accepts.

    `size_of(file_name)` gives (height, width) for records without `width` and `height`.
    """
    data = entries.load(path)
    names = entries.categories(data["categories"], path)
    known = entries.images(data["images"], path)
    images = [image for image in known.values() if keep is None or keep(image)]
    if not images:
        reason = (
            "the filter keeps none of them: choose another holdout or subset"
            if known
            else "it lists no images: list those of this split"
        )
        raise ValueError(f"{path}: zero images ({len(known)} listed, {reason})")
    records = tuple(_record(image, size_of) for image in images)
    rows = {image["id"]: row for row, image in enumerate(records)}
    ids = sorted(names)
    labels = {category: label for label, category in enumerate(ids)}
    table, found = entries.objects(data["annotations"], rows, known, labels, path)
    _refuse_fractions(table.boxes, path)

    sizes = np.array([(r["width"], r["height"]) for r in records], np.float64)
    inside = np.clip(table.boxes, 0, np.tile(sizes[table.row], 2))
    moved = np.abs(inside - table.boxes).max(axis=1, initial=0) > _CLIP_TOLERANCE
    real = (inside[:, 2:] > inside[:, :2]).all(axis=1)  # NaN compares False
    for kind, chosen in (("clipped", moved & real), ("dropped", ~real)):
        found[kind] = entries.names_of(data["annotations"], table.place[chosen])

    order = np.flatnonzero(real)[np.argsort(table.row[real], kind="stable")]
    table, inside = table.take(order), inside[order].astype(np.float32)
    per_image = np.bincount(table.row, minlength=len(records))
    own_area = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
    counts = Counts(
        images=len(records),
        objects=int((~table.crowd).sum()),
        crowds=int(table.crowd.sum()),
        empty=int((per_image == 0).sum()),
        examples={key: ids[:5] for key, ids in found.items()},
        **{key: len(ids) for key, ids in found.items()},
    )
    return Annotations(
        file=str(path),
        images=records,
        categories=tuple(names[c] for c in ids),
        category_ids=tuple(ids),
        boxes=inside,
        labels=table.labels,
        crowd=table.crowd,
        area=np.where(table.area > 0, table.area, own_area).astype(np.float32),
        first=np.concatenate([[0], np.cumsum(per_image)]),
        counts=counts,
    )


def _record(image: Mapping[str, Any], size_of: SizeOf) -> dict[str, Any]:
    if image.get("width") and image.get("height"):
        width, height = int(image["width"]), int(image["height"])
    else:
        height, width = size_of(image["file_name"])
    return dict(file_name=image["file_name"], id=image["id"], width=width, height=height)


def _refuse_fractions(boxes: np.ndarray, path: Path) -> None:
    ends = boxes[:, 2:]
    if (ends > 0).any() and not (ends > 1).any():
        raise ValueError(
            f"{path}: every box lies within one pixel; bbox must be [x, y, width, height] in "
            f"pixels, not fractions of the image"
        )
