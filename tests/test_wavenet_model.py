"""The compressor and what it is made of: whole numbers, steps, contexts, planes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from modules import made, run

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
def fresh(sigma="hyper"):
    return made(lambda: WavenetMV(config(sigma), rngs=streams(0)))


@functools.cache
def stirred(sigma="hyper"):
    """A model with every parameter moved, as after training."""
    graph, params, rest = nnx.split(fresh(sigma), nnx.Param, ...)
    rng = np.random.default_rng(3)
    moved = lambda x: jnp.asarray(x + 0.05 * rng.normal(size=x.shape), x.dtype)  # noqa: E731
    return nnx.merge(graph, jax.tree.map(moved, params), rest)


analysed = jax.jit(lambda model, image: model.analyse(image))
chosen = jax.jit(lambda net, latents, quality: net.symbols(latents, quality))
indexes = jax.jit(lambda net, symbols: net.indexes(symbols))


@functools.cache
def latents(sigma="hyper"):
    return analysed(stirred(sigma), picture())


@functools.cache
def picture():
    y, x = np.mgrid[:32, :48]
    waves = [np.sin(x / 5 + k) + np.cos(y / 7 - k) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.15, (32, 48, 3))
    return np.clip(0.5 + 0.2 * np.stack(waves, -1) + noise, 0, 1).astype(np.float32)[None]


def test_whole_softmax_is_a_softmax_and_learns_as_one():
    logits = np.round(40 * np.random.default_rng(0).normal(size=(50, 4))).astype(np.float32)
    weights = np.asarray(jax.jit(whole.softmax)(logits))
    assert (weights == np.round(weights)).all()
    assert weights.sum(-1).max() <= whole.WEIGHTS
    np.testing.assert_allclose(weights, jax.jit(_smooth)(logits), atol=1.01)
    some = np.float32([0.1, 0.2, 0.3, 0.4])
    grads = [
        jax.jit(jax.grad(lambda x, f=f: f(x) @ some))(logits[0]) for f in (whole.softmax, _smooth)
    ]
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
    logs = np.float32([[1.0, -3.3], [0.0, -4.5], [-2.0, -5.0]])
    quality = np.float32([0.0, 0.5, 1.0, 1.25, 2.0])
    at = jax.jit(steps.at)
    found = np.asarray(at(logs, quality))
    wanted = np.stack([np.interp(quality, [0, 1, 2], logs[:, i]) for i in range(2)], -1)
    np.testing.assert_allclose(found, 2**wanted, rtol=0.01)
    assert np.array_equal(found[0, :1], [2.0])  # to the bit
    ten = np.asarray(found, np.float64) * 2**20
    assert np.array_equal(ten, np.rint(ten))
    gradient = np.asarray(jax.jit(jax.grad(lambda x: steps.at(x, quality)[1, 0]))(logs))
    assert gradient[0, 0] > 0 and gradient[1, 0] > 0 and gradient[2, 0] == 0
    alone = at(logs[:1], np.float32([0.0]))
    np.testing.assert_array_equal(alone, found[:1])


def test_first_steps_fall_with_lambda_and_with_what_a_number_does():
    logs = steps.first(np.array([256, 1024]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(logs[0] - logs[1], 1.0, rtol=1e-6)  # four times lambda: half
    np.testing.assert_allclose(logs[:, 0] - logs[:, 1], 1.0, rtol=1e-6)


def test_each_pass_knows_only_what_is_decoded_before():
    """Else no decoder could follow."""
    net = stirred().compressor
    symbols = list(map(np.asarray, chosen(net, latents(), np.float32([1.0]))))
    rows = list(map(np.asarray, indexes(net, symbols)))
    for i in range(1, len(symbols)):
        board = contexts.board(symbols[i].shape)
        other = [x if k < i else np.zeros_like(x) for k, x in enumerate(symbols)]
        first = np.asarray(indexes(net, other)[i])
        np.testing.assert_array_equal(*(np.where(board, x, 0) for x in (rows[i], first)))
        other[i] = np.where(board, symbols[i], 0)
        np.testing.assert_array_equal(indexes(net, other)[i], rows[i])
    last = np.where(contexts.board(symbols[-1].shape), 0, symbols[-1])
    assert (np.asarray(indexes(net, [*symbols[:-1], last])[-1]) != rows[-1]).any()  # and uses it


@pytest.mark.parametrize("sigma", ["hyper", "channel"])
def test_indexes_step_by_step_are_those_at_once(sigma):
    net = stirred(sigma).compressor
    symbols = chosen(net, latents(sigma), np.float32([0.0]))

    @jax.jit
    def in_steps(net, symbols):
        planes, known, found = symbols, None, []
        if sigma == "hyper":
            found.append(net.index_of_side(symbols[0].shape))
            planes, known = symbols[1:], net.start(symbols[0])
        for i, x in enumerate(planes):
            board = contexts.board(x.shape)
            features, first = net.first_index(i, known, x.shape)
            second = net.second_index(i, features, jnp.where(board, x, 0))
            found.append(jnp.where(board, first, second))
            known = net.onward(features, x)
        return found

    for ours, at_once in zip(in_steps(net, symbols), indexes(net, symbols), strict=True):
        np.testing.assert_array_equal(ours, at_once)


def test_training_sees_what_a_decoder_will():
    """The same latents, and bits near the rounded numbers' own."""

    @jax.jit
    def both(model, latents, quality):
        net = model.compressor
        symbols = net.rounded(net.in_steps(latents, quality))
        decoded = model.decoded(symbols, quality), net.bits(symbols)
        return net.train(latents, quality, jax.random.key(0)), decoded

    coded, (decoded, exact) = both(stirred(), latents(), np.float32([1.0]))
    for ours, theirs in zip(coded.latents, decoded, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # of the side information training sees noise
    np.testing.assert_allclose(coded.bits[1:], exact[1:], rtol=1e-5)


def test_bits_teach_latents_and_scales():
    graph, params = nnx.split(stirred().compressor)

    def bits(params, latents):
        net = nnx.merge(graph, params)
        return sum(net.train(latents, jnp.array([1.0]), jax.random.key(0)).bits)[0]

    of_params, of_latents = jax.jit(jax.grad(bits, argnums=(0, 1)))(params, latents())
    assert all(np.asarray(x).any() for x in of_latents)
    for context in of_params["contexts"].values():
        assert all(np.asarray(x).any() for x in jax.tree.leaves(context))


def test_planes_and_grids_are_rearranged_without_loss():
    model, latents = fresh(), analysed(fresh(), picture())
    assert [x.shape for x in latents] == [(1, 8, 12, 3), (1, 8, 12, 9), (1, 16, 24, 5)]

    @jax.jit
    def rearranged(model, latents):
        planes = model.compressor.split(latents)
        grid = joined(latents)
        back = model.compressor.join(planes), parted(grid, model.mixer.sizes)
        return planes, grid, back, model.features(latents)

    planes, whole_grid, (from_planes, from_grid), features = rearranged(model, latents)
    assert [x.shape[1:3] for x in planes] == [(4, 6), (8, 12), (16, 24)]
    for x, y in zip(from_planes, latents, strict=True):
        np.testing.assert_allclose(x, y, atol=4 * 2**-whole.GRID)  # of roundings
    assert whole_grid.shape == (1, 8, 12, 32) == features.shape
    for x, y in zip(from_grid, latents, strict=True):
        np.testing.assert_array_equal(x, y)


def test_kept_bands_are_luminance_first():
    assert kept_bands(3, 3, 128) == [0, 1, 3, 4, 6]  # LH HL HH of luminance, LH HL of red - blue
    assert kept_bands(3, 3, 192) == list(range(9))
    with pytest.raises(ValueError, match="compressor.latents=100 is none of"):
        kept_bands(3, 3, 100)


def test_a_dead_zone_makes_zeros():
    rounded = fresh().compressor._rounded(jnp.array([0.59, 0.61, -0.59, -0.61, 1.4, -2.6]))
    np.testing.assert_array_equal(rounded, [0, 1, 0, -1, 1, -3])


def test_files_hold_what_costs_least():
    """No number by itself can be moved to less error and bits together, by the first rows."""

    @jax.jit
    def coded(net, latents, quality):
        numbers = net.in_steps(latents, quality)
        rounded, symbols = net.rounded(numbers), net.symbols(latents, quality)
        rows = net.indexes(rounded)[1:]
        masses = [
            gaussian.likelihood(
                np.arange(-1, 2) + x[..., None], scale_of(row)[..., None], floor=2.0**-16
            )
            for x, row in zip(symbols[1:], rows, strict=True)
        ]
        bits = [gaussian.bits(mass) for mass in masses]
        sums = [sum(net.bits(x)[1:])[0] for x in (symbols, rounded)]
        return numbers, rounded, symbols, bits, sums

    net = stirred().compressor
    found = coded(net, latents(), np.float32([1.0]))
    numbers, rounded, symbols, bits, (least, plain) = jax.tree.map(np.asarray, found)
    np.testing.assert_array_equal(symbols[0], rounded[0])
    fewer = 0
    for x, asked, chosen in zip(numbers[1:], bits, symbols[1:], strict=True):
        errors = np.square((x - chosen)[..., None] - np.arange(-1, 2))
        costs = errors + net.cfg.thrift * asked
        assert (costs[..., 1] <= costs.min(-1) + 1e-4).all()
        fewer += int((abs(chosen) < abs(np.round(x))).sum())
    assert fewer > 0
    assert least < plain  # of most models: the choice moves later scales too


def test_adamix_net_adds_nothing_untrained_and_takes_any_channels():
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 10)).astype(np.float32)
    untrained = made(lambda: AdaMixNet(10, 7, bits=5, rngs=streams(0)))
    assert not np.asarray(run(untrained, x)).any()
    y = np.asarray(run(made(lambda: AdaMixNet(10, 7, bits=5, gain=1.0, rngs=streams(0))), x))
    assert y.shape == (1, 5, 6, 7) and abs(y).max() > 0


def test_literal_form_trains_and_decodes():
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(mode="literal", width=8),
        compressor=CompressorConfig(latents=8, hyper=4, width=8),
    )
    model = made(lambda: WavenetMV(cfg, rngs=streams(0)))

    @jax.jit
    def both(model, x, quality):
        symbols = model.compressor.symbols(model.analyse(x), quality)
        shown = model.pixels(model.decoded(symbols, quality))
        return model.train_step(x, quality, jax.random.key(0)), symbols, shown

    x = picture()[:, :12, :16]
    out, symbols, shown = both(model, x, np.float32([0.0]))
    assert out.image.shape == x.shape and out.bpp.shape == (1,) and float(out.bpp[0]) > 0
    assert [s.shape for s in symbols] == [(1, 3, 4, 4), (1, 12, 16, 8)]
    assert shown.shape == x.shape


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
