"""Every baseline that runs here makes files that decode; the others say why they do not."""

import importlib.util

import numpy as np
import pytest
from scipy import ndimage

from jaxvision.baselines import catalogue, colour, ffmpeg, tables
from jaxvision.baselines.catalogue import available, codecs, dvc
from jaxvision.baselines.codec import CodecError, check_image
from jaxvision.baselines.floor import WaveletFloor, wavelet_floor
from jaxvision.baselines.wavelets import Lifting

CODECS = codecs()
FILES = [name for name, codec in CODECS.items() if not isinstance(codec, WaveletFloor)]
FLOORS = [name for name in CODECS if name not in FILES]
ODD = (75, 91)


def picture(height=64, width=96, seed=0):
    """Soft shapes with some texture, `uint8 [h w 3]`."""
    rng = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (8, 8, 0))
    soft = (soft - soft.min()) / np.ptp(soft)
    texture = ndimage.gaussian_filter(rng.normal(size=(height, width, 1)), (1, 1, 0))
    return np.rint(255 * np.clip(soft + 0.1 * texture, 0, 1)).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def runs_here(name):
    reason = CODECS[name].missing()
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    return CODECS[name]


@pytest.mark.parametrize("name", FILES)
def test_more_bits_are_more_decibels(name):
    codec, image = runs_here(name), picture()
    files = [codec.encode(image, q) for q in (codec.qualities[0], codec.qualities[-1])]
    decoded = [codec.decode(data) for data in files]
    assert all(x.shape == image.shape and x.dtype == np.uint8 for x in decoded)
    assert len(files[0]) < len(files[1])
    assert psnr(image, decoded[0]) + 3 < psnr(image, decoded[1]) > 30
    assert codec.encode(image, codec.qualities[0]) == files[0]  # the same each time


@pytest.mark.parametrize("name", FILES)
def test_odd_sizes(name):
    codec, image = runs_here(name), picture(*ODD)
    decoded = codec.decode(codec.encode(image, codec.qualities[-1]))
    assert decoded.shape == image.shape
    # padding in the wrong place would shift the picture, and a shift costs far more
    shifted = min(psnr(image[:, 1:], image[:, :-1]), psnr(image[1:], image[:-1]))
    assert psnr(image, decoded) > shifted + 6


@pytest.mark.parametrize("name", FILES)
def test_junk_is_a_codec_error(name):
    with pytest.raises(CodecError, match=f"{name} cannot decode 35 bytes"):
        runs_here(name).decode(b"\x00\x00\x01tail" * 5)


@pytest.mark.parametrize("name", FLOORS)
def test_the_floor_tells_bits_and_picture(name):
    codec, image = runs_here(name), picture(*ODD)
    found = [codec.estimate(image, q) for q in (36, 1)]
    rates, ratios = zip(*[(bits, psnr(image, decoded)) for bits, decoded in found], strict=True)
    assert sorted(rates) == list(rates) and sorted(ratios) == list(ratios)
    # uniform error of a step of 1 (1.6 in chroma), carried to RGB, and rounding to integers
    assert ratios[-1] > 10 * np.log10(255**2 / (4 * 1.6**2 / 12))
    with pytest.raises(CodecError, match="has no coder"):
        codec.encode(image, 10)


