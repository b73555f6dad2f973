"""Clips to label: pixels that are the same everywhere, and files that are read or refused."""

import hashlib

import numpy as np
import pytest

from jaxvision.cnn_av1 import clips
from jaxvision.cnn_av1.clips import deepened, photo_clip, photo_names, read_clip
from jaxvision.data import y4m


def total(frames):
    data = hashlib.sha256()
    for planes in frames:
        for plane in planes:
            data.update(plane.astype("<u2").tobytes())
    return data.hexdigest()


SUMS = {
    "22971288ed2089a2c2b7ac01d4c40b6ad189866984e5ae0a872cab4515ed53a8": dict(photograph="coffee"),
    "ba42d65ea8310e4b5efb135e25a39bf7993f141a45efa296003350c96f8f77c4": dict(
        photograph="chelsea", variant=1
    ),
    "fefc7a90c89ca06856e3ba70f295b8954e7a21d979ee95ee80a4c507732d5fff": dict(
        photograph="camera.png", width=97, height=65, frames=4, variant=3
    ),
}


@pytest.mark.parametrize(("wanted", "arguments"), SUMS.items())
def test_a_clip_is_the_same_to_the_bit(wanted, arguments):
    assert total(photo_clip(**arguments)) == wanted


@pytest.mark.parametrize("name", sorted(photo_names()))
def test_every_photograph_moves_and_has_ten_bits(name):
    frames = photo_clip(name, frames=2)
    for y, u, v in frames:
        assert (y.shape, u.shape, v.shape) == ((288, 352), (144, 176), (144, 176))
        assert y.dtype == u.dtype == v.dtype == np.uint16
        assert y.min() >= 64 and y.max() <= 940 and min(u.min(), v.min()) >= 64
        assert np.mean(y % 4 != 0) > 0.5  # 8 bits shifted by two would have none
    first, second = (y.astype(int) for y, _, _ in frames)
    blocks = abs(first - second).reshape(18, 16, 22, 16).mean((1, 3))
    assert np.mean(blocks > 2) > 0.5  # hubble's sky is black, but for its stars


def image(monkeypatch, pixels):
    monkeypatch.setattr(clips, "read_image", lambda path: pixels)


@pytest.mark.parametrize(
    ("colour", "wanted"),
    [
        ((255, 255, 255), (940, 512, 512)),
        ((0, 0, 0), (64, 512, 512)),
        ((255, 0, 0), (250, 409, 960)),  # 64 + 876·0.2126; 512 − 896·0.2126/1.8556; 512 + 448
        ((0, 0, 255), (127, 960, 471)),
    ],
)
def test_colours_are_those_of_bt709(monkeypatch, colour, wanted):
    image(monkeypatch, np.full((90, 70, 3), colour, np.uint8))
    for planes in photo_clip("coffee", width=33, height=35, frames=3, variant=2):
        assert [np.unique(plane).tolist() for plane in planes] == [[value] for value in wanted]


@pytest.mark.parametrize("columns", [70, 200, 256])  # magnified, reduced by 2 and by 3
def test_positions_are_those_of_a_ramp(monkeypatch, columns):
    """A ramp sampled bilinearly is a ramp: with the middle in the middle, and the right steps."""
    image(monkeypatch, np.tile(np.arange(columns, dtype=np.uint8)[None, :, None], (300, 1, 3)))
    y = photo_clip("coffee", width=64, height=32, frames=1)[0][0].astype(float)
    step = max(min(columns / 64, 300 / 32) * 15 / 16, 0.625 * 1.25)
    places = columns / 2 + (np.arange(64) + 0.5 - 32) * step - 0.5
    inside = (places > 4) & (places < columns - 5)
    values = np.where(inside, places, 0)
    # halves of an output value, and 1/256 of a pixel that the weight leaves out, both ways
    tolerance = 0.5 + 876 / 255 * 3 / 256
    assert np.abs(y - (64 + 876 * values / 255))[:, inside].max() < tolerance
    assert (y == y[0]).all()


