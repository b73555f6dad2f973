"""Partition trees: what is painted is read back, edges, bytes, and maps that are of no tree."""

import numpy as np
import pytest

from jaxvision.data.av1 import tree
from jaxvision.data.av1.blocks import BlockMap, extent, read_map
from jaxvision.data.av1.partitions import BLOCK_SIZES, NAMES, possible

# The blocks of each type, as the fourths of a node that are theirs: row, column, height, width.
FOURTHS = {
    "NONE": ((0, 0, 4, 4),),
    "HORZ": ((0, 0, 2, 4), (2, 0, 2, 4)),
    "VERT": ((0, 0, 4, 2), (0, 2, 4, 2)),
    "SPLIT": ((0, 0, 2, 2), (0, 2, 2, 2), (2, 0, 2, 2), (2, 2, 2, 2)),
    "HORZ_A": ((0, 0, 2, 2), (0, 2, 2, 2), (2, 0, 2, 4)),
    "HORZ_B": ((0, 0, 2, 4), (2, 0, 2, 2), (2, 2, 2, 2)),
    "VERT_A": ((0, 0, 2, 2), (2, 0, 2, 2), (0, 2, 4, 2)),
    "VERT_B": ((0, 0, 4, 2), (0, 2, 2, 2), (2, 2, 2, 2)),
    "HORZ_4": tuple((k, 0, 1, 4) for k in range(4)),
    "VERT_4": tuple((0, k, 4, 1) for k in range(4)),
}


