"""Other codecs at our bits: the search for a quality, our coder in the floor, the table."""

import csv
import functools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from modules import made
from PIL import Image
from test_baselines import picture

from jaxvision.baselines.catalogue import NotRun, codecs
from jaxvision.baselines.codec import CodecError
from jaxvision.baselines.floor import wavelet_floor
from jaxvision.baselines.rans import Rans
from jaxvision.baselines.search import Setting, at_bpp, dial_of
from jaxvision.baselines.stills import JPEG_420
from jaxvision.streams import streams
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.heads.model import HeadsConfig, predictions
from jaxvision.wavenet_mv.model import WavenetMvConfig
from jaxvision.wavenet_mv.reader import Names, Reader
from jaxvision.wavenet_mv.report.comparison import COLUMNS, Line, compared, remarks, write
from jaxvision.wavenet_mv.report.reading import Labelled
from jaxvision.wavenet_mv.wavelet import WaveletConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import compare_baselines  # noqa: E402

NAMES = Names(segments=("ground", "thing"))


@functools.cache
def reader():
    config = WavenetMvConfig(
        wavelet=WaveletConfig(levels=2, width=8),
        compressor=CompressorConfig(
            latents=32, deeper=1, hyper=4, width=8, sigma="channel", lambdas=(256, 1024)
        ),
    )
    heads = HeadsConfig(segment_classes=2, width=16, depth=1, stride=4)
    return made(lambda: Reader(config, heads, rngs=streams(0)))


@functools.cache
def codec():
    return Codec(reader().codec)


@jax.jit
def segments_of(heads, features):
    return predictions(heads(features), (32, 48))["segments"]


@jax.jit
def features_of(codec, images):
    return codec.features(codec.analyse(images))


@functools.cache
def pictures():
    return {str(seed): picture(32, 48, seed=seed) for seed in range(2)}


def bpp(codec, images, quality):
    return np.mean([8 * len(codec.encode(x, quality)) / x[..., 0].size for x in images])


def test_the_nearest_quality_is_found():
    images = [picture(32, 48, seed=seed) for seed in range(2)]
    rates = {q: bpp(JPEG_420, images, q) for q in range(1, 101)}
    for wanted in (1.9, 3.1, 5.0):
        nearest = min(abs(np.log(rate / wanted)) for rate in rates.values())
        found = at_bpp(JPEG_420, images, wanted)
        assert found.bpp == rates[found.quality] and not found.clamped
        # files do not grow at every step
        assert abs(np.log(found.bpp / wanted)) <= nearest + 0.02
    least, most = min(rates.values()), max(rates.values())
    for wanted, end, clamped in ((1e-3, least, True), (1e3, most, True), (least, least, False)):
        found = at_bpp(JPEG_420, images, wanted)
        assert found == Setting(found.quality, end, clamped)
    with pytest.raises(ValueError, match="bpp=0"):
        at_bpp(JPEG_420, images, 0)


def test_a_dial_without_numbers_is_turned_too():
    floor, images = wavelet_floor("97", coder=Rans()), [picture(32, 48)]
    found = at_bpp(floor, images, 2.5)
    assert bpp(floor, images, found.quality) == found.bpp == pytest.approx(2.5, rel=0.02)
    assert not found.clamped and at_bpp(floor, images, 100.0).clamped


def test_every_baseline_has_a_dial():
    for other in codecs().values():
        few, many, whole = dial_of(other)
        inside = sorted((few, many))
        assert all(inside[0] <= q <= inside[1] for q in other.qualities), other.name
        rising = np.sign(other.qualities[-1] - other.qualities[0])
        assert np.sign(many - few) == rising
        assert not whole or all(q == int(q) for q in other.qualities)
    with pytest.raises(ValueError, match="'wavenet-mv' has no dial"):
        dial_of(type("Named", (), {"name": "wavenet-mv"}))


@pytest.mark.parametrize("step", [3.0, 90.0])
def test_our_coder_writes_the_floors_files(step):
    floor, image = wavelet_floor("97", coder=Rans()), picture(33, 47)
    bits, decoded = wavelet_floor("97").estimate(image, step)
    data = floor.encode(image, step)
    np.testing.assert_array_equal(floor.decode(data), decoded)
    # A lane's state is 4 bytes, and lanes are few enough for these to be half a per cent; one part
    # of 2^16 of each table goes to what no table lacks.
    assert 0 <= 8 * len(data) - bits < 0.02 * bits + 8 * 8
    with pytest.raises(CodecError, match="cannot decode"):
        floor.decode(data[:-5])


def test_our_coder_takes_rows_with_rare_symbols():
    cumulatives = [np.array([0, 1, 65535, 65536]), np.array([0, 65536])]
    symbols, indexes = np.array([0, 1, 0, 2, 1]), np.array([0, 0, 1, 0, 0])
    data = Rans().encode(symbols, indexes, cumulatives)
    np.testing.assert_array_equal(Rans().decode(data, indexes, cumulatives), symbols)


def batch():
    """Two labelled pictures and a row of padding."""
    images = np.stack([*pictures().values(), np.zeros((32, 48, 3), np.uint8)])
    segments = np.zeros((3, 32, 48), np.uint8)
    segments[:, 8:20, 10:30] = 1
    return {"image": images, "segments": segments, "mask": np.array([True, True, False])}


@pytest.fixture(scope="module")
def labelled():
    return Labelled(reader(), [batch()], NAMES, None)


