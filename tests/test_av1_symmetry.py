"""Symmetries of blocks and of their partitions, by painting the partitions themselves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from av1_models import CFG, inference
from flax import nnx

from jaxvision.cnn_av1.comparison import by_eight_views, run
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.stages import levelled
from jaxvision.cnn_av1.symmetry import TABLES, drawn, turned, turned_blocks
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


def test_the_mean_of_eight_views_turns_with_the_block():
    net = inference(MultiTask(levelled(CFG), rngs=nnx.Rngs(0)))
    found = BlockSet(
        blocks=np.random.default_rng(0).integers(0, 1024, (3, 32, 32)).astype(np.uint16),
        labels=np.zeros(3, np.uint8),
        qps=np.array([60, 120, 200], np.uint8),
        sequence=np.zeros(3, np.int32),
        names=("one",),
        size=16,
        context=8,
    )
    numbers = np.array([1, 6, 3])
    blocks = np.asarray(turned_blocks(found.blocks, numbers))
    views = by_eight_views(net, found)
    turned = by_eight_views(net, dataclasses.replace(found, blocks=blocks))
    np.testing.assert_allclose(views.sum(1), 1, atol=1e-5)
    for row, other, number in zip(views, turned, numbers, strict=True):
        np.testing.assert_allclose(other[TABLES[number]], row, atol=1e-5)
    assert abs(run(net, found)["types"] - views).max() > 1e-4