def random_tree(rng, rows, cols, superblock):
    """Nodes, sizes `[R C]` and partitions `[R C]` of a frame, as a decoder would go through it."""
    sizes, partitions = np.full((2, rows, cols), 255, np.uint8)
    nodes = []

    def descend(row, col, size):
        if row >= rows or col >= cols:
            return
        half = size // 8
        lower, right = row + half < rows, col + half < cols
        if lower and right:
            kinds = [NAMES[i] for i in possible(size)] + ["SPLIT"] * 3 * (size > 8)
        else:
            kinds = ["SPLIT"] + ["HORZ"] * right + ["VERT"] * lower
        kind = kinds[rng.integers(len(kinds))]
        partition = NAMES.index(kind)
        whole = 4 * row + size <= 4 * rows and 4 * col + size <= 4 * cols
        nodes.append((row, col, size, partition, whole))
        for part in FOURTHS[kind]:
            down, along, height, width = (size // 4 * x // 4 for x in part)
            if kind == "SPLIT" and size > 8:
                descend(row + down, col + along, size // 2)
                continue
            where = np.s_[row + down : row + down + height, col + along : col + along + width]
            sizes[where] = BLOCK_SIZES.index((4 * width, 4 * height))
            partitions[where] = 0 if size == 8 and kind == "SPLIT" else partition

    for row in range(0, rows, superblock // 4):
        for col in range(0, cols, superblock // 4):
            descend(row, col, superblock)
    return nodes, sizes, partitions


@pytest.mark.parametrize("superblock", [64, 128])
def test_trees_are_told_from_the_sizes_of_blocks(superblock):
    rng = np.random.default_rng(superblock)
    seen, cut = set(), 0
    for _ in range(60):
        rows, cols = (2 * rng.integers(1, 40, 2)).tolist()
        wanted, sizes, partitions = random_tree(rng, rows, cols, superblock)
        assert sizes.max() < len(BLOCK_SIZES)
        found = tree.nodes(sizes, superblock=superblock)
        assert found == wanted
        np.testing.assert_array_equal(tree.paint(found, rows, cols), sizes)
        types = tree.preorder(sizes, superblock=superblock)
        assert types == bytes(node[3] for node in wanted)
        assert tree.from_preorder(types, rows, cols, superblock=superblock) == wanted
        seen |= {(node.size, node.partition) for node in found}
        cut += sum(not node.whole for node in found)

        blocks = BlockMap(sizes, partitions, np.zeros(sizes.shape, np.int16))
        leaves = list(tree.leaves(found, rows, cols))
        assert tree.mismatches(blocks, found) == (len(leaves), 0)
        row, col = leaves[rng.integers(len(leaves))][:2]
        partitions[row, col] = (partitions[row, col] + 1) % 10
        assert tree.mismatches(blocks, found) == (len(leaves), 1)
    levels = [size for size in (8, 16, 32, 64, 128) if size <= superblock]
    assert seen == {(size, kind) for size in levels for kind in possible(size)}
    assert cut > 50


def test_nodes_across_the_edge_are_not_whole():
    """3 × 2 of 16 pixels and half of one below: its node of 64 is forced, and says so."""
    sizes = np.full((6, 8), BLOCK_SIZES.index((16, 8)), np.uint8)
    sizes[:4] = BLOCK_SIZES.index((16, 16))
    found = tree.nodes(sizes)
    assert found[0] == tree.Node(0, 0, 64, 3, False)
    assert found[1] == tree.Node(0, 0, 32, 3, False)
    assert tree.Node(0, 0, 16, 0, True) in found
    assert tree.Node(4, 4, 16, 1, False) in found and len(found) == 6


def test_a_block_of_16_is_not_a_node_of_16():
    sizes = np.full((8, 8), BLOCK_SIZES.index((16, 16)), np.uint8)
    sizes[4:] = BLOCK_SIZES.index((32, 16))
    found = tree.nodes(np.tile(sizes, (2, 2)))
    assert [(n.size, NAMES[n.partition]) for n in found] == [(64, "SPLIT")] + 4 * [(32, "HORZ_A")]


def test_maps_that_are_of_no_tree_are_refused():
    rng = np.random.default_rng(5)
    for _ in range(40):
        rows, cols = (2 * rng.integers(4, 20, 2)).tolist()
        _, sizes, _ = random_tree(rng, rows, cols, 64)
        row, col = rng.integers(rows), rng.integers(cols)
        sizes[row, col] = (sizes[row, col] + rng.integers(1, 22)) % 22
        with pytest.raises(ValueError, match="are of no partition tree"):
            tree.nodes(sizes)
    for shape, message in (((3, 4), r"a map of \(3, 4\)"), ((0, 4), "of even"), ((4,), "of even")):
        with pytest.raises(ValueError, match=message):
            tree.nodes(np.zeros(shape, np.uint8))
    large = np.full((32, 32), BLOCK_SIZES.index((128, 128)), np.uint8)
    assert len(tree.nodes(large, superblock=128)) == 1
    with pytest.raises(ValueError, match="are of no partition tree"):
        tree.nodes(large)
    with pytest.raises(ValueError, match="superblock=32 must be 64 or 128"):
        tree.nodes(large, superblock=32)


def test_bytes_that_are_of_no_tree_are_refused():
    types = tree.preorder(random_tree(np.random.default_rng(0), 20, 20, 64)[1])
    for data, message in (
        (types[:-1], f"{len(types) - 1} types end before"),
        (types + b"\0", f"{len(types) + 1} types are more than the {len(types)}"),
        (b"\x0a" + types[1:], "type 0 is 10, which a node of 64 pixels at row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            tree.from_preorder(data, 20, 20)
    with pytest.raises(ValueError, match="type 0 is 0, which"):  # of 64, half of it outside
        tree.from_preorder(b"\0", 8, 16)


def test_maps_are_read_with_one_question_for_each_block():
    rng = np.random.default_rng(1)
    for _ in range(10):
        rows, cols = (2 * rng.integers(1, 40, 2)).tolist()
        nodes, sizes, partitions = random_tree(rng, rows, cols, 128)
        asked = []

        def block(row, col, sizes=sizes, partitions=partitions, asked=asked):
            asked.append((row, col))
            return int(sizes[row, col]), int(partitions[row, col]), (row + col) % 256

        found = read_map(block, rows, cols)
        np.testing.assert_array_equal(found.sizes, sizes)
        np.testing.assert_array_equal(found.partitions, partitions)
        assert (found.sizes.dtype, found.qindex.dtype) == (np.uint8, np.int16)
        leaves = tree.leaves((tree.Node(*node) for node in nodes), rows, cols)
        assert sorted(asked) == sorted(leaf[:2] for leaf in leaves)
        assert found.qindex[asked[-1]] == sum(asked[-1]) % 256


@pytest.mark.parametrize(
    "blocks, message",
    [
        ({(0, 0): (22, 0, 5)}, "row 0, column 0 has size 22"),
        ({(0, 0): (0, 10, 5)}, "partition 10"),
        ({(0, 0): (0, 0, 256)}, "qindex 256"),
        ({(0, 0): (0, 0, -1)}, "qindex -1"),
        ({(0, 1): (3, 0, 5)}, "row 0, column 1 of 8×8 pixels lies across"),
        ({(0, 2): (3, 0, 5), (1, 0): (2, 0, 5)}, None),
        ({(0, 1): (1, 0, 5), (1, 0): (2, 0, 5)}, "row 1, column 0 of 8×4 pixels lies across"),
    ],
)
def test_blocks_that_do_not_tile_the_frame_are_refused(blocks, message):
    def block(row, col):
        return blocks.get((row, col), (0, 0, 5))

    if message is None:
        assert read_map(block, 4, 4).sizes[:2].tolist() == [[0, 0, 3, 3], [2, 2, 3, 3]]
        return
    with pytest.raises(ValueError, match=message):
        read_map(block, 4, 4)


def test_maps_are_padded_to_8_pixels():
    assert [extent(*size) for size in ((1, 1), (8, 9), (352, 288))] == [(2, 2), (4, 2), (72, 88)]