class LongCoder:
    """rANS whose state is one long integer: slow, exact, without a word to spare."""

    def encode(self, symbols, indexes, cumulatives):
        x = 1
        for symbol, index in zip(symbols[::-1].tolist(), indexes[::-1].tolist(), strict=True):
            start, end = (int(v) for v in cumulatives[index][symbol : symbol + 2])
            x = (x // (end - start) << 16) + x % (end - start) + start
        return x.to_bytes((x.bit_length() + 7) // 8)

    def decode(self, data, indexes, cumulatives):
        x, symbols = int.from_bytes(data), []
        for index in indexes.tolist():
            slot = x & 0xFFFF
            symbol = int(np.searchsorted(cumulatives[index], slot, side="right")) - 1
            start, end = (int(v) for v in cumulatives[index][symbol : symbol + 2])
            x = (end - start) * (x >> 16) + slot - start
            symbols.append(symbol)
        return np.array(symbols)


@pytest.mark.parametrize("wavelet, shape", [("97", (48, 64)), ("haar", (33, 47)), ("97", (1, 9))])
def test_a_coder_makes_the_estimated_bytes(wavelet, shape):
    codec, image = wavelet_floor(wavelet, coder=LongCoder()), picture(*shape)
    bits, decoded = wavelet_floor(wavelet).estimate(image, 12.3)
    data = codec.encode(image, 12.3)
    np.testing.assert_array_equal(codec.decode(data), decoded)
    # rANS loses at most log2(1 + f / x) a symbol, which a long state makes nothing, and its start
    assert abs(8 * len(data) - bits) <= 8 + 16
    for cut in (b"", data[:5]):
        with pytest.raises(CodecError, match="cannot decode"):
            codec.decode(cut)


@pytest.mark.parametrize("wavelet", ["haar", "97"])
@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (2, 3)])
def test_lifting_is_undone(wavelet, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    levels = int(np.log2(min(shape)))
    bands = Lifting(wavelet).forward(x, levels)
    assert sum(band.size for band in bands) == x.size
    # some 10 roundings a level and direction, at values that 4 low-pass gains of 2 raise
    tol = 20 * levels * 2**levels * np.finfo(np.float32).eps
    np.testing.assert_allclose(Lifting(wavelet).inverse(bands, shape), x, rtol=0, atol=tol)


@pytest.mark.parametrize("wavelet, name", [("haar", "haar"), ("97", "bior4.4")])
def test_lifting_equals_pywavelets_inside(wavelet, name):
    pywt = pytest.importorskip("pywt", reason="PyWavelets comes with the baselines extra")
    x = np.random.default_rng(0).normal(size=(64, 80))
    low, details = pywt.dwt2(x, name, mode="reflect")
    for ours, theirs in zip(Lifting(wavelet).forward(x, 1), (low, *details), strict=True):
        h, w = ours.shape
        # PyWavelets begins up to two coefficients before the image, and turns Haar's differences
        gaps = [
            abs(abs(theirs[i : i + h, j : j + w]) - abs(ours)).max()
            for i in range(theirs.shape[0] - h + 1)
            for j in range(theirs.shape[1] - w + 1)
        ]
        assert min(gaps) < 40 * np.finfo(np.float32).eps * abs(theirs).max()  # as many roundings


@pytest.mark.parametrize("family", tables.FAMILIES)
def test_tables_are_integers_of_the_right_mass(family):
    for index, low, high in ((0, 0, 0), (0, -1, 1), (16, -8, 5), (40, -2000, 2000)):
        table = tables.cumulative(index, low, high, family=family)
        assert table[0] == 0 and table[-1] == 2**16 and (np.diff(table) >= 1).all()
        assert len(table) == high - low + 2
    values = np.rint(np.random.default_rng(0).normal(0, 8, 4000)).astype(int)
    best = tables.best_scale(values, family=family)
    assert 0.6 < tables.scale(best) / 8 < 1.6
    low, high = values.min(), values.max()
    counts = np.bincount(values - low)
    entropy = -(counts[counts > 0] / 4000 * np.log2(counts[counts > 0] / 4000)).sum() * 4000
    cost = tables.bits(counts, tables.cumulative(best, low, high, family=family))
    assert entropy < cost < 1.06 * entropy
    with pytest.raises(ValueError, match="from -30000 to 30000 are too many"):
        tables.cumulative(40, -30000, 30000, family=family)


def test_colours_are_those_of_bt709_and_come_back():
    grey = np.full((2, 2, 3), 77, np.uint8)
    planes = colour.to_planes(grey, bits=8, half=False)
    assert [int(p[0, 0]) for p in planes] == [77, 128, 128]
    red = np.zeros((2, 2, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    planes = colour.to_planes(red, bits=10, half=False)
    expected = [0.2126 * 1023, 512 - 1023 * 0.2126 / 1.8556, 512 + 1023 / 2]
    np.testing.assert_allclose([p[0, 0] for p in planes], expected, rtol=0, atol=0.5001)
    image = picture(*ODD)
    for bits, error in ((8, 2), (10, 1)):  # half a code each of luma and chroma, 1.86 times in blue
        planes = colour.to_planes(image, bits=bits, half=False)
        back = colour.from_planes(planes, bits=bits)
        assert abs(back.astype(int) - image).max() <= error
        planes = colour.to_planes(image, bits=bits, half=True)
        assert planes[0].shape == (76, 92) and planes[1].shape == (38, 46)
        assert psnr(image, colour.from_planes(planes, bits=bits)[:75, :91]) > 38


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = available()
    assert {"jpeg-420", "webp", "wavelet-97"} <= found.codecs.keys()
    for name in ("hevc-444", "vvc-medium"):
        assert found.missing[name] == "imageio-ffmpeg is not installed: uv sync --extra baselines"
    assert "imagecodecs is not installed" in found.missing["jpeg-xl"]
    assert found.codecs.keys() | found.missing.keys() == CODECS.keys()


def test_an_ffmpeg_without_the_encoder_is_named(monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' V....D libx265  x265'\n")
    program.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(ffmpeg, "binary", lambda: str(program))
    ffmpeg.encoders.cache_clear()
    assert ffmpeg.missing("libx265") is None
    assert f"{program} has no libvvenc" in ffmpeg.missing("libvvenc")
    monkeypatch.setattr(ffmpeg, "binary", lambda: str(tmp_path / "none"))
    ffmpeg.encoders.cache_clear()
    assert "does not run here" in ffmpeg.missing("libx265")
    ffmpeg.encoders.cache_clear()


def test_wrong_names_and_images_are_named():
    with pytest.raises(ValueError, match="codec 'vvc-fast' is unknown; did you mean 'vvc-faster'"):
        available(["webp", "vvc-fast"])
    with pytest.raises(ValueError, match="wavelet 'db4' is unknown"):
        wavelet_floor("db4")
    for image in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"must be uint8 \[h w 3\], not "):
            check_image(image)
    with pytest.raises(ValueError, match="must be > 0, not 0"):
        wavelet_floor().estimate(picture(), 0)


def test_dvc_is_never_a_number(tmp_path):
    assert str(dvc()) == "not run: no checkpoint; give --dvc-checkpoint PATH"
    with pytest.raises(FileNotFoundError, match="dvc.pth: no such file"):
        dvc(tmp_path / "dvc.pth")
    (tmp_path / "dvc.pth").touch()
    assert str(dvc(tmp_path / "dvc.pth")).startswith("not run: ")
    assert isinstance(dvc(), catalogue.NotRun)
