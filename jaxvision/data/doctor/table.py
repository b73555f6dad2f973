"""A COCO file read leniently: what is broken becomes a finding, the rest can still be examined."""

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.doctor.finding import ERROR, OK, WARN, Finding, some

KEYS = ("images", "annotations", "categories")


@dataclasses.dataclass(frozen=True)
class Table:
    """The entries of one split that make sense.

    `sizes` `[n 2]` are the widths and heights that the JSON states, NaN where it states none;
    `boxes` `[m 4]` are as written (x, y, w, h); `image` `[m]` are rows of `files`; `category` `[m]`
    are ids.
    """

    name: str
    folder: Path
    file: Path
    files: list[str]
    sizes: np.ndarray
    categories: dict[Any, str]
    boxes: np.ndarray
    image: np.ndarray
    category: np.ndarray
    crowd: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Class indices `[m]`, the rank of the category's id, -1 where it has no name."""
        rank = {c: i for i, c in enumerate(sorted(self.categories))}
        return np.array([rank.get(c, -1) for c in self.category], np.int64)


def read(name: str, folder: Path, file: Path) -> tuple[Table | None, list[Finding]]:
    """Reads what can be read; None where nothing can."""
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        mend = "check the name and the permissions"
        return None, [Finding(ERROR, "json", f"{file}: {error.strerror}", mend)]
    except ValueError as error:
        mend = "export the annotations again; the file is cut short or of another format"
        return None, [Finding(ERROR, "json", f"{file} is not JSON: {error}", mend)]
    lists = {k: data.get(k) if isinstance(data, dict) else None for k in KEYS}
    lacking = [k for k, v in lists.items() if not isinstance(v, list)]
    if lacking:
        kind = (
            f"keys {some(sorted(data))}" if isinstance(data, dict) else f"a {type(data).__name__}"
        )
        text = f"{file} holds {kind} and no list {some(map(repr, lacking))}"
        mend = "give COCO instances: an object with the lists images, annotations and categories"
        return None, [Finding(ERROR, "json", text, mend)]
    findings: list[Finding] = []
    categories = _categories(lists["categories"], findings)
    rows, files, sizes = _images(lists["images"], findings)
    columns = _annotations(lists["annotations"], rows, categories, findings)
    findings = findings or [Finding(OK, "json", "well formed")]
    return Table(name, folder, file, files, sizes, categories, *columns), findings


def _categories(entries: list, findings: list[Finding]) -> dict[int, str]:
    good, bad = {}, []
    for entry in entries:
        if (
            isinstance(entry, dict)
            and _is_id(entry.get("id"))
            and isinstance(entry.get("name"), str)
        ):
            if entry["id"] in good:
                bad.append(f"id {entry['id']} twice")
            good.setdefault(entry["id"], entry["name"])
        else:
            bad.append(repr(entry)[:40])
    same = [n for n, count in collections.Counter(good.values()).items() if count > 1]
    bad += [f"name {n!r} twice" for n in same]
    if bad:
        mend = "give every category a name and an integer id of its own"
        findings.append(Finding(ERROR, "categories", f"categories: {some(bad)}", mend))
    if not good:
        mend = "list every class with id and name"
        findings.append(Finding(ERROR, "categories", "no category is listed", mend))
    return good


