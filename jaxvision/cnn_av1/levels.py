"""Nodes of four sizes as one kind of input: squares of 32 pixels with the node in their middle.

A node of 64 or 32 pixels is seen with half its size around it, shrunk by 4 or by 2; one of 16 with
8 pixels around it, one of 8 with 12, as they are. What shrinking takes away, the detail within a
cell, is kept as a second plane: the standard deviation of the pixels that a cell stands for.
"""

import dataclasses

import numpy as np

from jaxvision.data.av1.partitions import NODE_SIZES

INPUT = 32


@dataclasses.dataclass(frozen=True)
class Level:
    """Nodes of `size` pixels: `context` pixels around, `shrink` pixels to one of the input."""

    number: int
    size: int
    context: int
    shrink: int


LEVELS = {
    size: Level(number, size, context, (size + 2 * context) // INPUT)
    for number, (size, context) in enumerate(zip(NODE_SIZES, (32, 16, 8, 12), strict=True))
}


def level_of(size: int) -> Level:
    """ValueError for a size that no node has."""
    if size not in LEVELS:
        raise ValueError(f"size={size} is none of {', '.join(map(str, LEVELS))}")
    return LEVELS[size]


def shrunk(blocks: np.ndarray, shrink: int) -> np.ndarray:
    """`[n h w]` 10-bit -> float32 `[n h/shrink w/shrink 2]`: means and deviations of cells."""
    n, *sides = blocks.shape
    if any(side % shrink for side in sides):
        raise ValueError(f"blocks of {sides} pixels cannot be shrunk by {shrink}")
    if shrink == 1:
        return np.stack([blocks, np.zeros_like(blocks)], axis=-1).astype(np.float32)
    rows, cols = (side // shrink for side in sides)
    cells = blocks.astype(np.float32).reshape(n, rows, shrink, cols, shrink)
    mean = cells.mean((2, 4))
    deviation = np.sqrt(np.maximum((cells**2).mean((2, 4)) - mean**2, 0))
    return np.stack([mean, deviation], axis=-1)


def squares(plane: np.ndarray, size: int) -> np.ndarray:
    """The squares float32 `[n INPUT INPUT 2]` of a plane `[h w]`: all its nodes of `size` within.

    In raster order. As `shrunk(around(…))` of each, but every pixel is shrunk once.
    """
    level = level_of(size)
    rows, cols = (side // size for side in plane.shape)
    around, step = level.context, size // level.shrink
    padded = np.pad(plane, around, mode="edge")[: rows * size + 2 * around]
    cells = shrunk(padded[None, :, : cols * size + 2 * around], level.shrink)[0]
    if not rows * cols:
        return np.zeros((0, INPUT, INPUT, 2), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(cells, (INPUT, INPUT), axis=(0, 1))
    found = windows[::step, ::step].reshape(rows * cols, 2, INPUT, INPUT)
    return np.moveaxis(found, 1, -1)


def around(
    plane: np.ndarray, rows: np.ndarray, cols: np.ndarray, *, size: int, context: int
) -> np.ndarray:
    """Squares `[n p p]` of a plane `[h w]`, blocks at pixels `rows [n]`, `cols [n]` with context.

    Beyond the edge of the plane, its last pixels go on.
    """
    p = size + 2 * context
    padded = np.pad(plane, ((context, p), (context, p)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (p, p))
    return windows[np.asarray(rows), np.asarray(cols)]
