"""The partition tree of a frame, from the sizes of its blocks.

AV1 Bitstream & Decoding Process Specification (2019), 5.11.4: a superblock is a node; each node has
a partition type, which gives the blocks in it, or four smaller nodes. The sizes alone determine the
tree. A block is not a node: one of 16 × 16 pixels may be the corner of a HORZ_A of 32. Nodes are
told from the superblock down.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxvision.data.av1.blocks import SIDES, BlockMap
from jaxvision.data.av1.partitions import (
    HORZ,
    HORZ_4,
    HORZ_A,
    HORZ_B,
    NONE,
    SPLIT,
    UNIT,
    VERT,
    VERT_4,
    VERT_A,
    VERT_B,
    possible,
)

SMALLEST = 8  # pixels of a node


class Node(NamedTuple):
    """A node of the tree. `row` and `col` are in units of 4 pixels, `size` is in pixels.

    `whole` is whether it lies within the map of blocks; a node that does not has a type that is in
    part forced. The map is padded to 8 pixels: where a frame's sides are no multiples of 8, a
    whole node may still end up to 7 pixels outside the picture.
    """

    row: int
    col: int
    size: int
    partition: int
    whole: bool


def _parts(partition: int, side: int) -> list[tuple[int, int, int, int]]:
    """Row, column, height and width of the blocks in a node, in units."""
    half, fourth = side // 2, side // 4
    top, bottom = (0, 0, half, side), (half, 0, half, side)
    left, right = (0, 0, side, half), (0, half, side, half)
    corners = [(row, col, half, half) for row in (0, half) for col in (0, half)]
    return {
        NONE: [(0, 0, side, side)],
        HORZ: [top, bottom],
        VERT: [left, right],
        SPLIT: corners if side * UNIT == SMALLEST else [],
        HORZ_A: [corners[0], corners[1], bottom],
        HORZ_B: [top, corners[2], corners[3]],
        VERT_A: [corners[0], corners[2], right],
        VERT_B: [left, corners[1], corners[3]],
        HORZ_4: [(k * fourth, 0, fourth, side) for k in range(4)],
        VERT_4: [(0, k * fourth, side, fourth) for k in range(4)],
    }[partition]


# By the pixels of a node and its type: row and column in it, and the number of the size.
BLOCKS = {
    size: {
        partition: tuple(
            (row, col, SIDES.index((height, width)))
            for row, col, height, width in _parts(partition, size // UNIT)
        )
        for partition in possible(size)
    }
    for size in (8, 16, 32, 64, 128)
}


def allowed(row: int, col: int, size: int, rows: int, cols: int) -> tuple[int, ...]:
    """The types that a node can have in a map of `rows` × `cols`.

    Where its lower or right half is outside, stripes along that edge and SPLIT are left.
    """
    half = size // UNIT // 2
    lower, right = row + half < rows, col + half < cols
    if lower and right:
        return possible(size)
    if right:
        return HORZ, SPLIT
    return (VERT, SPLIT) if lower else (SPLIT,)


def nodes(sizes: np.ndarray, *, superblock: int = 64) -> list[Node]:
    """The nodes of 8 pixels and more, in the order of the bitstream.

    Args:
      sizes: the numbers of the blocks' sizes, `[R C]`, both even.
      superblock: its side, 64 or 128 pixels.

    Raises:
      ValueError: if the sizes are of no tree.
    """
    rows, cols = _checked(sizes.shape, superblock)
    grid = sizes.tolist()

    def fits(row: int, col: int, blocks: tuple[tuple[int, int, int], ...]) -> bool:
        for down, along, number in blocks:
            r, c = row + down, col + along
            if r < rows and c < cols and grid[r][c] != number:
                return False
        return True

    def told(row: int, col: int, size: int) -> int:
        first = grid[row][col]
        for partition in allowed(row, col, size, rows, cols):
            blocks = BLOCKS[size][partition]
            if blocks and blocks[0][2] == first and fits(row, col, blocks):
                return partition
        return SPLIT

    found = _walked(told, rows, cols, superblock)
    wrong = np.argwhere(paint(found, rows, cols) != sizes)
    if len(wrong):
        row, col = wrong[0]
        raise ValueError(f"the sizes at row {row}, column {col} are of no partition tree")
    return found


def leaves(found: Iterable[Node], rows: int, cols: int) -> Iterator[tuple[int, int, int, int]]:
    """Row, column, number of the size, and partition of each block that begins in the map."""
    for node in found:
        for down, along, number in BLOCKS[node.size][node.partition]:
            row, col = node.row + down, node.col + along
            if row < rows and col < cols:
                yield row, col, number, node.partition


def paint(found: Iterable[Node], rows: int, cols: int) -> np.ndarray:
    """The sizes of the blocks of a tree, uint8 `[R C]`: what `nodes` reads. 255 where none is."""
    sizes = np.full((rows, cols), 255, np.uint8)
    for row, col, number, _ in leaves(found, rows, cols):
        height, width = SIDES[number]
        sizes[row : row + height, col : col + width] = number
    return sizes


def mismatches(blocks: BlockMap, found: Iterable[Node]) -> tuple[int, int]:
    """How many blocks were compared with the partition that they name, and how many differ.

    The decoder keeps the type that it read with each block; the tree knows sizes alone. Blocks of
    4 × 4 pixels name NONE: the decoder descends to them from a node of 8 that is SPLIT.
    """
    rows, cols = blocks.sizes.shape
    leaf = np.array(list(leaves(found, rows, cols)), np.int64).reshape(-1, 4)
    named = blocks.partitions[leaf[:, 0], leaf[:, 1]]
    expected = np.where(leaf[:, 3] == SPLIT, NONE, leaf[:, 3])
    return len(leaf), int((named != expected).sum())


def preorder(sizes: np.ndarray, *, superblock: int = 64) -> bytes:
    """The types of all nodes in the order of the bitstream, a byte each."""
    return bytes(node.partition for node in nodes(sizes, superblock=superblock))


def from_preorder(data: bytes, rows: int, cols: int, *, superblock: int = 64) -> list[Node]:
    """The nodes of which `preorder` gave the types; ValueError if they are of no such tree."""
    rows, cols = _checked((rows, cols), superblock)
    types = enumerate(data)

    def told(row: int, col: int, size: int) -> int:
        number, partition = next(types, (len(data), None))
        if partition is None:
            raise ValueError(f"{len(data)} types end before the tree of {rows}×{cols} does")
        if partition not in allowed(row, col, size, rows, cols):
            raise ValueError(
                f"type {number} is {partition}, which a node of {size} pixels at row {row},"
                f" column {col} of {rows}×{cols} cannot have"
            )
        return partition

    found = _walked(told, rows, cols, superblock)
    if len(found) != len(data):
        raise ValueError(f"{len(data)} types are more than the {len(found)} of the tree")
    return found


def _walked(
    told: Callable[[int, int, int], int], rows: int, cols: int, superblock: int
) -> list[Node]:
    """The nodes in their order, where `told(row, col, size)` gives the type of each."""
    found = []

    def descend(row: int, col: int, size: int) -> None:
        if row >= rows or col >= cols:
            return
        side, partition = size // UNIT, told(row, col, size)
        whole = row + side <= rows and col + side <= cols
        found.append(Node(row, col, size, partition, whole))
        if partition == SPLIT and size > SMALLEST:
            for r in (row, row + side // 2):
                for c in (col, col + side // 2):
                    descend(r, c, size // 2)

    for row in range(0, rows, superblock // UNIT):
        for col in range(0, cols, superblock // UNIT):
            descend(row, col, superblock)
    return found


def _checked(shape: tuple[int, ...], superblock: int) -> tuple[int, int]:
    if superblock not in (64, 128):
        raise ValueError(f"superblock={superblock} must be 64 or 128 pixels")
    if len(shape) != 2 or shape[0] % 2 or shape[1] % 2 or not min(shape):
        raise ValueError(f"a map of {shape} is not of even rows and columns")
    return int(shape[0]), int(shape[1])
