"""Pictures to files and back: the bits, the levels, and what becomes of broken files."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from modules import made
from PIL import Image

from jaxvision.entropy import escape
from jaxvision.entropy.errors import BitstreamError
from jaxvision.stage import path_name
from jaxvision.streams import streams
from jaxvision.wavenet_mv import __main__ as command
from jaxvision.wavenet_mv import container, layout, models
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.evaluation import RateReport, rates, scalar_names
from jaxvision.wavenet_mv.loss import wavelet_reconstruction
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.search import at_bpp, at_psnr, likeness
from jaxvision.wavenet_mv.wavelet import WaveletConfig

pytestmark = pytest.mark.usefixtures("compiles_once")  # a model read from a file compiles anew


def config(sigma="hyper", **wavelet):
    compressor = CompressorConfig(latents=32, deeper=1, hyper=4, width=8, sigma=sigma)
    return WavenetMvConfig(
        wavelet=WaveletConfig(levels=2, width=8, **wavelet), compressor=compressor
    )


@functools.cache
def network(sigma="hyper"):
    return made(lambda: WavenetMV(config(sigma), rngs=streams(0)))


@functools.cache
def codec(sigma="hyper"):
    return Codec(network(sigma))


@functools.cache
def picture():
    """`[33 42 3]`: neither side a multiple of anything."""
    y, x = np.mgrid[:33, :42]
    waves = [np.sin(x / 5 + k) + np.cos(y / 7 - k) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 4, (33, 42, 3))
    return np.clip(127 + 50 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


@functools.cache
def written(sigma="hyper"):
    return codec(sigma).encode(picture(), 1.5)


@pytest.mark.parametrize("sigma", ["hyper", "channel"])
def test_a_file_decodes_to_what_the_encoder_had(sigma):
    decoded = codec(sigma).decode(written(sigma))
    np.testing.assert_array_equal(decoded.image, codec(sigma).reconstruct(picture(), 1.5))
    assert decoded.image.shape == picture().shape
    assert [x.shape for x in decoded.latents] == [(1, 10, 12, 3), (1, 10, 12, 9), (1, 20, 24, 5)]


def test_both_coders_hold_the_same_picture():
    tfc = codec().encode(picture(), 1.5, coder="tfc")
    assert container.read(tfc)[0].flags == container.TFC
    np.testing.assert_array_equal(codec().decode(tfc).image, codec().decode(written()).image)


def test_a_prefix_decodes_to_a_smaller_picture():
    header, streams = container.read(written())
    end = len(written()) - len(streams[-1])
    small = codec().decode(written()[:end], levels=2).image
    assert small.shape == (17, 21, 3)
    np.testing.assert_array_equal(small, codec().decode(written(), levels=2).image)
    with pytest.raises(BitstreamError, match="2 of its 3 levels are whole, which levels=2 decodes"):
        codec().decode(written()[:end])


def test_no_damage_passes_unseen():
    data, good = written(), codec().decode(written()).image
    rng = np.random.default_rng(0)

    def damaged(k):
        broken = bytearray(data)
        if k % 3 == 0:
            broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        elif k % 3 == 1:
            broken = broken[: rng.integers(len(data))]
        else:
            i, j = sorted(rng.integers(0, len(data) + 1, 2))
            broken[i:j] = rng.bytes(rng.integers(0, 9))
        return bytes(broken)

    for broken in filter(lambda x: x != data, map(damaged, range(150))):
        try:
            np.testing.assert_array_equal(codec().decode(broken).image, good)
        except BitstreamError as error:
            assert str(error)


def test_headers_name_what_is_wrong():
    data = written()
    for broken, message in (
        (b"", "the file is empty"),
        (b"RIFF" + data[4:], "another format"),
        (data[:4] + b"\x01" + data[5:], "version 1; this program reads 3"),
        (data[:3], "cut off within its header"),
        (data[:20], "cut off within its header"),
        (data + b"x", "1 bytes follow the end"),
    ):
        with pytest.raises(BitstreamError, match=message):
            codec().decode(broken)
    with pytest.raises(BitstreamError, match="flags 3 ask for what this program does not know"):
        dataclasses.replace(container.read(data)[0], flags=3)
    with pytest.raises(BitstreamError, match="was written by model"):
        codec("channel").decode(data)


def test_indexes_are_those_of_any_batch_and_mode():
    """What encoder and decoder must find alike: whole numbers, however they are computed."""
    model = network()
    assert 0 < model.check() < 1
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 4, 4), (2, 3, 4, 12), (2, 6, 8, 9), (2, 12, 16, 5)]
    symbols = [np.rint(rng.normal(0, 5, s)).astype(np.float32) for s in shapes]
    jitted = jax.jit(lambda net, x: net.indexes(x))(model.compressor, symbols)
    for i in range(2):  # eager, and each by itself
        one = model.compressor.indexes([jnp.asarray(x[i : i + 1]) for x in symbols])
        for x, y in zip(jitted, one, strict=True):
            np.testing.assert_array_equal(y[0], x[i])


def test_training_estimates_bits_and_reaches_every_parameter():
    graph, params, rest = nnx.split(network(), nnx.Param, ...)
    x = jnp.asarray(picture()[:32, :40], jnp.float32)[None] / 255

    def loss(params):
        model = nnx.merge(graph, params, rest)
        out = model.train_step(x, jnp.array([1.3]), jax.random.key(0))
        return 512 * ((out.image - x) ** 2).mean() + out.bpp.mean(), out.bpp

    (_, bpp), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert bpp.shape == (1,) and 0 < bpp[0] < 24
    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(grads)
        if not jnp.isfinite(g).all() or not (g != 0).any()
    ]
    # Behind layers that start at zero nothing moves in the first step; the last layers do.
    assert not [k for k in dead if "conv3" in k or "['out']" in k or "steps']." in k]


@pytest.mark.parametrize("sigma", ["hyper", "channel"])
def test_reported_bits_are_those_of_the_file(sigma):
    """Within a hundredth, and what the coder's states take; of a picture that no table escapes."""
    image = np.tile(picture()[:32, :40] // 16 + 120, (2, 2, 1))
    model = network(sigma)
    found = jax.jit(lambda x: rates(model, x))(jnp.asarray(image)[None])
    assert found["bpp"].shape == (1, 3) and (found["ms_ssim"] == 0).all()
    for k in range(3):
        _, streams = container.read(codec(sigma).encode(image, float(k)))
        size, told = 8 * sum(map(len, streams)), float(found["bpp"][0, k]) * image[..., 0].size
        assert abs(size - told) < 0.01 * told + 8 * 16 * len(streams)
        shown = codec(sigma).reconstruct(image, float(k)).astype(np.float64)
        psnr = 10 * np.log10(255**2 / ((shown - image) ** 2).mean())
        np.testing.assert_allclose(found["psnr"][0, k], psnr, rtol=1e-4)


def test_bits_are_accounted_by_band():
    model = network()
    assert (
        layout.bands(model)[0]
        == ("lowest",) * 3 + ("1/8 LH",) * 3 + ("1/8 HL",) * 3 + ("1/8 HH",) * 3
    )
    assert layout.bands(model)[2] == ("1/2 LH", "1/2 LH", "1/2 HL", "1/2 HL", "1/2 HH")
    found = codec().bits(written())
    assert set(found) == {"side information"}.union(*layout.bands(model))
    symbols = next(codec()._symbols(picture(), 1.5, 0))
    rows = codec().programs.rows(symbols)
    lowest = escape.split(symbols[1][..., :3], rows[1][..., :3], codec().tables)
    np.testing.assert_allclose(found["lowest"], codec().tables.bits(*lowest[:2]))
    size = 8 * sum(map(len, container.read(written())[1]))
    assert 0.95 * size < sum(found.values()) < size


def test_report_means_over_pictures(tmp_path):
    report = RateReport((256, 512), tmp_path)
    predictions = {
        "bpp": np.array([[0.2, 0.3], [0.4, 0.5], [9.0, 9.0]]),
        "psnr": np.array([[30.0, 32.0], [30.0, 34.0], [9.0, 9.0]]),
        "ms_ssim": np.full((3, 2), 0.9),
    }
    report.add({"mask": np.array([True, True, False])}, predictions)
    scalars = report.result()
    assert set(scalars) == set(scalar_names((256, 512)))
    np.testing.assert_allclose(scalars["bpp_256"], 0.3)
    np.testing.assert_allclose(scalars["cost_256"], 256e-3 + 0.3)
    np.testing.assert_allclose(scalars["psnr_512"], 33.0)
    assert len((tmp_path / "codec.csv").read_text().splitlines()) == 5
    assert (tmp_path / "rd.pdf").exists() and (tmp_path / "rd.png").exists()


def test_wavelet_stage_learns_from_noise_alone():
    """Without noise the transform has no error, so that nothing could be learned from it."""
    graph, params, rest = nnx.split(network(), nnx.Param, ...)
    batch = {"image": jnp.asarray(picture()[None, :32, :40])}

    def loss(params):
        model = nnx.merge(graph, params, rest)
        return wavelet_reconstruction(model, batch, nnx.Rngs(sample=0))

    (_, logs), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert logs["inverse_error"] < 1e-10 < 1e-5 < logs["mse"]
    moved = {
        path_name(path) for path, g in jax.tree_util.tree_leaves_with_path(grads) if (g != 0).any()
    }
    assert any("predict/conv3/kernel" in k for k in moved)
    assert not any(k.startswith(("mixer", "compressor")) for k in moved)


def test_models_go_to_files_and_back(tmp_path):
    codec().save(tmp_path / "m.npz")
    again = Codec.load(tmp_path / "m.npz")
    assert again.digest == codec().digest
    np.testing.assert_array_equal(again.decode(written()).image, codec().decode(written()).image)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "m.npz").read_bytes()[:1000])
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    for name in ("cut.npz", "other.npz"):
        with pytest.raises(ValueError, match=f"{name} is no model of wavenet_mv"):
            Codec.load(tmp_path / name)


