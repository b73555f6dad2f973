"""Tiles, clips and damaged files: what a file of any kind holds, and what it must not do."""

import dataclasses
import errno
import functools
import io
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxvision.data import y4m
from jaxvision.data.photographs import photographs
from jaxvision.entropy.errors import BitstreamError
from jaxvision.errors import one_line
from jaxvision.stage import path_name
from jaxvision.wavenet_mv import __main__ as command
from jaxvision.wavenet_mv import clip, container, layout, lossless_file, tiles
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.wavelet import WaveletConfig
from jaxvision.written import whole_file

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import corruptions  # noqa: E402


@functools.cache
def codec():
    """One whose networks are not zero: they see as far as they can."""
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(levels=1, width=4),
        compressor=CompressorConfig(latents=12, deeper=1, hyper=4, width=4, sigma="channel"),
    )
    graph, state = nnx.split(nnx.eval_shape(lambda: WavenetMV(cfg, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)

    def drawn(path, x):  # by NumPy: JAX would compile a program for each parameter's shape
        name = path_name(path)
        if name == "compressor/steps":
            return np.full(x.shape, -3, np.float32)
        if name.endswith("channel_index"):
            return np.full(x.shape, 2.5, np.float32)
        return (rng.normal(size=x.shape) * 0.4 / np.sqrt(max(np.prod(x.shape[:-1]), 8))).astype(
            "f4"
        )

    nnx.replace_by_pure_dict(
        state, jax.tree_util.tree_map_with_path(drawn, nnx.to_pure_dict(state))
    )
    return Codec(nnx.merge(graph, state))


def picture(height, width):
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + k) + np.cos(y / 13 - k) for k in range(3)], -1)
    noise = np.random.default_rng(0).normal(0, 5, waves.shape)
    return np.clip(127 + 50 * waves + noise, 0, 255).astype(np.uint8)


@functools.cache
def tiled():
    return codec().encode(picture(129, 190), 1.0, tile=64)


def test_tiles_leave_no_seams():
    """Windows show the networks all they see: but for rounding, the whole picture's own numbers."""
    image = picture(129, 190)
    header, streams = container.read(tiled())
    assert header.tile == 64 and len(streams) == 18
    shown = codec().decode(tiled())
    np.testing.assert_array_equal(shown.image, codec().reconstruct(image, 1.0, tile=64))
    whole = codec().decode(codec().encode(image, 1.0, tile=0))
    for a, b in zip(shown.latents, whole.latents, strict=True):
        assert np.mean(a != b) < 1e-3  # a sum that lies on the edge between two whole numbers
    differs = abs(shown.image.astype(int) - whole.image)
    assert differs.max() <= 1 and np.mean(differs != 0) < 1e-3


def test_no_network_sees_more_than_a_window(monkeypatch):
    """But for arithmetic on each number alone: so a tile bounds what networks take of memory."""
    seen = []
    for name in ("analysis", "symbols", "rows", "picture"):
        own = getattr(codec().programs, name)

        def noted(first, own=own):
            arrays = first if isinstance(first, list) else [first[None]]
            seen.append(max(x.shape[1] * x.shape[2] for x in arrays))
            return own(first)

        monkeypatch.setattr(codec().programs, name, noted)
    image = picture(512, 384)
    codec().decode(codec().encode(image, 1.0, tile=64))
    window = 64 + 2 * layout.margin(codec().model)
    assert seen and max(seen) <= window**2 < 512 * 384


def test_pieces_too_large_are_refused_at_once():
    image = np.zeros((2100, 2000, 3), np.uint8)
    for encode in (functools.partial(codec().encode, quality=1.0), lossless_file.encode):
        with pytest.raises(ValueError, match="tile=0: 2100×2000 pixels are more than"):
            encode(image, tile=0)


def test_a_window_without_a_margin_would_show(monkeypatch):
    monkeypatch.setattr(layout, "margin", lambda model: 0)
    seams = codec().reconstruct(picture(129, 190), 1.0, tile=64).astype(int)
    monkeypatch.undo()
    differs = abs(seams - codec().reconstruct(picture(129, 190), 1.0, tile=0))
    near = np.zeros(differs.shape[:2], bool)
    for edge in (64, 128):
        near[edge - 8 : edge + 8] = near[:, edge - 8 : edge + 8] = True
    assert differs[near].mean() > 20 * differs[~near].mean()


