"""Tables of partition nodes as CSV: `tables/<sequence>/<cq>_<frame>.csv`.

A row is a node of 8 to 64 pixels that lies within the frame: `frame`; `mi_row` and `mi_col`, in
units of 4 pixels; `size` in pixels; `partition` from 0 to 9; `qindex`, the frame's base index from
0 to 255; `cq_level`, what the encoder was asked for, -1 where that is not known; `is_key`, 1 for
frames that stand alone, 0 for others, -1 where that is not known.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from jaxvision.written import whole_file


class Row(NamedTuple):
    frame: int
    mi_row: int
    mi_col: int
    size: int
    partition: int
    qindex: int
    cq_level: int
    is_key: int


def table(root: Path, sequence: str, unit: str, frame: int) -> Path:
    """The place of a frame's table. `unit` is a quality as text, or `stream` or `log`."""
    return Path(root) / "tables" / sequence / f"{unit}_{frame:04d}.csv"


def write_rows(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, part.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """ValueError, with file and line, for what is no such table."""
    with Path(path).open(newline="", encoding="utf-8", errors="replace") as file:
        lines = csv.reader(file)
        if next(lines, None) != list(Row._fields):
            raise ValueError(f"{path}: its first line is not {','.join(Row._fields)}")
        rows = []
        for cells in lines:
            try:
                rows.append(Row(*map(int, cells)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}:{lines.line_num}: {cells} is no row") from error
    return rows