def test_small_photographs_are_mirrored():
    frames = photo_clip("coins", width=1200, height=900, frames=2)
    assert frames[0][0].shape == (900, 1200)
    row = frames[0][0].astype(int)[450]
    width = round(384 / (0.625 * 1.25))  # the photograph, in pixels of the clip
    left = 600 - width // 2
    assert abs(row[left - 40 : left][::-1] - row[left : left + 40]).mean() < 20
    assert abs(row[left : left + 40] - row[left + 40 : left + 80]).mean() > 20


def test_long_clips_stay_sharp():
    frames = photo_clip("coffee", width=64, height=48, frames=40)
    assert min(y.std() for y, _, _ in frames) > 20


def test_variants_differ():
    sums = {total(photo_clip("rocket", width=64, height=48, frames=1, variant=k)) for k in range(8)}
    assert len(sums) == 8


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(photograph="lena"), "'lena' is none of astronaut, brick"),
        (dict(photograph="coffee", width=8), "width=8"),
        (dict(photograph="coffee", frames=0), "frames=0"),
        (dict(photograph="coffee", variant=-1), "variant=-1"),
    ],
)
def test_what_is_no_clip_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        photo_clip(**arguments)


def planes(rng, height, width, depth):
    dtype = np.uint8 if depth == 8 else np.uint16
    half = (-(-height // 2), -(-width // 2))
    return tuple(
        rng.integers(0, 1 << depth, shape).astype(dtype) for shape in ((height, width), half, half)
    )


@pytest.mark.parametrize("depth", [8, 10])
def test_files_are_read_as_written(tmp_path, depth):
    rng = np.random.default_rng(0)
    frames = [planes(rng, 35, 51, depth) for _ in range(2)]
    kind = "420jpeg" if depth == 8 else "420p10 XYSCSS=420P10"
    with (tmp_path / "a.y4m").open("wb") as file:
        header = y4m.parsed(f"YUV4MPEG2 W51 H35 F30:1 C{kind}\n".encode(), depths=(8, 10))
        y4m.write(file, header, frames)
    raw = b"".join(plane.tobytes() for frame in frames for plane in frame)
    (tmp_path / "a.yuv").write_bytes(raw)
    for clip in (
        read_clip(tmp_path / "a.y4m"),
        read_clip(tmp_path / "a.yuv", size=(51, 35), depth=depth),
    ):
        assert (clip.width, clip.height, clip.depth) == (51, 35, depth)
        for _ in range(2):  # each pass begins anew
            found = list(clip.frames)
            assert len(found) == 2
            for a, b in zip(found, frames, strict=True):
                for x, wanted in zip(a, b, strict=True):
                    np.testing.assert_array_equal(x, wanted)


def test_eight_bits_become_ten():
    frame = planes(np.random.default_rng(0), 8, 8, 8)
    for plane, wanted in zip(deepened(frame), frame, strict=True):
        assert plane.dtype == np.uint16
        np.testing.assert_array_equal(plane, wanted.astype(int) * 4)


@pytest.mark.parametrize("chroma", ["422", "444", "422p10", "mono"])
def test_other_chroma_is_refused_with_the_mend(tmp_path, chroma):
    path = tmp_path / "b.y4m"
    path.write_bytes(f"YUV4MPEG2 W4 H4 F30:1 C{chroma}\nFRAME\n".encode() + bytes(48))
    with pytest.raises(ValueError, match=r"b\.y4m: chroma .*ffmpeg -i b\.y4m -pix_fmt yuv420p10le"):
        read_clip(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "c.yuv"
    path.write_bytes(bytes(100))
    with pytest.raises(ValueError, match="give --size WxH and --depth"):
        read_clip(path)
    with pytest.raises(ValueError, match="100 bytes are no whole number of frames"):
        list(read_clip(path, size=(16, 16), depth=10).frames)
    with pytest.raises(ValueError, match=r"clips are \.y4m or \.yuv: ffmpeg -i d\.mp4 d\.y4m"):
        read_clip(tmp_path / "d.mp4")
    path = tmp_path / "e.y4m"
    path.write_bytes(b"YUV4MPEG2 W4 H4 F30:1 C420jpeg\nFRAME\n" + bytes(23))
    with pytest.raises(ValueError, match="frame 0 is cut off"):
        list(read_clip(path).frames)
