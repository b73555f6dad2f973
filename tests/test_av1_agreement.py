"""Agreement of two partitions: made-up trees compared by hand and anew, shares and their bounds."""

from collections import Counter

import numpy as np
import pytest
from av1_trees import SIZE, drawn, labels, made

from jaxvision.cnn_av1.dataset import agreement
from jaxvision.data.av1 import tree
from jaxvision.data.av1.blocks import SIDES, extent
from jaxvision.data.av1.partitions import HORZ, HORZ_A, NODE_SIZES, SPLIT


def shares(counts, row=None):
    nodes = counts.nodes.sum(0) if row is None else counts.nodes[row]
    return agreement.shares(nodes, counts.pixels[0 if row is None else row + 1])


def test_two_small_trees_are_compared_as_by_hand():
    # Left superblock: whole, or four of 32 of which one is halved. Right: both halved alike.
    a = labels(made({(0, 64, 64): HORZ}, 128, 64), 128, 64)
    types = {(0, 0, 64): SPLIT, (0, 32, 32): HORZ, (0, 64, 64): HORZ}
    b = labels(made(types, 128, 64), 128, 64)
    counts = agreement.compare(a, b)
    assert counts.nodes.sum((1, 2)).tolist() == [2, 4, 0, 0]
    assert shares(counts) == dict(
        shared=2 / 6, equal=1 / 6, type=1 / 2, macro_f1=1 / 3, pixels=1 / 2
    )
    assert shares(counts, 0) == dict(
        shared=1.0, equal=1 / 2, type=1 / 2, macro_f1=1 / 3, pixels=1 / 2
    )
    of_32 = shares(counts, 1)
    assert (of_32["shared"], of_32["equal"], of_32["pixels"]) == (0, 0, 0)
    assert np.isnan(of_32["type"]) and np.isnan(shares(counts, 3)["pixels"])


def test_blocks_are_alike_where_their_nodes_are_not():
    # HORZ_A of 64 is two squares of 32 above a stripe; four nodes of 32 have the same two above.
    a = labels(made({(0, 0, 64): HORZ_A}, 64, 64), 64, 64)
    b = labels(made({(0, 0, 64): SPLIT}, 64, 64), 64, 64)
    counts = agreement.compare(a, b)
    assert shares(counts)["equal"] == 0 and shares(counts)["pixels"] == 1 / 2


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_sets_and_of_single_pixels(seed):
    width, height = SIZE
    trees = drawn(seed), drawn(seed + 100)
    counts = agreement.compare(*map(labels, trees))

    def inside(nodes):
        return {
            (n.size, n.row, n.col): n.partition
            for n in nodes
            if 4 * n.row + n.size <= height and 4 * n.col + n.size <= width
        }

    first, second = map(inside, trees)
    for k, size in enumerate(NODE_SIZES):
        expected = Counter(
            (first.get(key, 10), second.get(key, 10)) for key in first | second if key[0] == size
        )
        found = {(int(i), int(j)): counts.nodes[k, i, j] for i, j in np.argwhere(counts.nodes[k])}
        assert found == expected

    def by_pixel(nodes):
        held = {}
        for node in nodes:
            for row, col, number, _ in tree.leaves([node], *extent(width, height)):
                tall, wide = SIDES[number]
                for y in range(4 * row, min(4 * (row + tall), height)):
                    for x in range(4 * col, min(4 * (col + wide), width)):
                        held[y, x] = (row, col, number), node.size
        return held

    first, second = map(by_pixel, trees)
    assert len(first) == width * height
    for k, size in enumerate((None, *NODE_SIZES)):
        part = [at for at in first if size in (None, first[at][1], second[at][1])]
        same = sum(first[at][0] == second[at][0] for at in part)
        assert counts.pixels[k].tolist() == [same, len(part)]


def test_order_does_not_matter_and_a_tree_agrees_with_itself():
    a, b = labels(drawn(0)), labels(drawn(1))
    there, back = agreement.compare(a, b), agreement.compare(b, a)
    np.testing.assert_array_equal(there.nodes, back.nodes.transpose(0, 2, 1))
    np.testing.assert_array_equal(there.pixels, back.pixels)
    assert 0 < shares(there)["equal"] < 1
    assert set(shares(agreement.compare(a, a)).values()) == {1.0}
    with pytest.raises(ValueError, match=r"\(86, 142\) and \(64, 64\) pixels"):
        agreement.compare(a, labels(made({}, 64, 64), 64, 64))


def test_shares_are_pooled_and_bounded_by_those_of_clips():
    nodes, pixels = np.zeros((2, 11, 11), int), np.array([[1, 2], [9, 10]])
    nodes[0, 0, 0], nodes[0, 0, 10] = 1, 3
    nodes[1, 0, 0] = 12
    found = agreement.bounded(nodes, pixels)
    assert found["nodes_either"] == 16 and found["nodes_both"] == found["nodes_equal"] == 13
    assert found["equal"] == [0.8125, 0.25, 1.0]  # a draw in four is of one clip alone
    assert found["pixels"] == [0.8333, 0.5, 0.9] and found["type"] == [1.0, 1.0, 1.0]
    one = agreement.bounded(nodes[:1], 0 * pixels[:1])
    assert one["equal"] == 0.25 and one["pixels"] is None