def _images(entries: list, findings: list[Finding]) -> tuple[dict, list[str], np.ndarray]:
    rows, files, sizes, bad, twice, bare = {}, [], [], [], [], []
    for entry in entries:
        named = isinstance(entry, dict) and isinstance(entry.get("file_name"), str)
        if not named or not isinstance(entry.get("id"), int | str):
            bad.append(repr(entry)[:60])
            continue
        if entry["id"] in rows:
            twice.append(entry["id"])
            continue
        stated = [entry.get(k) for k in ("width", "height")]
        if not all(stated):
            bare.append(entry["file_name"])
        size = [_number(value) for value in stated]
        if not (size[0] > 0 and size[1] > 0):  # NaN compares False
            size = [np.nan, np.nan]
        rows[entry["id"]] = len(files)
        files.append(entry["file_name"])
        sizes.append(size)
    if bad:
        mend = "give every image an id and a file_name"
        text = f"{len(bad)} images without id or file_name: {some(bad)}"
        findings.append(Finding(ERROR, "images", text, mend))
    if twice:
        text = f"{len(twice)} image ids are listed twice: {some(twice)}"
        findings.append(
            Finding(ERROR, "images", text, "number the images anew, and image_id with them")
        )
    again = [n for n, count in collections.Counter(files).items() if count > 1]
    if again:
        text = f"{len(again)} files are listed under several ids: {some(again)}"
        mend = "merge their annotations under one id: each now lacks the other's boxes"
        findings.append(Finding(ERROR, "images", text, mend))
    if bare:
        text = f"{len(bare)} images without width and height: {some(bare)}"
        mend = "add them; until then they are read from the files"
        findings.append(Finding(WARN, "images", text, mend))
    if not files:
        findings.append(Finding(ERROR, "images", "zero images", "list the images of this split"))
    return rows, files, np.array(sizes, np.float64).reshape(-1, 2)


def _annotations(entries: list, rows: dict, categories: dict, findings: list[Finding]) -> tuple:
    table, bad, orphans, ids = [], [], [], collections.Counter()
    unnamed: collections.Counter = collections.Counter()
    no_area = 0
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict):
            bad.append(f"[{k}] is a {type(entry).__name__}")
            continue
        name = entry.get("id")
        ids[str(name) if isinstance(name, dict | list) else name] += 1
        box = entry.get("bbox")
        numbers = [_number(v) for v in box] if isinstance(box, list) else []
        category, image = entry.get("category_id"), entry.get("image_id")
        if len(numbers) != 4 or not np.isfinite(numbers).all() or not _is_id(category):
            bad.append(f"id {name}: bbox {box}, category_id {category!r}")
            continue
        if not isinstance(image, int | str) or image not in rows:
            orphans.append(name)
            continue
        if category not in categories:
            unnamed[category] += 1
        no_area += not _number(entry.get("area")) > 0
        table.append((*numbers, rows[image], category, bool(entry.get("iscrowd", 0))))
    if bad:
        mend = (
            "write bbox as four finite numbers [x, y, width, height] and category_id as an integer"
        )
        text = f"{len(bad)} annotations without usable box or class: {some(bad)}"
        findings.append(Finding(ERROR, "annotations", text, mend))
    if orphans:
        text = f"{len(orphans)} annotations belong to no listed image: {some(orphans)}"
        mend = "remove them, or list their images"
        findings.append(Finding(ERROR, "annotations", text, mend))
    if unnamed:
        counted = some(f"{c} ({n} boxes)" for c, n in sorted(unnamed.items()))
        text = f"category ids without a name: {counted}; named are {some(sorted(categories))}"
        mend = "add them to categories (a list numbered from 0 or 1 with boxes from the other?)"
        findings.append(Finding(ERROR, "categories", text, mend))
    twice = [i for i, count in ids.items() if count > 1]
    if twice:
        text = f"{len(twice)} annotation ids are missing or used twice: {some(twice)}"
        mend = "number the annotations 1, 2, …: COCO's own tools keep one box of each id"
        findings.append(Finding(WARN, "annotations", text, mend))
    if no_area:
        text = f"{no_area} annotations without a positive area"
        mend = "add area = width * height; until then the box's is used"
        findings.append(Finding(WARN, "annotations", text, mend))
    array = np.array(table, np.float64).reshape(-1, 7)
    whole = array[:, 4:6].astype(np.int64)
    return array[:, :4], whole[:, 0], whole[:, 1], array[:, 6] > 0


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else float("nan")
