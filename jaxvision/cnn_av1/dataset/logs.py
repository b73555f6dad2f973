"""Decisions that an encoder logged, read tolerantly and held against the video that they are of.

Two forms. CSV with a line of headers: frame, row, col, size, partition, and qp if it is there, in
any order and by any of their usual names; rows and columns in units of 4 pixels, or `y` and `x` in
pixels. Or plain lines of seven numbers, as a patched libaom writes to `partition_frame_0.txt`:
frame, frame type (0 intra), block size, row, column, partition, qp. A size is in pixels, or is
libaom's number of it (3, 6, 9, 12, 15 for 8 to 128); a partition is its number, or its name, as
`HORZ_A`.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxvision.data.av1 import partitions

NAMES = {
    "frame": ("frame", "frame_number", "frame_num", "order_hint", "poc"),
    "row": ("row", "mi_row", "block_row"),
    "col": ("col", "column", "mi_col", "block_col"),
    "y": ("y", "y_px"),
    "x": ("x", "x_px"),
    "size": ("size", "block_size", "bsize", "bs", "width"),
    "partition": ("partition", "partition_mode", "partition_type", "type", "label"),
    "qp": ("qp", "qindex", "base_qindex", "base_q_idx", "q"),
    "kind": ("frame_type", "kind"),
}
SEVEN = ("frame", "kind", "size", "row", "col", "partition", "qp")
NUMBERED = {3: 8, 6: 16, 9: 32, 12: 64, 15: 128}  # libaom's block sizes that are square


class Entry(NamedTuple):
    """A node as logged: `where` is file and line, `row` and `col` are in units of 4 pixels."""

    where: str
    frame: int
    row: int
    col: int
    size: int
    partition: int
    qp: int
    is_key: int


def read_logs(path: Path, *, qp: int | None = None) -> list[Entry]:
    """All entries of a file, or of the `.csv` and `.txt` files of a folder.

    `qp` is for logs that do not tell it. ValueError names file and line of what cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted((p for p in path.iterdir() if p.suffix in (".csv", ".txt")), key=_natural)
        if not files:
            raise ValueError(f"{path} holds no .csv or .txt")
    elif path.is_file():
        files = [path]
    else:
        raise ValueError(f"{path}: there is no such file or folder")
    entries = [entry for file in files for entry in _entries(file, qp)]
    if not entries:
        raise ValueError(f"{path}: there is no partition in it")
    return entries


