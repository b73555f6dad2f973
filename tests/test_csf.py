import functools

import jax
import jax.numpy as jnp
import numpy as np
from modules import made, run

from jaxvision.cofnet.csf import ContinuousScaleField, FeaturePyramid, Pyramid, sample
from jaxvision.streams import streams

DIMS = (6, 8, 10, 12)
SIZES = ((16, 24), (8, 12), (4, 6), (2, 3))


@functools.cache
def features():
    rng = np.random.default_rng(0)
    shapes = [(2, *hw, d) for hw, d in zip(SIZES, DIMS, strict=True)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@functools.cache
def field():
    """A field that has learned: its zero layers say something."""
    csf = made(lambda: ContinuousScaleField(DIMS, 16, rngs=streams(0)))
    rng = np.random.default_rng(1)
    for layer, size in ((csf.film, 0.1), (csf.level_logits, 1.0)):
        drawn = size * rng.normal(size=layer.kernel.shape)
        layer.kernel[...] = jnp.asarray(drawn.astype(np.float32))
    return csf


levels_of = jax.jit(lambda neck, features: neck.levels(features))
query = jax.jit(lambda neck, levels, points, scales: neck.query(levels, points, scales))
sampled = jax.jit(sample)


def centers(h, w):
    x, y = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    return np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)


def test_sample_returns_the_cells_at_their_centres_and_the_border_outside():
    level = np.random.default_rng(0).normal(size=(1, 5, 7, 3)).astype(np.float32)
    outside = np.array([[-0.3, -2.0], [1.5, 1.1]], np.float32)
    at = np.asarray(sampled(level, np.concatenate([centers(5, 7), outside])[None]))[0]
    np.testing.assert_allclose(at[:35].reshape(5, 7, 3), level[0], atol=1e-6)
    np.testing.assert_allclose(at[35:], level[0, (0, -1), (0, -1)], atol=1e-6)


def test_sample_is_linear_between_two_cells():
    level = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    x = np.array([[[0.5 / 4 + 0.3 / 4, 0.5]]], np.float32)
    np.testing.assert_allclose(np.asarray(sampled(level, x)).item(), 0.3, atol=1e-6)


def test_a_map_of_the_pyramid_holds_what_the_coarser_ones_know():
    pyramid = made(lambda: Pyramid((1, 1, 1), 1, rngs=streams(0)))
    for i in range(3):
        pyramid.lateral[i].kernel[...] = jnp.asarray(np.full((1, 1), 10.0**i, np.float32))
        centre = np.zeros((3, 3, 1, 1), np.float32)
        centre[1, 1] = 1
        pyramid.smooth[i].kernel[...] = jnp.asarray(centre)
    maps = [np.ones((1, n, n, 1), np.float32) for n in (4, 2, 1)]
    maps[1][0, ..., 0] = [[0, 1], [2, 3]]
    fine, middle, coarse = map(np.asarray, run(pyramid, maps))
    np.testing.assert_array_equal(coarse.ravel(), [100])
    np.testing.assert_array_equal(middle[0, ..., 0], [[100, 110], [120, 130]])
    expected = np.kron([[101, 111], [121, 131]], np.ones((2, 2)))
    np.testing.assert_array_equal(fine[0, ..., 0], expected)


def test_csf_answers_the_hundred_scales_of_the_seed():
    csf = made(lambda: ContinuousScaleField(DIMS, 256, rngs=streams(0)))
    out = np.asarray(run(csf, features(), np.linspace(0, 1, 100, dtype=np.float32)))
    assert out.shape == (2, 100, 256)
    assert np.isfinite(out).all()


def test_csf_grids_are_the_queries_at_the_cells():
    csf = field()
    levels = levels_of(csf, features())
    points = np.concatenate([centers(h, w) for h, w in SIZES])
    counts = [h * w for h, w in SIZES]
    scales = np.repeat(np.arange(4, dtype=np.float32) / 3, counts)
    expected = np.asarray(query(csf, levels, np.tile(points, (2, 1, 1)), scales))
    grids = jax.jit(lambda csf, levels: [csf.grid(levels, i) for i in range(4)])(csf, levels)
    parts = np.split(expected, np.cumsum(counts)[:-1], axis=1)
    for grid, (h, w), part in zip(grids, SIZES, parts, strict=True):
        np.testing.assert_allclose(grid, part.reshape(2, h, w, -1), atol=2e-5)


def test_csf_is_continuous_in_scale_and_differs_between_scales():
    scales = np.array([0.5, 0.5 + 1e-4, 0.0, 1.0], np.float32)
    points = np.tile(np.float32([0.3, 0.6]), (2, 4, 1))
    near, nearer, fine, coarse = np.asarray(run(field(), features(), scales, points))[0]
    step = np.abs(near - nearer).max()
    assert step < 1e-2 < np.abs(fine - coarse).max()
    assert step > 0


def test_csf_before_learning_prefers_the_level_of_its_scale():
    csf = made(lambda: ContinuousScaleField(DIMS, 16, rngs=streams(0)))
    scales = np.linspace(0, 1, 4, dtype=np.float32)
    found = jax.jit(lambda csf, scales: csf._scale(scales))(csf, scales)
    weights, gain, offset = map(np.asarray, found)
    np.testing.assert_array_equal(weights.argmax(-1), np.arange(4))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert (gain == 1).all() and (offset == 0).all()


def test_fpn_reads_the_nearest_level_and_keeps_the_interface():
    fpn = made(lambda: FeaturePyramid(DIMS, 16, rngs=streams(0)))
    levels = [np.asarray(level) for level in levels_of(fpn, features())]
    assert [level.shape for level in levels] == [(2, *hw, 16) for hw in SIZES]
    points = np.tile(np.float32([0.4, 0.7]), (2, 1, 1))
    near = query(fpn, levels, points, np.float32([0.3]))  # 0.9 levels up: level 1
    np.testing.assert_allclose(near, sampled(levels[1], points), atol=1e-6)
    many = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (2, 1))
    many[:, :2] = [[0, 1], [1, 0]]  # each image's own scales
    own = np.asarray(run(fpn, features(), many))
    assert own.shape == (2, 100, 16)
    fine, *_, coarse = (level.mean((1, 2)) for level in levels)
    np.testing.assert_allclose(own[0, :2], [fine[0], coarse[0]], atol=1e-5)
    np.testing.assert_allclose(own[1, :2], [coarse[1], fine[1]], atol=1e-5)
    assert fpn.grid(levels, 2) is levels[2]
