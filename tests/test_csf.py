import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from modules import made, run

from jaxvision.cofnet.csf import ContinuousScaleField, FeaturePyramid, Pyramid, sample

DIMS = (6, 8, 10, 12)
SIZES = ((16, 24), (8, 12), (4, 6), (2, 3))


@pytest.fixture(scope="module")
def features():
    keys = jax.random.split(jax.random.key(0), 4)
    return [jax.random.normal(k, (2, *hw, d)) for k, hw, d in zip(keys, SIZES, DIMS, strict=True)]


def field(width=16):
    csf = made(lambda: ContinuousScaleField(DIMS, width, rngs=nnx.Rngs(0)))
    key = jax.random.key(1)
    csf.film.kernel[...] = 0.1 * jax.random.normal(key, csf.film.kernel.shape)
    csf.level_logits.kernel[...] = jax.random.normal(key, csf.level_logits.kernel.shape)
    return csf


def centers(h, w):
    x, y = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    return np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)


def test_sample_returns_the_cells_at_their_centres_and_the_border_outside():
    level = jax.random.normal(jax.random.key(0), (1, 5, 7, 3))
    at = sample(level, centers(5, 7)[None])
    np.testing.assert_allclose(at.reshape(5, 7, 3), level[0], atol=1e-6)
    outside = sample(level, jnp.array([[[-0.3, -2.0], [1.5, 1.1]]]))
    np.testing.assert_allclose(outside[0], level[0, (0, -1), (0, -1)], atol=1e-6)


def test_sample_is_linear_between_two_cells():
    level = jnp.arange(4.0).reshape(1, 1, 4, 1)
    x = jnp.array([[[0.5 / 4 + 0.3 / 4, 0.5]]])
    np.testing.assert_allclose(sample(level, x)[0, 0, 0], 0.3, atol=1e-6)


def test_a_map_of_the_pyramid_holds_what_the_coarser_ones_know():
    pyramid = made(lambda: Pyramid((1, 1, 1), 1, rngs=nnx.Rngs(0)))
    for i in range(3):
        pyramid.lateral[i].kernel[...] = jnp.full((1, 1), 10.0**i)
        pyramid.smooth[i].kernel[...] = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    maps = [jnp.ones((1, 4, 4, 1)), jnp.arange(4.0).reshape(1, 2, 2, 1), jnp.ones((1, 1, 1, 1))]
    fine, middle, coarse = jax.jit(lambda pyramid: pyramid(maps))(pyramid)
    np.testing.assert_array_equal(coarse.ravel(), [100])
    np.testing.assert_array_equal(middle[0, ..., 0], [[100, 110], [120, 130]])
    expected = np.kron([[101, 111], [121, 131]], np.ones((2, 2)))
    np.testing.assert_array_equal(fine[0, ..., 0], expected)


def test_csf_answers_the_hundred_scales_of_the_seed(features):
    csf = made(lambda: ContinuousScaleField(DIMS, 256, rngs=nnx.Rngs(0)))
    out = run(csf, features, jnp.linspace(0, 1, 100))
    assert out.shape == (2, 100, 256)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_csf_grid_is_the_query_at_the_cells(features, index):
    csf = field()
    levels = csf.levels(features)
    h, w = SIZES[index]
    points = jnp.tile(centers(h, w)[None], (2, 1, 1))
    query = jax.jit(lambda csf, levels: csf.query(levels, points, jnp.full((h * w,), index / 3)))
    expected = query(csf, levels)
    grid = jax.jit(lambda csf, levels: csf.grid(levels, index))(csf, levels)
    np.testing.assert_allclose(grid.reshape(2, h * w, -1), expected, atol=2e-5)


def test_csf_is_continuous_in_scale_and_differs_between_scales(features):
    csf = field()
    points = jnp.tile(jnp.array([[[0.3, 0.6]]]), (2, 1, 1))
    at = lambda s: run(csf, features, jnp.array([s]), points)[0, 0]  # noqa: E731
    step = np.abs(at(0.5) - at(0.5 + 1e-4)).max()
    assert step < 1e-2 < np.abs(at(0.0) - at(1.0)).max()
    assert step > 0


def test_csf_before_learning_prefers_the_level_of_its_scale():
    csf = made(lambda: ContinuousScaleField(DIMS, 16, rngs=nnx.Rngs(0)))
    weights, gain, offset = csf._scale(jnp.linspace(0, 1, 4))
    np.testing.assert_array_equal(weights.argmax(-1), np.arange(4))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert (gain == 1).all() and (offset == 0).all()


def test_fpn_reads_the_nearest_level_and_keeps_the_interface(features):
    fpn = made(lambda: FeaturePyramid(DIMS, 16, rngs=nnx.Rngs(0)))
    levels = jax.jit(lambda fpn: fpn.levels(features))(fpn)
    assert [level.shape for level in levels] == [(2, *hw, 16) for hw in SIZES]
    points = jnp.tile(jnp.array([[[0.4, 0.7]]]), (2, 1, 1))
    near = fpn.query(levels, points, jnp.array([0.3]))  # 0.9 levels up: level 1
    np.testing.assert_allclose(near, sample(levels[1], points), atol=1e-6)
    assert run(fpn, features, jnp.linspace(0, 1, 100)).shape == (2, 100, 16)
    own = run(fpn, features, jnp.array([[0.0, 1.0], [1.0, 0.0]]))  # each image's own scales
    fine, *_, coarse = (level.mean((1, 2)) for level in levels)
    np.testing.assert_allclose(own[0], [fine[0], coarse[0]], atol=1e-5)
    np.testing.assert_allclose(own[1], [coarse[1], fine[1]], atol=1e-5)
    assert fpn.grid(levels, 2) is levels[2]
