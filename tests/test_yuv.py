"""Raw video: read as written, and files that do not fit what is said of them."""

import numpy as np
import pytest

from jaxvision.data import yuv


@pytest.mark.parametrize("depth, dtype", [(8, "u1"), (10, "<u2")])
@pytest.mark.parametrize("chroma, small", [("420", (3, 4)), ("422", (5, 4)), ("444", (5, 7))])
def test_frames_are_read_as_written(tmp_path, depth, dtype, chroma, small):
    rng = np.random.default_rng(0)
    shapes = [(5, 7), small, small]
    clip = [[rng.integers(0, 1 << depth, s).astype(dtype) for s in shapes] for _ in range(3)]
    path = tmp_path / "a.yuv"
    path.write_bytes(b"".join(plane.tobytes() for planes in clip for plane in planes))
    found = list(yuv.frames(path, 7, 5, depth, chroma))
    assert len(found) == 3
    for wanted, planes in zip(clip, found, strict=True):
        for a, b in zip(wanted, planes, strict=True):
            np.testing.assert_array_equal(a, b)
            assert b.dtype == np.dtype(dtype)


def test_files_that_do_not_fit_are_refused_at_once(tmp_path):
    path = tmp_path / "a.yuv"
    path.write_bytes(bytes(100))
    for arguments, message in (
        ((7, 5, 8), "100 bytes are no whole number of frames of 7×5 at 8 bits, 420, which .* 59"),
        ((7, 5, 10), "which have 118"),
        ((0, 5, 8), "frames of 0×5 have no pixel"),
        ((7, 5, 12), "depth=12 must be 8 or 10"),
        ((7, 5, 8, "411"), "chroma '411' is none of 420, 422, 444"),
    ):
        with pytest.raises(ValueError, match="a.yuv: .*" + message):
            yuv.frames(path, *arguments)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="0 bytes are no whole"):
        yuv.frames(path, 7, 5, 8)
    with pytest.raises(FileNotFoundError):
        yuv.frames(tmp_path / "b.yuv", 7, 5, 8)


def test_values_beyond_the_depth_are_refused(tmp_path):
    """As of 10 bits in the upper ones, or with the high byte first."""
    planes = np.full(2 * 3, 1023, "<u2")
    path = tmp_path / "a.yuv"
    path.write_bytes(planes.tobytes() + planes.astype(">u2").tobytes())
    clip = yuv.frames(path, 2, 2, 10)
    assert next(clip)[0].tolist() == [[1023, 1023], [1023, 1023]]
    with pytest.raises(ValueError, match="frame 1 holds 65283, which 10 bits do not"):
        next(clip)
