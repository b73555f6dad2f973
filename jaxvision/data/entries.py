"""The entries of a COCO annotations file, refused with one line where one is not of its type."""

import dataclasses
import itertools
import json
import math
import reprlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

_KEYS = ("images", "annotations", "categories")
_NUMBERS = frozenset((int, float))  # `type(True)` is none of them


@dataclasses.dataclass(frozen=True)
class Field:
    """A key of every entry, the types its value may have (`NoneType`: also absent), in words."""

    key: str
    types: frozenset[type]
    words: str


_CATEGORY = (
    Field("id", frozenset((int,)), "an integer"),
    Field("name", frozenset((str,)), "text: name every category"),
)
_IMAGE = (
    Field("id", frozenset((int, str)), "an integer or text"),
    Field("file_name", frozenset((str,)), "text"),
    Field("width", _NUMBERS | {NoneType}, "a number"),
    Field("height", _NUMBERS | {NoneType}, "a number"),
)
_ANNOTATION = (
    Field("id", frozenset((int, float, str, NoneType)), "an integer"),
    Field("image_id", frozenset((int, str)), "an integer or text"),
    Field("category_id", frozenset((int,)), "an integer"),
    Field("bbox", frozenset((list,)), "[x, y, width, height]"),
    Field("area", _NUMBERS | {NoneType}, "a number"),
    Field("iscrowd", _NUMBERS | {bool, NoneType}, "0 or 1"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects:
    """Annotations as columns: the row of the image, `boxes [n 4]` xyxy, the place in the file."""

    row: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    place: np.ndarray

    def take(self, chosen: np.ndarray) -> "Objects":
        return Objects(**{f.name: getattr(self, f.name)[chosen] for f in dataclasses.fields(self)})


def load(path: Path) -> dict[str, Any]:
    """The three lists of a COCO file."""
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


def categories(entries: list, path: Path) -> dict[int, str]:
    """Names by id."""
    ids, texts = _columns(entries, _CATEGORY, f"{path}: categories")
    names: dict[int, str] = {}
    for k, (number, name) in enumerate(zip(ids, texts, strict=True)):
        if not name.strip():
            raise ValueError(f"{path}: categories[{k}].name is {name!r}: name category {number}")
        if number in names or name in names.values():
            raise ValueError(
                f"{path}: category {number} {name!r} is listed twice: give every class an id and "
                "a name of its own"
            )
        names[number] = name
    if not names:
        raise ValueError(f"{path}: it lists no categories; give every class an id and a name")
    return names


def images(entries: list, path: Path) -> dict[Any, dict[str, Any]]:
    """Records by id."""
    place = f"{path}: images"
    ids, files, *sides = _columns(entries, _IMAGE, place)
    for field, values in zip(_IMAGE[2:], sides, strict=True):
        for k, value in enumerate(values):
            if value and not 0 < value < math.inf:
                raise ValueError(f"{place}[{k}].{field.key} is {value}, not a number of pixels")
    if len(set(map(type, ids))) > 1:  # they are sorted
        raise ValueError(f"{place}: some ids are integers and some text: write all alike")
    known: dict[Any, dict[str, Any]] = {}
    for k, (number, name) in enumerate(zip(ids, files, strict=True)):
        if not name:
            raise ValueError(f"{place}[{k}].file_name is '': name the file of image {number!r}")
        if number in known:
            raise ValueError(
                f"{path}: image id {number!r} is listed twice ({known[number]['file_name']}, "
                f"{name}): give every image an id of its own"
            )
        known[number] = entries[k]
    return known


def objects(
    entries: list,
    rows: Mapping[Any, int],
    known: Collection[Any],
    labels: Mapping[int, int],
    path: Path,
) -> tuple[Objects, dict[str, list]]:
    """The annotations of the images in `rows`, and ids of faulty ones by kind of fault."""
    place = f"{path}: annotations"
    ids, image_ids, category_ids, boxes, areas, crowds = _columns(entries, _ANNOTATION, place)
    _check_boxes(boxes, place)
    unnamed = Counter(c for c in category_ids if c not in labels)
    if unnamed:
        category, count = unnamed.most_common(1)[0]
        raise ValueError(
            f"{path}: {count} annotations have category id {category}, which has no name in "
            f"'categories' ({len(unnamed)} such ids; named are {sorted(labels)[:8]}): add it "
            "there, or number both alike"
        )
    orphans = [k for k, image in enumerate(image_ids) if image not in known]
    if orphans and len(orphans) == len(entries):
        raise ValueError(
            f"{path}: none of the {len(entries)} annotations has the id of an image (image_id "
            f"{image_ids[0]!r}; images have ids like {next(iter(known))!r}): write both alike"
        )
    chosen = [k for k, image in enumerate(image_ids) if image in rows]
    corner, extent = np.split(np.array([boxes[k] for k in chosen], float).reshape(-1, 4), 2, axis=1)
    table = Objects(
        row=np.array([rows[image_ids[k]] for k in chosen], np.int64),
        boxes=np.concatenate([corner, corner + extent], axis=1),
        labels=np.array([labels[category_ids[k]] for k in chosen], np.int32),
        crowd=np.array([bool(crowds[k]) for k in chosen], bool),
        area=np.array([areas[k] or 0 for k in chosen], float),
        place=np.array(chosen, np.int64),
    )
    return table, {"orphans": names_of(entries, orphans), "repeated": _repeated(ids)}


def names_of(entries: list, places: Iterable[int]) -> list[Any]:
    """The ids of the annotations at `places`."""
    ids = (entries[k].get("id") for k in places)
    return ["without id" if i is None else i for i in ids]


def _repeated(ids: list) -> list[Any]:
    """Each id as often as it is there again."""
    given = [i for i in ids if i is not None]
    if len(set(given)) == len(given):
        return []
    return [i for i, count in Counter(given).items() for _ in range(count - 1)]


def _columns(entries: list, fields: Sequence[Field], place: str) -> list[list]:
    """The values of each field, None where there is none; whole columns are checked at once."""
    if not {dict}.issuperset(map(type, entries)):
        k = next(k for k, entry in enumerate(entries) if type(entry) is not dict)
        raise ValueError(f"{place}[{k}] is {reprlib.repr(entries[k])}, not an object")
    columns = [[entry.get(field.key) for entry in entries] for field in fields]
    for field, values in zip(fields, columns, strict=True):
        if not field.types.issuperset(map(type, values)):
            raise ValueError(_wrong(entries, field, values, place))
    return columns


def _wrong(entries: list, field: Field, values: list, place: str) -> str:
    """What is said of the first value that is of another type."""
    wrong = [k for k, value in enumerate(values) if type(value) not in field.types]
    k, more = wrong[0], f" ({len(wrong)} such)" if len(wrong) > 1 else ""
    if field.key not in entries[k]:
        return f"{place}[{k}] has no {field.key!r}; it has {sorted(entries[k])}{more}"
    own = reprlib.repr(entries[k].get("id"))
    of = "" if field.key == "id" else f" (id {own})"
    text = f"{place}[{k}].{field.key}{of} is {reprlib.repr(values[k])}, not {field.words}{more}"
    if isinstance(values[k], str) and values[k].strip().lstrip("-").replace(".", "", 1).isdigit():
        return f"{text}: write it without quotes"
    return text


def _check_boxes(boxes: list, place: str) -> None:
    if {4}.issuperset(map(len, boxes)):
        if _NUMBERS.issuperset(map(type, itertools.chain.from_iterable(boxes))):
            return
    k = next(k for k, b in enumerate(boxes) if len(b) != 4 or not _NUMBERS >= set(map(type, b)))
    raise ValueError(
        f"{place}[{k}].bbox is {reprlib.repr(boxes[k])}, not four numbers [x, y, width, height]"
    )