def check_logs(entries: list[Entry], *, width: int, height: int, frames: int) -> None:
    """ValueError, naming file and line, for what cannot be of a video of that many frames.

    Refused: a frame past the end, a position outside the frame or off its size's grid, a partition
    that no node of that size has, a node logged twice, or within one that was not split.
    """
    rows, columns = -(-height // 8) * 2, -(-width // 8) * 2
    seen: dict[tuple[int, int, int, int], Entry] = {}
    for entry in entries:
        side = entry.size // partitions.UNIT
        if not 0 <= entry.frame < frames:
            raise ValueError(f"{entry.where}: frame {entry.frame}, but the video has {frames}")
        if not (0 <= entry.row < rows and 0 <= entry.col < columns):
            raise ValueError(
                f"{entry.where}: row {entry.row}, column {entry.col} (of 4 pixels) lies outside "
                f"{width}×{height}"
            )
        if entry.row % side or entry.col % side:
            raise ValueError(
                f"{entry.where}: row {entry.row}, column {entry.col} is no place of a node of "
                f"{entry.size} pixels, which lie {side} apart"
            )
        if entry.partition not in partitions.possible(entry.size):
            raise ValueError(
                f"{entry.where}: partition {entry.partition} is none that a node of {entry.size} "
                "pixels can have"
            )
        key = entry.frame, entry.size, entry.row, entry.col
        if key in seen:
            raise ValueError(f"{entry.where}: the same node as {seen[key].where}")
        seen[key] = entry
    for entry in entries:
        for size in (s for s in NUMBERED.values() if s > entry.size):
            side = size // partitions.UNIT
            corner = entry.row - entry.row % side, entry.col - entry.col % side
            outer = seen.get((entry.frame, size, *corner))
            if outer and outer.partition != partitions.SPLIT:
                raise ValueError(
                    f"{entry.where}: overlaps the node of {size} pixels at {outer.where}, whose "
                    f"partition is {partitions.NAMES[outer.partition]}, not SPLIT"
                )


def _natural(path: Path) -> list[tuple[int, str]]:
    """By the numbers in a name, so that frame 10 comes after 9."""
    return [(int(n or 0), text) for n, text in re.findall(r"(\d+)|(\D+)", path.name)]


def _entries(path: Path, qp: int | None) -> Iterator[Entry]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        names: tuple[str, ...] | None = None
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            cells = next(csv.reader([text])) if "," in text else re.split(r"[;\s]+", text)
            cells = [cell.strip() for cell in cells]
            where = f"{path}:{number}"
            if names is None and not re.fullmatch(r"-?\d+", cells[0]):
                names = _headers(cells, where)
                continue
            if len(cells) != len(names or SEVEN):
                raise ValueError(
                    f"{where}: {len(cells)} values where {len(names or SEVEN)} are expected "
                    f"({', '.join(n or '…' for n in names or SEVEN)})"
                )
            found = dict(zip(names or SEVEN, cells, strict=True))
            yield _entry(found, where, qp)


def _headers(cells: list[str], where: str) -> tuple[str, ...]:
    by_name = {name: key for key, known in NAMES.items() for name in known}
    keys = tuple(
        by_name.get(cell.lower().replace(" ", "_").replace("-", "_"), "") for cell in cells
    )
    twice = next((key for key in keys if key and keys.count(key) > 1), None)
    if twice:
        raise ValueError(f"{where}: two columns say {twice}: {', '.join(cells)}")
    lacking = [key for key in ("frame", "size", "partition") if key not in keys]
    lacking += [f"{a} (or {b})" for a, b in (("row", "y"), ("col", "x")) if {a, b}.isdisjoint(keys)]
    if lacking:
        raise ValueError(
            f"{where}: no column says {', '.join(lacking)}: there is {', '.join(cells)}"
        )
    return keys


def _entry(cells: dict[str, str], where: str, qp: int | None) -> Entry:
    def whole(key: str) -> int:
        if not re.fullmatch(r"-?\d+", cells[key]):
            raise ValueError(f"{where}: {key} {cells[key]!r} is no whole number")
        return int(cells[key])

    place = []
    for unit, pixel in (("row", "y"), ("col", "x")):
        if unit not in cells and whole(pixel) % partitions.UNIT:
            raise ValueError(f"{where}: {pixel} {cells[pixel]} is no multiple of 4 pixels")
        place.append(whole(unit) if unit in cells else whole(pixel) // partitions.UNIT)
    if "qp" not in cells and qp is None:
        raise ValueError(f"{where}: the log does not tell the qp: give --qp N, from 0 to 255")
    value = whole("qp") if "qp" in cells else qp
    if not 0 <= value <= 255:
        raise ValueError(f"{where}: qp {value} is no base index from 0 to 255")
    key = -1 if "kind" not in cells else int(whole("kind") == 0)
    size, partition = _size(cells["size"], where), _partition(cells["partition"], where)
    return Entry(where, whole("frame"), *place, size, partition, value, key)


def _size(text: str, where: str) -> int:
    match = re.fullmatch(r"(?:BLOCK_)?(\d+)(?:[xX×](\d+))?", text)
    number = int(match[1]) if match and match[2] in (None, match[1]) else 0
    size = NUMBERED.get(number, number)
    if size not in NUMBERED.values():
        raise ValueError(f"{where}: size {text!r} is none of 8, 16, 32, 64, 128")
    return size


def _partition(text: str, where: str) -> int:
    name = text.upper().removeprefix("PARTITION_")
    if name in partitions.NAMES:
        return partitions.NAMES.index(name)
    if re.fullmatch(r"\d", text):
        return int(text)
    raise ValueError(f"{where}: partition {text!r} is none of 0-9, {', '.join(partitions.NAMES)}")