def test_spans_are_windows_of_one_size():
    found = tiles.spans(1000, 256, margin=64)
    assert [(s.begin, s.end) for s in found] == [(0, 256), (256, 512), (512, 768), (768, 1000)]
    assert {s.last - s.first for s in found} == {384}
    for s in found:
        assert 0 <= s.first <= s.begin < s.end <= s.last <= 1000
        assert s.first == 0 or s.begin - s.first >= 64
        assert s.last == 1000 or s.last - s.end >= 64
        assert np.arange(s.first, s.last)[s.inside()].tolist() == list(range(s.begin, s.end))
    assert tiles.spans(40, 256, margin=64) == tiles.spans(40, 0)
    assert [tiles.chosen(None, *size) for size in ((1000, 2000), (2000, 2000))] == [0, 1024]
    for tile in (-64, 32, 65):
        with pytest.raises(ValueError, match=f"tile={tile} must be 0, or a multiple of 4 from 64"):
            codec().encode(picture(8, 8), 1.0, tile=tile)


def test_headers_that_ask_for_too_much_are_refused_at_once():
    header = container.read(tiled())[0]
    lossless = container.read(lossless_file.encode(picture(9, 9)))[0]
    start = time.perf_counter()
    for base, change, message in (
        (header, dict(height=1 << 16, width=1 << 16), "cannot hold 65536×65536 pixels"),
        (header, dict(height=1 << 10, width=1 << 10), "18 substreams, not 2 of 256 tiles"),
        (header, dict(tile=63), "tile=63 must be 0"),
        (header, dict(quality=7.0), "quality 7.0 is above"),
        (lossless, dict(height=1 << 16, width=1 << 16, tile=64), "cannot hold 65536×65536"),
        (lossless, dict(height=600, tile=96), "6 substreams, not 6 of 7 tiles"),
    ):
        forged = dataclasses.replace(base, **change)
        data = container.write(forged, [b"x"] * len(base.lengths))
        decode = lossless_file.decode if base.lossless else codec().decode
        with pytest.raises(BitstreamError, match=message):
            decode(data)
    with pytest.raises(BitstreamError, match="a tile of 4096×4096 has more than"):
        dataclasses.replace(header, height=4096, width=4096, tile=0)
    with pytest.raises(BitstreamError, match="flags 3 ask for"):
        dataclasses.replace(header, flags=3)
    assert time.perf_counter() - start < 1


def test_checksums_are_compared():
    """The coder's own check lets about one flip in 7,000 pass."""
    for data, decode in (
        (tiled(), codec().decode),
        (lossless_file.encode(picture(9, 9)), lossless_file.decode),
    ):
        header, streams = container.read(data)
        sums = (*header.checksums[:-1], header.checksums[-1] ^ 1)
        with pytest.raises(BitstreamError, match=r"(level|substream) \d+ is damaged"):
            decode(container.write(dataclasses.replace(header, checksums=sums), streams))
    head = y4m.parsed(b"YUV4MPEG2 W190 H129 F25:1 C420jpeg")
    data = clip.write(head, [tiled(), tiled()])
    with pytest.raises(BitstreamError, match="frame 1 is damaged"):
        clip.read(data[:-1] + bytes([data[-1] ^ 1]))


def test_lossless_files_refuse_what_they_do_not_hold(tmp_path, capsys):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (8, 9, 4), np.uint8)).save(tmp_path / "alpha.png")
    cv2.imwrite(str(tmp_path / "deep.png"), rng.integers(0, 65535, (8, 9, 3), np.uint16))
    Image.fromarray(picture(8, 9)).save(tmp_path / "plain.png")
    file, features = tmp_path / "a.wvmv", tmp_path / "f.npz"
    for name, message in (("alpha", "has an alpha channel"), ("deep", "is uint16")):
        assert command.main(["encode", "--lossless", str(tmp_path / f"{name}.png"), str(file)]) == 1
        assert message in capsys.readouterr().err and not file.exists()
    plain = str(tmp_path / "plain.png")
    assert command.main(["encode", "--lossless", "--coder=tfc", plain, str(file)]) == 1
    assert "--coder=tfc is for files with loss" in capsys.readouterr().err
    assert command.main(["encode", "--lossless", plain, str(file)]) == 0
    webp = tmp_path / "b.webp"
    assert command.main(["decode", str(file), str(webp), f"--features={features}"]) == 1
    assert "no features" in capsys.readouterr().err and not webp.exists()
    assert command.main(["decode", str(file), str(webp)]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(webp)), picture(8, 9))
    assert command.main(["verify", str(file), f"--against={tmp_path / 'none.png'}"]) == 1
    assert "none.png: there is no such file" in capsys.readouterr().err


def test_kinds_of_files_are_told_apart():
    with pytest.raises(BitstreamError, match="the file is lossless"):
        codec().decode(lossless_file.encode(picture(9, 9)))
    with pytest.raises(BitstreamError, match="the file has loss"):
        lossless_file.decode(tiled())


