"""Hand features and boosted trees on made blocks."""

import numpy as np
import pytest

from jaxvision.cnn_av1.baseline import BoostedTrees, frequencies
from jaxvision.cnn_av1.features import hand_features


def made(n, *, size=16, context=8, seed=0):
    """Flat blocks (0), horizontal stripes (1), vertical ones (2), with a little noise."""
    rng = np.random.default_rng(seed)
    p, labels = size + 2 * context, rng.integers(0, 3, n)
    blocks = np.full((n, p, p), 500.0)
    blocks[labels == 1, p // 2 :] += 200
    blocks[labels == 2, :, p // 2 :] += 200
    blocks += rng.normal(0, 3, blocks.shape)
    return blocks.astype(np.uint16), rng.integers(20, 200, n), labels


@pytest.mark.parametrize("size, context", [(8, 4), (16, 0), (16, 8), (64, 8)])
def test_features_are_finite_and_of_each_block_alone(size, context):
    blocks, qps, _ = made(6, size=size, context=context)
    found = hand_features(blocks, qps, context=context)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_array_equal(found[2:4], hand_features(blocks[2:4], qps[2:4], context=context))


def test_transposing_a_block_swaps_its_directions():
    blocks, qps, labels = made(40)
    a, b = (hand_features(x, qps, context=8) for x in (blocks, blocks.swapaxes(1, 2)))
    np.testing.assert_allclose(np.sort(a, axis=1), np.sort(b, axis=1), rtol=1e-4, atol=1e-2)
    assert not np.allclose(a[labels > 0], b[labels > 0])


def test_trees_learn_what_stripes_show():
    blocks, qps, labels = made(300)
    trees = BoostedTrees(context=8)
    trees.fit(blocks, qps, np.array([0, 1, 2])[labels])
    other, qps, labels = made(60, seed=1)
    found = trees.predict(other, qps)
    assert found.shape == (60, 10) and (found[:, 3:] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == labels).mean() > 0.95


def test_what_cannot_be_learned_is_refused():
    blocks, qps, _ = made(4)
    with pytest.raises(ValueError, match="two partition types"):
        BoostedTrees(context=8).fit(blocks, qps, np.zeros(4, int))
    with pytest.raises(ValueError, match="4 blocks, but 3 quantisers"):
        hand_features(blocks, qps[:3], context=8)
    with pytest.raises(ValueError, match="no multiple of 8"):
        hand_features(blocks, qps, context=6)
    np.testing.assert_allclose(frequencies(np.array([0, 0, 3, 9]))[[0, 3, 9]], [0.5, 0.25, 0.25])
