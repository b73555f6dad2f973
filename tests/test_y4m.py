"""Y4M: what is read is what was written, colours and ranges, and what is refused."""

import io
import tracemalloc

import numpy as np
import pytest

from jaxvision.data import y4m


def header(words="W7 H5 F30000:1001 Ip C420jpeg"):
    return y4m.parsed(b"YUV4MPEG2 " + words.encode() + b"\n")


def planes(head, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, s, dtype=np.uint8) for s in head.shapes)


@pytest.mark.parametrize(
    "chroma, small", [("420mpeg2", (3, 4)), ("422", (5, 4)), ("444", (5, 7)), (None, (3, 4))]
)
def test_frames_are_read_as_written(tmp_path, chroma, small):
    head = header("W7 H5 F30:1" + (f" C{chroma}" if chroma else ""))
    assert head.shapes == [(5, 7), small, small]
    frames = [planes(head, k) for k in range(3)]
    with (tmp_path / "a.y4m").open("wb") as file:
        assert y4m.write(file, head, frames) == 3
    reader = y4m.Reader(tmp_path / "a.y4m")
    assert reader.header == head and reader.header.rate == (30, 1)
    for _ in range(2):
        again = list(reader)
        assert len(again) == 3
        for a, b in zip(frames, again, strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)


def test_colours_are_those_of_the_standards():
    """BT.601 below 720 lines, BT.709 from there; black is 16 unless the range is full."""
    for words, white, red in (
        ("W2 H2 C444", (235, 128, 128), (81, 90, 240)),
        ("W2 H720 C444", (235, 128, 128), (63, 102, 240)),
        ("W2 H2 C444 XCOLORRANGE=FULL", (255, 128, 128), (76, 85, 255)),
    ):
        head = header(words)
        for colour, wanted in (((255, 255, 255), white), ((255, 0, 0), red)):
            image = np.full((head.height, 2, 3), colour, np.uint8)
            found = y4m.from_rgb(image, head)
            assert tuple(int(x[0, 0]) for x in found) == wanted
            assert abs(y4m.to_rgb(found, head).astype(int) - image).max() <= 2


def test_conversions_undo_each_other():
    """To rounding: half a step in RGB and in Y'CbCr, and chroma that varies slowly."""
    y, x = np.mgrid[:48, :64]
    image = np.stack([80 + x, 60 + 2 * y, 200 - x], -1).astype(np.uint8)
    for chroma in y4m.CHROMA:
        head = header(f"W64 H48 C{chroma}")
        back = y4m.to_rgb(y4m.from_rgb(image, head), head).astype(int)
        assert abs(back - image)[2:-2, 2:-2].max() <= 3
    first, second = planes(head), planes(head, 1)
    luma, cb, cr, all_of_it = y4m.psnr(first, second)
    assert all_of_it == pytest.approx((6 * luma + cb + cr) / 8)
    assert luma == pytest.approx(
        10 * np.log10(255**2 / np.mean((first[0].astype(float) - second[0]) ** 2))
    )


@pytest.mark.parametrize(
    "data, message",
    [
        (b"RIFF....AVI \n", "begins with 'RIFF....AVI'"),
        (b"", "no Y4M video"),
        (b"YUV4MPEG2 W7", "no Y4M video"),
        (b"YUV4MPEG2 H5\n", "width '' is not from 1"),
        (b"YUV4MPEG2 W7 H99999999999999\n", "height '99999999999999' is not"),
        (b"YUV4MPEG2 W7 H5 C420p10\n", "chroma '420p10' is none of"),
        (b"YUV4MPEG2 W7 H5 It\n", "interlaced"),
        (b"YUV4MPEG2 W7 H5 F0:1\n", "F0:1 is no ratio"),
        (b"YUV4MPEG2 W7 H5 F30\n", "F30 is no ratio"),
        (b"YUV4MPEG2 W7 H5\nFRAME\n" + bytes(58), "frame 0 is cut off"),
        (b"YUV4MPEG2 W0000070000 H5\n", "width '0000070000' is not"),
        (b"YUV4MPEG2 W7 H5 F30:0\n", "F30:0 is no ratio"),
        (b"YUV4MPEG2 W7 H5 F1:" + b"9" * 99 + b"\n", "is no ratio"),
        (b"YUV4MPEG2 W7 H5\nFRAME\n" + bytes(59) + b"FROM\n", "frame 1 begins with b'FROM"),
    ],
)
def test_other_files_are_refused(tmp_path, data, message):
    path = tmp_path / "a.y4m"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a.y4m.*" + message):
        list(y4m.Reader(path))


