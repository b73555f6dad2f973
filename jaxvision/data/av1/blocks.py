"""The map of a frame's blocks, read with one question for each block."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxvision.data.av1.partitions import BLOCK_SIZES, NAMES, UNIT

SIDES = tuple((height // UNIT, width // UNIT) for width, height in BLOCK_SIZES)


class BlockMap(NamedTuple):
    """Of each square of 4 × 4 pixels, what the block that holds it says; all are `[R C]`.

    `sizes` (uint8) numbers BLOCK_SIZES, `partitions` (uint8) the types of partitions that made the
    blocks, `qindex` (int16) is the quantizer's index, 0 … 255. Rows and columns are even numbers:
    frames are padded to multiples of 8 pixels.
    """

    sizes: np.ndarray
    partitions: np.ndarray
    qindex: np.ndarray


def extent(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the map of a frame of so many pixels."""
    return 2 * -(-height // 8), 2 * -(-width // 8)


def read_map(block: Callable[[int, int], tuple[int, int, int]], rows: int, cols: int) -> BlockMap:
    """The map of a frame, where `block(row, col)` gives size, partition and qindex.

    Raises:
      ValueError: for numbers out of bounds, or blocks that do not tile the frame.
    """
    packed = np.empty((rows, cols), np.uint32)
    below, wide = [0] * cols, [1] * cols  # by column: the end of its last block, and that's width
    for row in range(rows):
        col = 0
        while col < cols:
            if below[col] > row:
                col += wide[col]
                continue
            size, partition, qindex = block(row, col)
            if size >= len(SIDES) or partition >= len(NAMES) or not 0 <= qindex <= 255:
                raise ValueError(
                    f"the block at row {row}, column {col} has size {size}, partition {partition}"
                    f" and qindex {qindex}, which cannot be"
                )
            height, width = SIDES[size]
            end = min(col + width, cols)
            if row % height or col % width or max(below[col:end]) > row:
                raise ValueError(
                    f"the block at row {row}, column {col} of {4 * width}×{4 * height} pixels"
                    " lies across others"
                )
            below[col:end] = [row + height] * (end - col)
            wide[col] = width
            packed[row : row + height, col:end] = size | partition << 8 | qindex << 16
            col = end
    sizes, partitions = packed.astype(np.uint8), (packed >> 8).astype(np.uint8)
    return BlockMap(sizes, partitions, (packed >> 16).astype(np.int16))
