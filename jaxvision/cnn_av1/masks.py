"""Masks: which partition types the encoder may search at each node of the tree.

A mask is a number whose bit `t` allows type `t` of `partitions.NAMES`. A table, uint16
`[4 rows cols]`, has one for every node of 64, 32, 16 and 8 pixels (`NODE_SIZES`), at the row and
column of its upper left corner in units of 8 pixels. What a node's mask says matters only if the
node is searched: below a mask without SPLIT nothing is.

Sets rather than single types are what a predictor should give. They keep the smallest number of
types that hold a probability `tau`, after Romano, Sesia and Candès 2020 (adaptive prediction sets).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from jaxvision.data.av1.partitions import BASIC, NAMES, NODE_SIZES, UNIT, possible
from jaxvision.data.av1.tree import Node

CELL = 8  # pixels of the table's rows and columns
EVERY = (1 << len(NAMES)) - 1
BITS = 1 << np.arange(len(NAMES), dtype=np.uint16)


def mask(types: Iterable[int]) -> int:
    """The mask that allows these types."""
    return sum(1 << kind for kind in set(types))


def shape(height: int, width: int) -> tuple[int, int, int]:
    """Of the table of a frame."""
    if height < 1 or width < 1:
        raise ValueError(f"a frame of {width}×{height} has no pixel")
    return len(NODE_SIZES), -(-height // CELL), -(-width // CELL)


def full(height: int, width: int) -> np.ndarray:
    """The table that leaves everything to the encoder."""
    return np.full(shape(height, width), EVERY, np.uint16)


def checked(table: np.ndarray, height: int, width: int) -> np.ndarray:
    """The table, if it is one of such a frame; ValueError otherwise."""
    if table.dtype != np.uint16 or table.shape != shape(height, width):
        raise ValueError(
            f"masks are {table.dtype} {table.shape}; a frame of {width}×{height} has uint16"
            f" {shape(height, width)}"
        )
    for level, found in zip(NODE_SIZES, table, strict=True):
        if (found > EVERY).any() or not (found & mask(possible(level))).all():
            wrong = found[(found > EVERY) | ((found & mask(possible(level))) == 0)][0]
            raise ValueError(f"mask {wrong:#x} allows no type that a node of {level} can have")
    return table


def check_level(level: int) -> int:
    """The level's place in tables; ValueError for a size that is no node's."""
    if level not in NODE_SIZES:
        raise ValueError(f"level {level} is none of {', '.join(map(str, NODE_SIZES))}")
    return NODE_SIZES.index(level)


def positions(height: int, width: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns `[n]`, in units of 4 pixels, of the nodes of a level in raster order.

    Those are the ones that lie within the picture; the others' types are in part forced.
    """
    check_level(level)
    rows, cols = np.mgrid[: height // level, : width // level] * (level // UNIT)
    return rows.ravel(), cols.ravel()


def place(
    table: np.ndarray, level: int, rows: np.ndarray, cols: np.ndarray, masks: np.ndarray
) -> None:
    """Writes masks `[n]` of nodes at `rows`, `cols` (in units of 4 pixels) into a table.

    Types that a node of this size cannot have are left out.

    Raises:
      ValueError: for a mask that then allows none, and a node that is not on its grid or outside.
    """
    index, step = check_level(level), level // UNIT
    rows, cols, masks = np.asarray(rows), np.asarray(cols), np.asarray(masks)
    if not rows.shape == cols.shape == masks.shape:
        raise ValueError(f"{rows.shape} rows, {cols.shape} columns and {masks.shape} masks")
    cells = CELL // UNIT
    outside = (rows < 0) | (cols < 0) | (rows // cells >= table.shape[1])
    wrong = outside | (cols // cells >= table.shape[2]) | (rows % step != 0) | (cols % step != 0)
    if wrong.any():
        row, col = rows[wrong][0], cols[wrong][0]
        raise ValueError(f"no node of {level} pixels is at row {row}, column {col} of the table")
    masks = masks & mask(possible(level))
    if not masks.all():
        row, col = rows[masks == 0][0], cols[masks == 0][0]
        raise ValueError(f"the node of {level} pixels at row {row}, column {col} is left no type")
    table[index, rows // cells, cols // cells] = masks


def from_tree(
    nodes: Iterable[Node],
    height: int,
    width: int,
    *,
    levels: Sequence[int] = NODE_SIZES,
) -> np.ndarray:
    """The table that allows, at these levels, what a tree has: an oracle's."""
    table = full(height, width)
    nodes = [node for node in nodes if node.whole]
    for level in levels:
        chosen = [node for node in nodes if node.size == level]
        types = np.array([1 << node.partition for node in chosen], np.int64)
        rows = np.array([node.row for node in chosen], np.int64)
        place(table, level, rows, np.array([node.col for node in chosen], np.int64), types)
    return table


def at_level(probabilities: np.ndarray, level: int) -> np.ndarray:
    """Probabilities `[n 10]` among the types that nodes of a level can have.

    Raises:
      ValueError: for what is no probability, or where none is left.
    """
    check_level(level)
    found = np.asarray(probabilities, np.float64)
    if found.ndim != 2 or found.shape[1] != len(NAMES):
        raise ValueError(f"probabilities are {found.shape}, not [n {len(NAMES)}]")
    if not np.isfinite(found).all() or (found < 0).any():
        wrong = found[~np.isfinite(found) | (found < 0)][0]
        raise ValueError(f"{wrong} is no probability")
    kept = np.zeros_like(found)
    kept[:, possible(level)] = found[:, possible(level)]
    sums = kept.sum(axis=1, keepdims=True)
    if not sums.all():
        raise ValueError(f"a node of {level} pixels has no probability for any type it can have")
    return kept / sums


def hard(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest type alone: `[n 10]` -> uint16 `[n]`."""
    return BITS[np.asarray(probabilities).argmax(axis=1)]


def cumulative(probabilities: np.ndarray, tau: float) -> np.ndarray:
    """The fewest types that hold a probability of `tau`, the likeliest first: uint16 `[n]`."""
    if not 0 < tau <= 1:
        raise ValueError(f"tau={tau} must be above 0 and at most 1")
    found = np.asarray(probabilities, np.float64)
    order = np.argsort(-found, axis=1, kind="stable")
    ranked = np.take_along_axis(found, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    wanted = tau - 4 * np.finfo(np.float64).eps * len(NAMES)  # sums of ten are rounded
    return np.where(before < wanted, BITS[order], 0).sum(axis=1, dtype=np.uint16)


def threshold_extended(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The basic types, and the extended ones of at least a probability: uint16 `[n]`."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} must be from 0 to 1")
    kept = np.asarray(probabilities) >= threshold
    kept[:, BASIC] = True
    return np.where(kept, BITS, 0).sum(axis=1, dtype=np.uint16)