def test_zeros_before_a_size_are_no_matter():
    assert header("W0000000000007 H05").shapes == header().shapes


def test_an_unknown_rate_is_kept():
    assert header("W7 H5 F0:0").rate == (0, 0)


def test_no_memory_is_taken_for_a_frame_that_is_not_there(tmp_path):
    """4 GiB of luminance would be asked for at once."""
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W65536 H65536 C444\nFRAME\n" + bytes(99))
    tracemalloc.start()
    with pytest.raises(ValueError, match="frame 0 is cut off"):
        list(y4m.Reader(tmp_path / "a.y4m"))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_frames_of_another_size_are_not_written():
    head = header()
    with pytest.raises(ValueError, match="frame 0 has planes"):
        y4m.write(io.BytesIO(), head, [planes(header("W8 H5"))])
    with pytest.raises(ValueError, match="a frame of"):
        y4m.from_rgb(np.zeros((4, 4, 3), np.uint8), head)


def deep(words="W7 H5 F25:1 C420p10 XYSCSS=420P10"):
    return y4m.parsed(b"YUV4MPEG2 " + words.encode() + b"\n", depths=(8, 10))


def test_ten_bits_are_read_as_written(tmp_path):
    head = deep()
    assert (head.depth, head.chroma, header().depth) == (10, "420", 8)
    rng = np.random.default_rng(0)
    frames = [tuple(rng.integers(0, 1024, s, dtype=np.uint16) for s in head.shapes)] * 2
    path = tmp_path / "a.y4m"
    with path.open("wb") as file:
        y4m.write(file, head, frames)
    assert path.read_bytes().endswith(frames[0][2].astype("<u2").tobytes())
    reader = y4m.Reader(path, depths=(8, 10))
    again = list(reader)
    assert reader.header == head and len(again) == 2
    for x, y in zip(frames[1], again[1], strict=True):
        np.testing.assert_array_equal(x, y)
        assert y.dtype == np.uint16
    with pytest.raises(ValueError, match="chroma '420p10' is none of 420, .*, 8 bits"):
        y4m.Reader(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="a.y4m: frame 1 is cut off"):
        list(reader)
    path.write_bytes(head.line + b"\nFRAME\n" + b"\xff\xff" * 59)
    with pytest.raises(ValueError, match="a.y4m: frame 0 holds 65535, which 10 bits do not"):
        list(reader)


def test_ten_bits_are_colours_of_a_quarter_step():
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for full in ("", " XCOLORRANGE=FULL"):
        head = deep("W8 H8 C420p10" + full)
        planes = y4m.from_rgb(image, head)
        assert planes[0].dtype == np.uint16
        near = y4m.from_rgb(image, deep("W8 H8 C420" + full))
        for x, y in zip(planes, near, strict=True):
            assert abs(x / 4 - y).max() <= 0.625  # half a step of each
        assert abs(y4m.to_rgb(planes, head).astype(int) - image).max() <= 1
    luma = y4m.psnr(planes, tuple(plane + 1 for plane in planes), depth=10)[0]
    assert luma == pytest.approx(20 * np.log10(1023))


def test_planes_of_another_depth_are_not_written():
    wide = tuple(np.zeros(s, np.uint16) for s in header().shapes)
    for head, planes, message in (
        (header(), wide, "frame 0 is uint16; 8 bits are uint8"),
        (deep(), tuple(p.astype(np.uint8) for p in wide), "is uint8; 10 bits are uint16"),
        (deep(), tuple(p + 1024 for p in wide), "frame 0 holds 1024, which 10 bits do not"),
    ):
        with pytest.raises(ValueError, match=message):
            y4m.write(io.BytesIO(), head, [planes])
