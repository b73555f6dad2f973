"""The lifting transform: an inverse to the bit or near it, and a known wavelet to begin with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.wavenet_mv import lifting
from jaxvision.wavenet_mv.wavelet import (
    LiteralWaveletTransformCNN,
    WaveletConfig,
    WaveletTransformCNN,
)
from jaxvision.wavenet_mv.whole import on_grid


def transform(**fields):
    return WaveletTransformCNN(WaveletConfig(width=8, **fields), rngs=nnx.Rngs(0))


def stirred(module, size=0.1):
    """With every parameter moved: as after training."""
    graph, params = nnx.split(module)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [x + size * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves))


@pytest.mark.parametrize(
    "fields",
    [{"wavelet": "haar", "levels": 1}, {"channels": 5, "levels": 2}, {"levels": 3}],
    ids=str,
)
def test_inverse_is_near_and_of_integers_exact(fields):
    module = stirred(transform(**fields))
    image = jax.random.randint(jax.random.key(0), (2, 16, 24, 3), 0, 256)
    x = image.astype(jnp.float32) / 255
    bands = module.forward(x)
    np.testing.assert_allclose(module.inverse(bands), x, atol=1e-5)
    pixels = module.pixels(list(map(on_grid, bands)))  # of bands a little moved
    assert pixels.dtype == jnp.uint8
    np.testing.assert_allclose(pixels.astype(jnp.int32), image, atol=2)
    bands = module.forward_integers(image)
    assert all(b.dtype == jnp.int32 for b in bands)
    np.testing.assert_array_equal(module.inverse_integers(bands), image)


def test_untrained_haar_is_the_orthonormal_one():
    module = transform(wavelet="haar", levels=2)
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
    low, *_, high = lifting.orthonormal(module.forward(x))
    plane = np.asarray(colours(x), np.float64)[0]
    a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
    expected = (c + d - a - b) / 2, (b + d - a - c) / 2, (a + d - b - c) / 2  # LH, HL, HH
    np.testing.assert_allclose(high[0], np.concatenate(expected, axis=-1), atol=1e-6)
    mean = plane.reshape(2, 4, 2, 4, 3).mean((1, 3))
    np.testing.assert_allclose(low[0], 4 * mean, atol=1e-6)


def colours(x):
    return (x * (255 / 256) - 0.5) @ lifting.TO_COLOURS


def test_untrained_haar_equals_jaxwt():
    jaxwt = pytest.importorskip("jaxwt")
    x = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    low, high = lifting.orthonormal(transform(wavelet="haar", levels=1).forward(x))
    plane = jnp.moveaxis(colours(x), -1, 1)[0]
    approx, details = jaxwt.wavedec2(plane, "haar", level=1, mode="zero")
    np.testing.assert_allclose(jnp.moveaxis(low[0], -1, 0), approx, atol=1e-6)
    for ours in jnp.split(high[0], 3, axis=-1):
        ours = abs(jnp.moveaxis(ours, -1, 0))
        assert min(float(abs(ours - abs(d)).max()) for d in details) < 1e-6


def test_haar_keeps_energy_and_fewer_bands_give_a_smaller_picture():
    module = transform(wavelet="haar")
    x = jax.random.uniform(jax.random.key(0), (1, 16, 24, 3))
    bands = module.forward(x)
    energy = sum(float((b**2).sum()) for b in lifting.orthonormal(bands))
    np.testing.assert_allclose(energy, float(((x * 255 / 256 - 0.5) ** 2).sum()), rtol=1e-2)
    half = module.inverse(bands[:-1])
    mean = np.asarray(x).reshape(1, 8, 2, 12, 2, 3).mean((2, 4))
    np.testing.assert_allclose(half, mean, atol=1e-6)


@pytest.mark.parametrize("wavelet", lifting.WAVELETS)
def test_norms_are_those_of_units_in_the_middle(wavelet):
    shapes = [(1, 8, 8, 1), (1, 8, 8, 3), (1, 16, 16, 3)]
    norms = lifting.norms(wavelet, 2)
    for i, shape in enumerate(shapes):
        for channel in range(shape[3]):
            bands = [jnp.zeros(s) for s in shapes]
            bands[i] = bands[i].at[0, 4, 4, channel].set(1)
            low = lifting.inverse(*bands[:2], wavelet)
            picture = lifting.inverse(low, bands[2], wavelet)
            norm = float(jnp.sqrt((picture**2).sum()))
            np.testing.assert_allclose(norms[i][channel], norm, rtol=1e-6)


def test_cdf53_has_no_high_bands_of_a_slope():
    """Two vanishing moments: of what is linear nothing but the edges is left."""
    y, x = jnp.mgrid[:16, :16]
    slope = (2.0 * y + 3.0 * x)[None, :, :, None]
    low, high = lifting.forward(slope, "cdf53")
    assert float(abs(high[:, :-1, :-1]).max()) < 1e-5
    np.testing.assert_allclose(low[:, 1:-1, 1:-1], slope[:, 2:-2:2, 2:-2:2], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (9, 15), (8, 16)])
def test_padding_reflects_to_a_multiple(size):
    x = jnp.arange(size[0] * size[1] * 3, dtype=jnp.float32).reshape(1, *size, 3)
    padded = lifting.pad_to(x, 8)
    assert padded.shape[1] % 8 == padded.shape[2] % 8 == 0
    np.testing.assert_array_equal(padded[:, : size[0], : size[1]], x)
    if size == (9, 15):
        np.testing.assert_array_equal(padded[:, 9], padded[:, 7])
        np.testing.assert_array_equal(padded[:, :, 15], padded[:, :, 13])


def test_gradients_reach_every_parameter():
    """Noise on the bands: without it an exact inverse has no gradient at all."""
    graph, params = nnx.split(stirred(transform(levels=2), 0.05))
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))

    def loss(params):
        module = nnx.merge(graph, params)
        bands = [
            b + 0.3 * jnp.cos(7 * jnp.arange(b.size)).reshape(b.shape) for b in module.forward(x)
        ]
        return ((module.inverse(bands) - x) ** 2).sum()

    grads = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params))
    still = [jax.tree_util.keystr(k) for k, g in grads if not (jnp.isfinite(g) & (g != 0)).any()]
    # What the coarsest update adds to all its cells alike is subtracted again.
    assert still == ["['steps'][1]['update']['conv3']['bias'].value"], still


def test_literal_form_has_the_seed_s_layers_and_sizes():
    module = LiteralWaveletTransformCNN(WaveletConfig(mode="literal"), rngs=nnx.Rngs(0))
    kernels = [c.kernel.shape for c in (module.predict.conv1, module.predict.conv2)]
    assert kernels == [(3, 3, 64, 64)] * 2 and module.predict.conv3.kernel.shape == (1, 1, 64, 9)
    assert module.update.conv1.kernel.shape == (3, 3, 64 + 9, 64)
    x = jnp.zeros((1, 5, 7, 3))
    bands = module.forward(x)
    assert [b.shape for b in bands] == [(1, 5, 7, 3), (1, 5, 7, 9)]
    assert module.inverse(bands).shape == x.shape


BAD = {
    "20×24 is not a multiple of 8": lambda: transform().forward(jnp.zeros((1, 20, 24, 3))),
    r"image has shape \(1, 8, 8\)": lambda: transform().forward(jnp.zeros((1, 8, 8))),
    "wavelet.mode='x'": lambda: WaveletConfig(mode="x"),
    "wavelet.wavelet='db4'": lambda: WaveletConfig(wavelet="db4"),
    "wavelet.channels=2": lambda: WaveletConfig(channels=2),
    "wavelet.levels=0": lambda: WaveletConfig(levels=0),
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
