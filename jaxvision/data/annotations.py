"""COCO's annotation files, checked while they are read.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context". A file that cannot be meant is refused
with one line; boxes that reach outside their image or have no area are clipped or dropped, and
counted.
"""

import collections
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Keep = Callable[[Mapping[str, Any]], bool]
SizeOf = Callable[[str], tuple[int, int]]

_KEYS = ("images", "annotations", "categories")
_CLIP_TOLERANCE = 0.5  # pixels; COCO's own boxes reach outside by what rounding makes


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
    data = _load(path)
    names = _categories(data["categories"], path)
    known = _images(data["images"], path)
    images = [image for image in known.values() if keep is None or keep(image)]
    if not images:
        reason = "the filter keeps none of them" if known else "it lists no images"
        raise ValueError(f"{path}: zero images ({len(known)} listed, {reason})")
    records = tuple(_record(image, size_of) for image in images)
    rows = {image["id"]: row for row, image in enumerate(records)}
    ids = sorted(names)
    labels = {category: label for label, category in enumerate(ids)}
    table, found = _objects(data["annotations"], rows, known, labels, path)
    _refuse_fractions(table, path)

    sizes = np.array([(r["width"], r["height"]) for r in records], np.float64)
    row, boxes = table[:, 0].astype(np.int64), table[:, 1:5]
    limit = np.tile(sizes[row], 2)
    inside = np.clip(boxes, 0, limit)
    moved = np.abs(inside - boxes).max(axis=1, initial=0) > _CLIP_TOLERANCE
    real = (inside[:, 2:] > inside[:, :2]).all(axis=1)  # NaN compares False
    for kind, chosen in (("clipped", moved & real), ("dropped", ~real)):
        entries = [data["annotations"][k] for k in table[chosen, 7].astype(np.int64)]
        found[kind] = [entry.get("id", "without id") for entry in entries]

    table, row, inside = table[real], row[real], inside[real]
    order = np.argsort(row, kind="stable")
    table, row, inside = table[order], row[order], inside[order].astype(np.float32)
    per_image = np.bincount(row, minlength=len(records))
    crowd = table[:, 6] != 0
    own_area = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
    counts = Counts(
        images=len(records),
        objects=int((~crowd).sum()),
        crowds=int(crowd.sum()),
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
        labels=table[:, 5].astype(np.int32),
        crowd=crowd,
        area=np.where(table[:, 8] > 0, table[:, 8], own_area).astype(np.float32),
        first=np.concatenate([[0], np.cumsum(per_image)]),
        counts=counts,
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); COCO annotations are expected") from error
    if not isinstance(data, dict):
        raise ValueError(
            f"{path}: not COCO annotations: it holds a {type(data).__name__}, not an object with "
            f"{', '.join(_KEYS)}"
        )
    for key in _KEYS:
        if not isinstance(data.get(key), list):
            raise ValueError(
                f"{path}: not COCO annotations: the list {key!r} is missing; "
                f"there is {sorted(data)[:8]}"
            )
    return data


def _need(entry: Any, keys: Sequence[str], place: str) -> None:
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        there = sorted(entry) if isinstance(entry, dict) else repr(entry)
        raise ValueError(f"{place} has no {missing[0]!r}; it has {there}")


def _categories(entries: list, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for k, entry in enumerate(entries):
        _need(entry, ("id", "name"), f"{path}: categories[{k}]")
        if not isinstance(entry["id"], int):
            raise ValueError(f"{path}: category id {entry['id']!r} is not an integer")
        if entry["id"] in names or entry["name"] in names.values():
            raise ValueError(f"{path}: category {entry['id']} {entry['name']!r} is listed twice")
        names[entry["id"]] = entry["name"]
    if not names:
        raise ValueError(f"{path}: it lists no categories; give every class an id and a name")
    return names


def _images(entries: list, path: Path) -> dict[Any, dict[str, Any]]:
    known: dict[Any, dict[str, Any]] = {}
    for k, entry in enumerate(entries):
        _need(entry, ("id", "file_name"), f"{path}: images[{k}]")
        if entry["id"] in known:
            raise ValueError(
                f"{path}: image id {entry['id']} is listed twice "
                f"({known[entry['id']]['file_name']}, {entry['file_name']})"
            )
        known[entry["id"]] = entry
    return known


def _record(image: Mapping[str, Any], size_of: SizeOf) -> dict[str, Any]:
    if image.get("width") and image.get("height"):
        width, height = int(image["width"]), int(image["height"])
    else:
        height, width = size_of(image["file_name"])
    return dict(file_name=image["file_name"], id=image["id"], width=width, height=height)


def _objects(
    entries: list, rows: Mapping, known: Mapping, labels: Mapping, path: Path
) -> tuple[np.ndarray, dict[str, list]]:
    """Rows (image, x0, y0, x1, y1, label, crowd, place, area), and ids of faulty ones by kind."""
    table, orphans, repeated, seen = [], [], [], set()
    unnamed: collections.Counter = collections.Counter()
    for k, entry in enumerate(entries):
        _need(entry, ("image_id", "category_id", "bbox"), f"{path}: annotations[{k}]")
        name = entry.get("id", k)
        repeated += [name] if name in seen else []
        seen.add(name)
        if entry["category_id"] not in labels:
            unnamed[entry["category_id"]] += 1
        elif entry["image_id"] not in known:
            orphans.append(name)
        elif entry["image_id"] in rows:
            try:
                x, y, w, h = map(float, entry["bbox"])
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}: annotation {name}: bbox {entry['bbox']!r} is not "
                    f"[x, y, width, height]"
                ) from error
            where = (rows[entry["image_id"]], x, y, x + w, y + h)
            what = (labels[entry["category_id"]], bool(entry.get("iscrowd", 0)))
            table.append((*where, *what, k, float(entry.get("area") or 0)))
    if unnamed:
        category, count = unnamed.most_common(1)[0]
        raise ValueError(
            f"{path}: {count} annotations have category id {category}, which has no name in "
            f"'categories' ({len(unnamed)} such ids; named are {sorted(labels)[:8]})"
        )
    if orphans and len(orphans) == len(entries):
        raise ValueError(
            f"{path}: none of the {len(entries)} annotations has the id of an image "
            f"(image_id {entries[0]['image_id']!r}; images have ids like {next(iter(known))!r})"
        )
    return np.array(table, np.float64).reshape(-1, 9), {"orphans": orphans, "repeated": repeated}


def _refuse_fractions(table: np.ndarray, path: Path) -> None:
    ends = table[:, 3:5]
    if (ends > 0).any() and not (ends > 1).any():
        raise ValueError(
            f"{path}: every box lies within one pixel; bbox must be [x, y, width, height] in "
            f"pixels, not fractions of the image"
        )
