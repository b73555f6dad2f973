"""Measures of blocks, against the plain formulas, and the layers that learn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.cnn_av1.statistics import LEAST, Statistics, measures
from jaxvision.step import INFERENCE

NODE, SIDE = 16, 32


def steps(*, seed=0, side=SIDE, planes=1):
    rng = np.random.default_rng(seed)
    found = rng.normal(0, 3, (2, side, side, planes)).astype(np.float32)
    found[..., 1:] = abs(found[..., 1:])
    return found


def parts(plane, rows, cols):
    """The parts of a plane in raster order."""
    return [part for row in np.split(plane, rows) for part in np.split(row, cols, axis=1)]


def plain(contrast, deviation):
    """The measures of one block with its surroundings, by loops."""
    x = contrast[8:24, 8:24] - contrast[8:24, 8:24].mean()
    power = x**2 + deviation[8:24, 8:24] ** 2
    across = abs(np.diff(contrast[8:24, 7:24], axis=1))
    down = abs(np.diff(contrast[7:24, 8:24], axis=0))

    def moments(values, squares, rows, cols):
        mean = np.array([part.mean() for part in parts(values, rows, cols)])
        square = np.array([part.mean() for part in parts(squares, rows, cols)])
        return mean, np.sqrt(square - mean**2 + LEAST)

    found = []
    for rows, cols in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 4)):
        mean, spread = moments(x, power, rows, cols)
        found += [] if rows * cols == 1 else [np.arcsinh(mean)]
        found += [np.log1p(spread)]
        if rows == cols:
            found += [np.log1p([p.mean() for p in parts(g, rows, cols)]) for g in (across, down)]
    found += [np.log1p(across[:, k].mean(keepdims=True)) for k in (0, 4, 8, 12)]
    found += [np.log1p(down[k].mean(keepdims=True)) for k in (0, 4, 8, 12)]
    found += [np.log1p([across.max(), down.max()])]
    rest = contrast - contrast[8:24, 8:24].mean()
    mean, spread = moments(rest, rest**2 + deviation**2, 4, 4)
    return np.concatenate([*found, np.arcsinh(mean), np.log1p(spread)])


@pytest.mark.parametrize("planes", [1, 2])
def test_measures_are_their_formulas(planes):
    x = steps(planes=planes)
    found = measures(jnp.asarray(x), NODE)
    for block, row in zip(x.astype(np.float64), found, strict=True):
        deviation = block[..., 1] if planes > 1 else np.zeros((SIDE, SIDE))
        np.testing.assert_allclose(row, plain(block[..., 0], deviation), atol=2e-5)


def test_without_surroundings_there_is_nothing_before_the_block():
    x = steps()[:, 8:24, 8:24]
    edge = np.pad(x, ((0, 0), (8, 8), (8, 8), (0, 0)), mode="edge")
    alone, padded = measures(jnp.asarray(x), NODE), measures(jnp.asarray(edge), NODE)
    assert alone.shape[1] == padded.shape[1] - 2 * 16
    np.testing.assert_allclose(alone, padded[:, : alone.shape[1]], atol=1e-6)


def test_a_node_of_eight_is_measured_in_the_middle_of_its_square():
    small = steps(side=SIDE, planes=2)
    twice = small.copy()
    twice[:, 8:24, 8:24] = small[:, 12:20, 12:20].repeat(2, axis=1).repeat(2, axis=2)
    twice[:, 7, 8:24] = small[:, 11, 12:20].repeat(2, axis=1)
    twice[:, 8:24, 7] = small[:, 12:20, 11].repeat(2, axis=1)
    found = measures(jnp.asarray(small), NODE, jnp.array([3, 2]))
    own = found.shape[1] - 2 * 16  # the rest is of the surroundings
    np.testing.assert_allclose(
        found[0, :own], measures(jnp.asarray(twice), NODE)[0, :own], atol=1e-5
    )
    np.testing.assert_array_equal(found[1], measures(jnp.asarray(small), NODE)[1])


def test_flat_blocks_have_finite_measures_and_gradients():
    flat = jnp.zeros((1, SIDE, SIDE, 2))
    found, gradient = jax.value_and_grad(lambda x: measures(x, NODE).sum())(flat)
    assert np.isfinite(found) and np.isfinite(gradient).all()


@pytest.mark.parametrize(("node", "side"), [(6, 32), (10, 32), (16, 8), (16, 30)])
def test_nodes_that_do_not_divide_are_refused(node, side):
    with pytest.raises(ValueError, match=f"a node of {node} pixels in a square of {side}"):
        measures(jnp.zeros((1, side, side, 1)), node)


def test_the_layers_are_told_quantiser_and_size():
    made = Statistics(
        NODE, surroundings=True, hidden=8, features=5, levels=4, dropout=0.0, rngs=nnx.Rngs(0)
    )
    net = nnx.view(made, **INFERENCE)
    x, qps, levels = jnp.asarray(steps(planes=2)), jnp.array([90, 90]), jnp.array([1, 1])
    found = net(x, qps, levels)
    assert found.shape == (2, 5) and found.dtype == jnp.float32
    assert abs(found - net(x, jnp.array([200, 200]), levels)).max() > 1e-4
    assert abs(found - net(x, qps, jnp.array([2, 2]))).max() > 1e-4