def test_clips_are_coded_frame_by_frame(tmp_path, capsys):
    head = y4m.parsed(b"YUV4MPEG2 W30 H22 F25:1 C420jpeg")
    frames = [y4m.from_rgb(picture(22, 30 + k)[:, k:], head) for k in range(3)]
    with (tmp_path / "a.y4m").open("wb") as file:
        y4m.write(file, head, frames)
    codec().save(tmp_path / "m.npz")
    model = f"--model={tmp_path / 'm.npz'}"
    a, file, b, png = (str(tmp_path / n) for n in ("a.y4m", "a.wvmv", "b.y4m", "b.png"))

    assert command.main(["encode", model, a, file, "--quality=2"]) == 0
    assert command.main(["decode", model, file, b]) == 0
    assert command.main(["info", file, "--bits"]) == 0
    assert command.main(["verify", model, file, f"--against={a}"]) == 0
    said = capsys.readouterr().out
    assert "30x22, 3 frames, 25 a second, 420" in said and "frame 2" in said
    assert "3 frames, PSNR-Y" in said and "6:1:1" in said
    data = Path(file).read_bytes()
    assert command.main(["decode", model, file, png, "--frame=1"]) == 0
    for i, planes in enumerate(y4m.Reader(Path(b))):
        wanted = y4m.from_rgb(codec().decode(clip.frame(data, i)).image, head)
        for x, y in zip(wanted, planes, strict=True):
            np.testing.assert_array_equal(x, y)
    assert i == 2
    (tmp_path / "cut.wvmv").write_bytes(data[:-1])
    (tmp_path / "one.wvmv").write_bytes(clip.frame(data, 0))
    for words, message in (
        (["decode", model, file, png], "is a clip"),
        (["decode", model, file, png, "--frame=3"], "frame=3 must be from 0 to 2"),
        (["decode", model, str(tmp_path / "one.wvmv"), png, "--frame=0"], "is no clip"),
        (["decode", model, str(tmp_path / "cut.wvmv"), b], "2 of 3 frames are whole"),
        (["decode", model, file, b, "--levels=1"], "are for pictures"),
        (["encode", "--lossless", a, file], "clips are coded as RGB"),
    ):
        assert command.main(words) == 1
        assert message in capsys.readouterr().err


def test_damage_of_any_kind_is_refused():
    """A sample of benchmarks/corruptions.py, for the two kinds of files that need no model more."""
    files = {"tiles 0": tiled(), "lossless 0": lossless_file.encode(picture(20, 30))}
    head = y4m.parsed(b"YUV4MPEG2 W190 H129 F25:1 C420jpeg")
    files["clip 0"] = clip.write(head, [tiled(), alone := codec().encode(picture(129, 190), 0.0)])
    good = corruptions.right(files, codec())
    assert (
        corruptions.tried(lambda data: corruptions.shown(data, codec()), alone, "", good) == "right"
    )
    seen = set()
    for kind, way, data in corruptions.trials(files, 240, 0):
        decode = functools.partial(corruptions.shown, codec=codec())
        outcome = corruptions.tried(decode, data, way, good)
        assert outcome in ("refused", "right") or (outcome, way) == ("forged", "forged"), (
            kind,
            way,
        )
        seen.add(way)
    assert seen == set(corruptions.WAYS)


def test_the_demo_model_comes_along_and_beats_jpeg(tmp_path, capsys):
    """Of a photograph that it was not trained on, at no more bits: at least 1.5 dB above JPEG."""
    image = np.asarray(Image.open(photographs()["val"][0]))[128:320, 128:320]
    Image.fromarray(image).save(tmp_path / "a.png")
    a, file, b = (str(tmp_path / n) for n in ("a.png", "a.wvmv", "b.png"))
    assert command.main(["encode", "--model=demo", a, file]) == 0
    assert command.main(["decode", "--model=demo", file, b]) == 0
    ours, size = np.asarray(Image.open(b)), Path(file).stat().st_size
    jpeg = io.BytesIO()
    for quality in range(90, 1, -1):
        jpeg = io.BytesIO()
        Image.fromarray(image).save(jpeg, "JPEG", quality=quality, optimize=True)
        if len(jpeg.getvalue()) <= size:
            break
    theirs = np.asarray(Image.open(jpeg))
    psnr = [10 * np.log10(255**2 / np.mean((x.astype(float) - image) ** 2)) for x in (ours, theirs)]
    assert len(jpeg.getvalue()) <= size and psnr[0] > psnr[1] + 1.5
    assert command.main(["encode", a, file]) == 1
    assert "--model=demo is the one that comes along" in capsys.readouterr().err


def test_files_are_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), whole_file(tmp_path / "a") as part:
        part.write_bytes(b"half")
        raise KeyError
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError) as full, whole_file(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert one_line(full.value, {}) == f"{tmp_path / 'a'}: No space left on device; make room"
    for text in (b"one", b"two"):
        with whole_file(tmp_path / "a") as part:
            part.write_bytes(text)
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and part.name != "a"
    assert (tmp_path / "a").read_bytes() == b"two"
