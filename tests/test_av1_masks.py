"""Tables of masks: sets that are as small as can be, and nodes where they belong."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.cnn_av1 import masks
from jaxvision.data.av1.partitions import BASIC, NODE_SIZES, SPLIT, possible
from jaxvision.data.av1.tree import Node

WEIGHTS = st.lists(st.integers(0, 50), min_size=10, max_size=10).filter(any)
ROWS = st.lists(WEIGHTS, min_size=1, max_size=4)


def distributions(rows):
    rows = np.array(rows, np.float64)
    return rows / rows.sum(axis=1, keepdims=True)


def members(number):
    return [kind for kind in range(10) if number >> kind & 1]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from([0.05, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0]))
def test_a_set_holds_tau_and_no_smaller_one_does(rows, tau):
    found = distributions(rows)
    for p, chosen in zip(found, masks.cumulative(found, tau), strict=True):
        kept = members(int(chosen))
        assert p[kept].sum() >= tau - 1e-12
        fewer = np.sort(p)[::-1][: len(kept) - 1].sum()  # the best that one type less could hold
        assert fewer < tau
        assert p[kept].min() >= max((p[k] for k in range(10) if k not in kept), default=0)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_sets_grow_with_tau_from_the_likeliest_type(rows):
    found = distributions(rows)
    sets = [masks.cumulative(found, tau) for tau in (1e-9, 0.4, 0.7, 0.95)]
    np.testing.assert_array_equal(sets[0], masks.hard(found))
    for smaller, larger in itertools.pairwise(sets):
        assert not (smaller & ~larger).any()


@settings(max_examples=40, deadline=None)
@given(ROWS, st.floats(0, 1))
def test_basic_types_are_never_dropped(rows, threshold):
    found = distributions(rows)
    for p, chosen in zip(found, masks.threshold_extended(found, threshold), strict=True):
        extended = [k for k in range(4, 10) if p[k] >= threshold]
        assert members(int(chosen)) == [*BASIC, *extended]


@pytest.mark.parametrize("level", NODE_SIZES)
def test_probabilities_stay_with_types_that_a_node_can_have(level):
    found = masks.at_level(np.full((3, 10), 0.1), level)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.flatnonzero(found[0]).tolist() == list(possible(level))


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 200), st.integers(8, 200), st.sampled_from(NODE_SIZES))
def test_nodes_within_the_picture_have_each_a_place(height, width, level):
    rows, cols = masks.positions(height, width, level)
    assert len(rows) == (height // level) * (width // level)
    table = masks.full(height, width)
    masks.place(table, level, rows, cols, np.ones(len(rows), np.uint16))
    assert (table == 1).sum() == len(rows)  # no two share one
    assert (np.delete(table, NODE_SIZES.index(level), 0) == masks.EVERY).all()
    masks.checked(table, height, width)


def test_a_tree_becomes_its_oracle():
    tree = [Node(0, 0, 64, SPLIT, True), Node(0, 8, 32, 4, True), Node(8, 8, 32, 2, False)]
    tree += [Node(4, 12, 16, 9, True), Node(6, 12, 8, 1, True)]
    table = masks.from_tree(tree, 64, 64, levels=(64, 32, 8))
    assert table[0, 0, 0] == 1 << SPLIT and table[1, 0, 4] == 1 << 4 and table[3, 3, 6] == 2
    assert table[1, 4, 4] == masks.EVERY, "a node across the edge is left to the encoder"
    assert (table[2] == masks.EVERY).all(), "no level that was not asked for"
    assert (table != masks.EVERY).sum() == 3


def test_blocks_of_8_pixels_have_four_types():
    table = masks.full(16, 16)
    masks.place(table, 8, np.array([2]), np.array([0]), np.array([0x3F1]))
    assert table[3, 1, 0] == 1
    with pytest.raises(ValueError, match="8 pixels at row 0, column 2 is left no type"):
        masks.place(table, 8, np.array([0, 0]), np.array([0, 2]), np.array([1, 0x3F0]))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: masks.place(masks.full(64, 64), 12, *3 * [np.array([0])]), "level 12 is none"),
        (lambda: masks.place(masks.full(64, 64), 16, *3 * [np.array([2])]), "row 2, column 2"),
        (lambda: masks.place(masks.full(64, 64), 16, *3 * [np.array([16])]), "row 16, column 16"),
        (lambda: masks.cumulative(np.full((1, 10), 0.1), 1.5), "tau=1.5"),
        (lambda: masks.threshold_extended(np.full((1, 10), 0.1), -1), "threshold=-1"),
        (lambda: masks.at_level(np.full((1, 4), 0.25), 16), r"\(1, 4\), not \[n 10\]"),
        (lambda: masks.at_level(np.full((1, 10), np.nan), 16), "nan is no probability"),
        (lambda: masks.at_level(np.eye(10)[9:], 8), "8 pixels has no probability"),
        (lambda: masks.checked(masks.full(64, 64), 64, 72), r"a frame of 72×64 has uint16"),
        (lambda: masks.checked(masks.full(8, 8) & 0x3F0, 8, 8), "0x3f0 allows no type"),
        (lambda: masks.full(0, 8), "8×0 has no pixel"),
    ],
)
def test_what_is_no_mask_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