def test_heads_read_decoded_features_of_ours(labelled):
    found = labelled.ours(codec(), 1.0)
    truth, right, either = batch()["segments"][:2], np.zeros(2), np.zeros(2)
    heads = nnx.view(reader().heads, use_running_average=True)
    for image, mask in zip(pictures().values(), truth, strict=True):
        features = codec().decode(codec().encode(image, 1.0)).features
        said = np.asarray(segments_of(heads, features[None]))[0]
        for k in range(2):
            right[k] += ((said == k) & (mask == k)).sum()
            either[k] += ((said == k) | (mask == k)).sum()
    # a pixel whose two logits are equal but for rounding may fall either way
    assert found.iou == pytest.approx((right / either).mean(), abs=2e-3)
    assert found.bpp == pytest.approx(bpp(codec(), pictures().values(), 1.0))
    assert np.isnan(found.mean_ap)


def test_heads_read_what_others_decode_to(labelled):
    class Negative:
        """Decodes to the picture's negative, in as many bytes as are asked for."""

        name = "jpeg-negative"
        seen: list = []

        def encode(self, image, quality):
            self.seen.append(image)
            return bytes(int(quality)) + len(self.seen).to_bytes(4, "little")

        def decode(self, data):
            return 255 - self.seen[int.from_bytes(data[-4:], "little") - 1]

    model = nnx.view(reader(), use_running_average=True)
    images = 255 - np.stack(list(pictures().values()))
    features = features_of(model.codec, images.astype(np.float32) / 255)
    said = np.asarray(segments_of(model.heads, features))
    truth = batch()["segments"][:2]
    union = [
        ((said == k) & (truth == k)).sum() / ((said == k) | (truth == k)).sum() for k in (0, 1)
    ]
    found = labelled.other(Negative(), 8 * (50 + 4) / (32 * 48))
    assert found.iou == pytest.approx(float(np.mean(union)), abs=2e-3)
    assert found.bpp == pytest.approx(8 * 54 / (32 * 48))


def test_the_end_of_a_dial_is_told(labelled):
    found = labelled.other(JPEG_420, 1e-3)
    assert found.clamped == 2 and found.bpp == pytest.approx(bpp(JPEG_420, pictures().values(), 1))
    values = dict(bpp=0.3, psnr=30.0, ms_ssim=0.9, latency=1.0)
    ours = Line(codec="wavenet-mv λ=256", heads_bpp=0.05, clamped=0, **values)
    theirs = Line(codec="jpeg-420 at the bits of λ=256", heads_bpp=0.09, clamped=2, **values)
    assert theirs.cells[4:6] == ["0.0900", "2"]
    (said,) = remarks([ours, theirs, NotRun("dvc", "no checkpoint")])
    assert "its dial ends at 0.0900 bits a pixel" in said and "where ours take 0.0500" in said


def test_the_table_has_ours_and_theirs_at_equal_bits(labelled, tmp_path):
    lines = compared(
        codec(),
        pictures(),
        labelled=labelled,
        names=("jpeg-420", "jpeg-xl"),
        not_run=[NotRun("dvc", "no checkpoint")],
        echo=lambda _: None,
    )
    ours = [line for line in lines if isinstance(line, Line) and line.codec.startswith("wavenet")]
    theirs = [
        line for line in lines if isinstance(line, Line) and line.codec.startswith("jpeg-420")
    ]
    assert [line.codec for line in ours] == ["wavenet-mv λ=256", "wavenet-mv λ=1024"]
    assert ours[0].bpp == pytest.approx(bpp(codec(), pictures().values(), 0.0))
    for mine, other in zip(ours, theirs, strict=True):
        images = list(pictures().values())
        assert other.bpp == bpp(JPEG_420, images, at_bpp(JPEG_420, images, mine.bpp).quality)
        found = at_bpp(JPEG_420, images, mine.heads_bpp)
        assert (other.heads_bpp, other.clamped) == (pytest.approx(found.bpp), 0)
        assert 0 <= other.iou <= 1 and other.latency > 0
    table, text = write(tmp_path, lines, ["two pictures"])
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[-1]["Codec"] == "dvc" and rows[-1]["BPP"] == "not run: no checkpoint"
    assert float(rows[0]["BPP"]) == pytest.approx(ours[0].bpp, abs=1e-4)
    assert float(rows[0]["BPP heads"]) == pytest.approx(ours[0].heads_bpp, abs=1e-4)
    assert rows[0]["mAP"] == "–" and rows[0]["Clamped"] == "0"
    assert float(rows[0]["IoU"]) == pytest.approx(ours[0].iou, abs=1e-4)
    assert text.read_text().startswith("| Codec") and text.read_text().endswith("two pictures\n")


def test_the_command(tmp_path, capsys):
    folder, model = tmp_path / "pictures", tmp_path / "model.npz"
    folder.mkdir()
    for name, image in pictures().items():
        Image.fromarray(image).save(folder / f"{name}.png")
    codec().save(model)
    weights = tmp_path / "dvc.model"
    weights.write_bytes(b"weights")
    words = [f"--model={model}", f"--pictures={folder}", f"--out={tmp_path}", "--codecs", "webp"]
    assert compare_baselines.main([*words, f"--dvc-checkpoint={weights}"]) == 0
    said = capsys.readouterr()
    assert "| webp at the bits of λ=1024" in said.out and "2 pictures of pictures" in said.out
    assert f"model {codec().digest.hex()[:16]}" in said.out
    assert "not run: jaxvision has no DVC network" in said.out
    for wrong, message in (
        ([f"--pictures={folder}"], "give --model or --reader"),
        ([f"--model={model}", f"--pictures={tmp_path / 'no'}"], "no such folder"),
        ([*words, "--dvc-checkpoint=no"], "no such file"),
    ):
        assert compare_baselines.main(wrong) == 1
        assert message in capsys.readouterr().err
