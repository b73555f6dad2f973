"""The compressor and what it is made of: whole numbers, steps, contexts, planes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.entropy import gaussian
from jaxvision.streams import streams
from jaxvision.wavenet_mv import contexts, steps, whole
from jaxvision.wavenet_mv.adamix import AdaMixNet, joined, kept_bands, parted
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.contexts import scale_of
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.wavelet import WaveletConfig


def config(sigma="hyper", **wavelet):
    compressor = CompressorConfig(latents=32, deeper=1, hyper=4, width=8, sigma=sigma)
    return WavenetMvConfig(
        wavelet=WaveletConfig(levels=2, width=8, **wavelet), compressor=compressor
    )


@functools.cache
def stirred(sigma="hyper"):
    """A model with every parameter moved, as after training."""
    model = WavenetMV(config(sigma), rngs=streams(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves), rest)


@functools.cache
def picture():
    y, x = np.mgrid[:32, :48]
    waves = [np.sin(x / 5 + k) + np.cos(y / 7 - k) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.15, (32, 48, 3))
    return jnp.asarray(np.clip(0.5 + 0.2 * np.stack(waves, -1) + noise, 0, 1), jnp.float32)[None]


def test_whole_softmax_is_a_softmax_and_learns_as_one():
    logits = jnp.round(40 * jax.random.normal(jax.random.key(0), (50, 4)))
    weights = whole.softmax(logits)
    assert bool((weights == jnp.round(weights)).all())
    assert float(weights.sum(-1).max()) <= whole.WEIGHTS
    np.testing.assert_allclose(weights / 127, nnx.softmax(logits / 16), atol=1.01 / 127)
    some = jnp.array([0.1, 0.2, 0.3, 0.4])
    grads = [jax.grad(lambda x, f=f: f(x) @ some)(logits[0]) for f in (whole.softmax, _smooth)]
    np.testing.assert_allclose(*grads, rtol=1e-5)


def _smooth(x):
    return 127 * nnx.softmax(x / 16)


def test_whole_layers_give_whole_numbers_and_few_digits():
    layer = whole.WholeConv(5, 6, 3, rngs=streams(0))
    x = jnp.round(30 * jax.random.normal(jax.random.key(0), (1, 6, 7, 5)))
    y = layer(x)
    assert bool((y == jnp.round(y)).all()) and 0 <= float(y.min()) and float(y.max()) <= whole.MOST
    kernel, bias = layer.kernel[...], layer.bias[...]
    exact = jax.lax.conv_general_dilated(
        x / 16, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer.value(x), exact + bias, atol=0.2)
    assert 0 < whole.check(layer) < 1
    layer.bias[...] = jnp.full((6,), 1e9)  # held back to what the sums have room for
    assert whole.check(layer) < 1
    with pytest.raises(ValueError, match="sums may pass 2"):
        whole.WholeConv(4000, 1, 3, rngs=streams(0))


def test_steps_are_the_powers_at_every_quality():
    logs = jnp.array([[1.0, -3.3], [0.0, -4.5], [-2.0, -5.0]])
    quality = jnp.array([0.0, 0.5, 1.0, 1.25, 2.0])
    found = steps.at(logs, quality)
    wanted = np.stack([np.interp(quality, [0, 1, 2], logs[:, i]) for i in range(2)], -1)
    np.testing.assert_allclose(found, 2**wanted, rtol=0.01)
    assert np.array_equal(found[0, :1], [2.0])  # to the bit
    ten = np.asarray(found, np.float64) * 2**20
    assert np.array_equal(ten, np.rint(ten))
    gradient = jax.grad(lambda x: steps.at(x, quality)[1, 0])(logs)
    assert gradient[0, 0] > 0 and gradient[1, 0] > 0 and gradient[2, 0] == 0
    alone = steps.at(logs[:1], jnp.array([0.0]))
    np.testing.assert_array_equal(alone, found[:1])


def test_first_steps_fall_with_lambda_and_with_what_a_number_does():
    logs = steps.first(np.array([256, 1024]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(logs[0] - logs[1], 1.0, rtol=1e-6)  # four times lambda: half
    np.testing.assert_allclose(logs[:, 0] - logs[:, 1], 1.0, rtol=1e-6)


def test_each_pass_knows_only_what_is_decoded_before():
    """Else no decoder could follow."""
    net = stirred().compressor
    quality = jnp.array([1.0])
    symbols = net.symbols(stirred().analyse(picture()), quality)
    rows = net.indexes(symbols)
    for i in range(1, len(symbols)):
        board = contexts.board(symbols[i].shape)
        other = [x if k < i else jnp.zeros_like(x) for k, x in enumerate(symbols)]
        first = net.indexes(other)[i]
        np.testing.assert_array_equal(*(np.where(board, x, 0) for x in (rows[i], first)))
        other[i] = jnp.where(board, symbols[i], 0)
        np.testing.assert_array_equal(net.indexes(other)[i], rows[i])
    last = jnp.where(contexts.board(symbols[-1].shape), 0, symbols[-1])
    assert (net.indexes([*symbols[:-1], last])[-1] != rows[-1]).any()  # and uses it


@pytest.mark.parametrize("sigma", ["hyper", "channel"])
def test_indexes_step_by_step_are_those_at_once(sigma):
    net = stirred(sigma).compressor
    symbols = net.symbols(stirred(sigma).analyse(picture()), jnp.array([0.0]))
    at_once = net.indexes(symbols)
    planes, known = symbols, None
    if sigma == "hyper":
        np.testing.assert_array_equal(net.index_of_side(symbols[0].shape), at_once.pop(0))
        planes, known = symbols[1:], net.start(symbols[0])
    for i, x in enumerate(planes):
        board = contexts.board(x.shape)
        features, first = net.first_index(i, known, x.shape)
        second = net.second_index(i, features, jnp.where(board, x, 0))
        np.testing.assert_array_equal(jnp.where(board, first, second), at_once[i])
        known = net.onward(features, x)


def test_training_sees_what_a_decoder_will():
    """The same latents, and bits near the rounded numbers' own."""
    model = stirred()
    quality = jnp.array([1.0])
    latents = model.analyse(picture())
    coded = model.compressor.train(latents, quality, jax.random.key(0))
    symbols = model.compressor.rounded(model.compressor.in_steps(latents, quality))
    for ours, theirs in zip(coded.latents, model.decoded(symbols, quality), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    exact = model.compressor.bits(symbols)[1:]  # of the side information training sees noise
    np.testing.assert_allclose(coded.bits[1:], exact, rtol=1e-5)


def test_bits_teach_latents_and_scales():
    graph, params = nnx.split(stirred().compressor)
    latents = stirred().analyse(picture())

    def bits(params, latents):
        net = nnx.merge(graph, params)
        return sum(net.train(latents, jnp.array([1.0]), jax.random.key(0)).bits)[0]

    of_params, of_latents = jax.jit(jax.grad(bits, argnums=(0, 1)))(params, latents)
    assert all(float(abs(x).sum()) > 0 for x in of_latents)
    for context in of_params["contexts"].values():
        assert all(float(abs(x).max()) > 0 for x in jax.tree.leaves(context))


def test_planes_and_grids_are_rearranged_without_loss():
    model = WavenetMV(config(), rngs=streams(0))
    latents = model.analyse(picture())
    assert [x.shape for x in latents] == [(1, 8, 12, 3), (1, 8, 12, 9), (1, 16, 24, 5)]
    planes = model.compressor.split(latents)
    assert [x.shape[1:3] for x in planes] == [(4, 6), (8, 12), (16, 24)]
    for x, y in zip(model.compressor.join(planes), latents, strict=True):
        np.testing.assert_allclose(x, y, atol=4 * 2**-whole.GRID)  # of roundings
    whole_grid = joined(latents)
    assert whole_grid.shape == (1, 8, 12, 32) == model.features(latents).shape
    for x, y in zip(parted(whole_grid, model.mixer.sizes), latents, strict=True):
        np.testing.assert_array_equal(x, y)


def test_kept_bands_are_luminance_first():
    assert kept_bands(3, 3, 128) == [0, 1, 3, 4, 6]  # LH HL HH of luminance, LH HL of red - blue
    assert kept_bands(3, 3, 192) == list(range(9))
    with pytest.raises(ValueError, match="compressor.latents=100 is none of"):
        kept_bands(3, 3, 100)


def test_a_dead_zone_makes_zeros():
    model = WavenetMV(config(), rngs=streams(0))
    rounded = model.compressor._rounded(jnp.array([0.59, 0.61, -0.59, -0.61, 1.4, -2.6]))
    np.testing.assert_array_equal(rounded, [0, 1, 0, -1, 1, -3])


def test_files_hold_what_costs_least():
    """No number by itself can be moved to less error and bits together, by the first rows."""
    net, quality = stirred().compressor, jnp.array([1.0])
    latents = stirred().analyse(picture())
    numbers = net.in_steps(latents, quality)
    rounded, symbols = net.rounded(numbers), net.symbols(latents, quality)
    rows = net.indexes(rounded)[1:]
    np.testing.assert_array_equal(symbols[0], rounded[0])
    fewer = 0
    for x, row, chosen in zip(numbers[1:], rows, symbols[1:], strict=True):
        mass = gaussian.likelihood(
            np.arange(-1, 2) + chosen[..., None], scale_of(row)[..., None], floor=2.0**-16
        )
        errors = jnp.square((x - chosen)[..., None] - np.arange(-1, 2))
        costs = errors + net.cfg.thrift * gaussian.bits(mass)
        assert (costs[..., 1] <= costs.min(-1) + 1e-4).all()
        fewer += int((abs(chosen) < abs(jnp.round(x))).sum())
    assert fewer > 0
    assert sum(net.bits(symbols)[1:])[0] < sum(net.bits(rounded)[1:])[0]


def test_adamix_net_adds_nothing_untrained_and_takes_any_channels():
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 10))
    assert not AdaMixNet(10, 7, bits=5, rngs=streams(0))(x).any()
    y = AdaMixNet(10, 7, bits=5, gain=1.0, rngs=streams(0))(x)
    assert y.shape == (1, 5, 6, 7) and float(abs(y).max()) > 0


def test_literal_form_trains_and_decodes():
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(mode="literal", width=8),
        compressor=CompressorConfig(latents=8, hyper=4, width=8),
    )
    model = WavenetMV(cfg, rngs=streams(0))
    x = picture()[:, :12, :16]
    out = model.train_step(x, jnp.array([0.0]), jax.random.key(0))
    assert out.image.shape == x.shape and out.bpp.shape == (1,) and float(out.bpp[0]) > 0
    symbols = model.compressor.symbols(model.analyse(x), jnp.array([0.0]))
    assert [s.shape for s in symbols] == [(1, 3, 4, 4), (1, 12, 16, 8)]
    assert model.pixels(model.decoded(symbols, jnp.array([0.0]))).shape == x.shape


BAD = {
    "compressor.sigma='x'": dict(sigma="x"),
    r"compressor.lambdas=\(512, 256\) must rise": dict(lambdas=(512, 256)),
    "compressor.dead_zone=0.3": dict(dead_zone=0.3),
    "compressor.deeper=-1": dict(deeper=-1),
    "compressor.thrift=-1": dict(thrift=-1),
    "compressor.hyper=0": dict(hyper=0),
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_named(message):
    with pytest.raises(ValueError, match=message):
        CompressorConfig(**BAD[message])