def test_models_that_cannot_be_are_refused(tmp_path):
    codec().save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as data:
        arrays = dict(data)
    name = next(k for k in arrays if k.startswith("param/"))
    for change, message in (
        ({"config": np.array("[1]")}, "is no model of wavenet_mv"),
        ({name: np.full_like(arrays[name], np.nan)}, "is not finite float32"),
        ({name: arrays[name].astype(str)}, "is not finite float32"),
    ):
        np.savez(tmp_path / "bad.npz", **(arrays | change))
        with pytest.raises(ValueError, match=message):
            Codec.load(tmp_path / "bad.npz")


def test_a_models_hash_is_of_what_decoders_need():
    state, tables = codec().state, codec().tables

    def changed(**fields):
        compressor = dataclasses.replace(codec().cfg.compressor, **fields)
        return models.digest(dataclasses.replace(codec().cfg, compressor=compressor), state, tables)

    assert changed(thrift=0.2, dead_zone=0.7) == codec().digest != changed(deeper=2)


def test_targets_are_met():
    image = picture()
    pixels = image.shape[0] * image.shape[1]
    sizes = [8 * len(codec().encode(image, q)) / pixels for q in (0.0, 2.0)]
    middle = sum(sizes) / 2
    quality = at_bpp(codec(), image, middle)
    assert 8 * len(codec().encode(image, quality)) / pixels <= middle
    assert 8 * len(codec().encode(image, quality + 2 / container.QUALITY)) / pixels > 0.98 * middle
    wanted = (likeness(codec(), image, 0.0) + likeness(codec(), image, 2.0)) / 2
    assert likeness(codec(), image, at_psnr(codec(), image, wanted)) >= wanted
    with pytest.raises(ValueError, match="the lowest quality of this model takes"):
        at_bpp(codec(), image, 0.01)
    with pytest.raises(ValueError, match="target-psnr=nan"):
        at_psnr(codec(), image, float("nan"))
    with pytest.raises(ValueError, match="the highest quality of this model gives"):
        at_psnr(codec(), image, 99.0)


