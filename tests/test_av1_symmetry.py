"""Symmetries of blocks and of their partitions, by painting the partitions themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cnn_av1.symmetry import TABLES, drawn, turned
from jaxvision.data.av1 import partitions


def painted(kind: int) -> np.ndarray:
    """A picture `[8 8]` of a partition's parts, after the specification's figure of them."""
    q = {"NONE": [(0, 0, 8, 8)], "SPLIT": [(r, c, 4, 4) for r in (0, 4) for c in (0, 4)]}
    q |= {"HORZ": [(0, 0, 4, 8), (4, 0, 4, 8)], "VERT": [(0, 0, 8, 4), (0, 4, 8, 4)]}
    q |= {"HORZ_A": [(0, 0, 4, 4), (0, 4, 4, 4), (4, 0, 4, 8)]}
    q |= {"HORZ_B": [(0, 0, 4, 8), (4, 0, 4, 4), (4, 4, 4, 4)]}
    q |= {"VERT_A": [(0, 0, 4, 4), (4, 0, 4, 4), (0, 4, 8, 4)]}
    q |= {"VERT_B": [(0, 0, 8, 4), (0, 4, 4, 4), (4, 4, 4, 4)]}
    q |= {"HORZ_4": [(2 * k, 0, 2, 8) for k in range(4)]}
    q |= {"VERT_4": [(0, 2 * k, 8, 2) for k in range(4)]}
    edges = np.zeros((9, 9), int)
    for r, c, h, w in q[partitions.NAMES[kind]]:
        edges[[r, r + h], c : c + w] |= 1
        edges[r : r + h, [c, c + w]] |= 2
    return edges


def flipped(edges: np.ndarray, number: int) -> np.ndarray:
    """The walls of a picture, flipped: those that lie and those that stand apart."""
    lying, standing = (edges & 1)[:, :8], (edges >> 1 & 1)[:8]
    if number & 1:
        lying, standing = standing.T, lying.T
    if number & 2:
        lying, standing = lying[::-1], standing[::-1]
    if number & 4:
        lying, standing = lying[:, ::-1], standing[:, ::-1]
    out = np.zeros((9, 9), int)
    out[:, :8] |= lying
    out[:8] |= 2 * standing
    return out


@pytest.mark.parametrize("number", range(8))
def test_types_turn_as_their_pictures_do(number):
    for kind in range(10):
        there = flipped(painted(kind), number)
        np.testing.assert_array_equal(there, painted(TABLES[number][kind]))


@pytest.mark.parametrize("number", range(8))
def test_blocks_and_costs_turn_along(number):
    blocks = jnp.arange(2 * 16).reshape(2, 4, 4)
    costs = jnp.array([[1.0, 2.0, 3.0, 4.0]] * 2)
    numbers = jnp.array([number, 0])
    x, types, c = turned(blocks, jnp.array([4, 4]), costs, numbers)
    expected = np.asarray(blocks[0])
    expected = expected.T if number & 1 else expected
    expected = expected[::-1] if number & 2 else expected
    expected = expected[:, ::-1] if number & 4 else expected
    np.testing.assert_array_equal(x[0], expected)
    np.testing.assert_array_equal(x[1], blocks[1])
    np.testing.assert_array_equal(types, [TABLES[number][4], 4])
    np.testing.assert_array_equal(c[0], [1, 3, 2, 4] if number & 1 else [1, 2, 3, 4])


def test_draws_are_of_the_kind_asked_for():
    key = jax.random.key(0)
    assert set(np.asarray(drawn(key, 99, "none"))) == {0}
    assert set(np.asarray(drawn(key, 99, "transpose"))) == {0, 1}
    assert set(np.asarray(drawn(key, 99, "all"))) == set(range(8))
    with pytest.raises(ValueError, match="'flip' are none of"):
        drawn(key, 3, "flip")