def test_commands(tmp_path, capsys):
    codec().save(tmp_path / "m.npz")
    Image.fromarray(picture()).save(tmp_path / "a.png")

    def run(*words):
        status = command.main(
            [str(tmp_path / w) if "." in w and w[0] != "-" and "/" not in w else w for w in words]
        )
        return status, capsys.readouterr()

    model = f"--model={tmp_path / 'm.npz'}"
    assert run("encode", model, "a.png", "a.wvmv", "--verify", "--quality=0.3")[0] == 0
    assert run("encode", model, "a.png", "a.wvmv", "--verify")[0] == 0
    assert run("decode", model, "a.wvmv", "b.png", f"--features={tmp_path / 'f.npz'}")[0] == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "b.png")), codec().reconstruct(picture(), 1.0)
    )
    assert [x.shape for x in np.load(tmp_path / "f.npz").values()] == [(10, 12, 32)]
    status, said = run("info", "a.wvmv", "--bits")
    assert status == 0 and "42x33, quality 1" in said.out and "substream 2" in said.out
    said = run("info", model, "a.wvmv", "--bits")[1].out
    found = re.findall(r"^(.+?) +(\d+) bits ", said, re.MULTILINE)
    named = {name: int(bits) for name, bits in found}
    assert "1/2 LH" in named
    streams = sum(bits for name, bits in named.items() if name.startswith("substream"))
    bands = sum(n for k, n in named.items() if k != "header" and not k.startswith("substream"))
    assert abs(streams - bands) <= len(named)
    assert "whole" in run("verify", model, "a.wvmv")[1].out
    (tmp_path / "cut.wvmv").write_bytes((tmp_path / "a.wvmv").read_bytes()[:-1])
    with pytest.raises(SystemExit, match="1 of 1 files did not pass"):
        run("verify", model, "cut.wvmv")
    for words, message in {
        ("decode", model, "cut.wvmv", "c.png"): "cut off",
        ("decode", model, "none.wvmv", "c.png"): "none.wvmv: No such file",
        ("decode", model, "a.wvmv", "c.gif"): "pictures are written as",
        ("encode", model, "m.npz", "c.wvmv"): "m.npz",
        ("encode", f"--model={tmp_path / 'a.png'}", "a.png", "c.wvmv"): "is no model of wavenet_mv",
        ("encode", model, "a.png", "c.wvmv", "--quality=3"): "quality=3.0 must be from 0 to 2",
    }.items():
        status, said = run(*words)
        assert status == 1 and message in said.err, (words, said.err)
    assert not list(itertools.chain(tmp_path.glob("c.*"), tmp_path.glob(".*part")))


def test_literal_form_trains_and_codes():
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(mode="literal", width=8),
        compressor=CompressorConfig(latents=8, hyper=4, width=8),
    )
    literal = Codec(made(lambda: WavenetMV(cfg, rngs=streams(0))))
    image = picture()[:9, :13]
    decoded = literal.decode(literal.encode(image, 0.0))
    np.testing.assert_array_equal(decoded.image, literal.reconstruct(image, 0.0))
