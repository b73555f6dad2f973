"""What the commands refuse, and how they say it: one line that names the file and the reason."""

import dataclasses
import time

import numpy as np
import pytest
from PIL import Image
from test_wavenet_files import codec, picture

from jaxvision.data import y4m
from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv import __main__ as command
from jaxvision.wavenet_mv import clip, commands, container, lossless_file, tiles


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A command in a folder of its own: its status and what it prints, errors last."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        try:
            status = command.main(list(words))
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def written(name, mode="RGB", *, count=1, **options):
    """A file of `count` pictures of noise."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(0).integers(0, 256, (count, 8, 9, channels), np.uint8)
    first, *rest = (Image.frombytes(mode, (9, 8), x.tobytes()) for x in noise)
    more = dict(save_all=True, append_images=rest) if rest else {}
    first.save(name, **more, **options)
    return name


@pytest.mark.parametrize(
    "name, mode, count, reason",
    [
        ("a.tga", "RGBA", 1, "has an alpha channel"),
        ("a.tif", "LA", 1, "has an alpha channel"),
        ("a.webp", "RGBA", 1, "has an alpha channel"),
        ("a.jpg", "CMYK", 1, "is CMYK"),
        ("a.tif", "CMYK", 1, "is CMYK"),
        ("a.tif", "RGB", 3, "has 3 pages or frames"),
        ("a.gif", "L", 2, "has 2 pages or frames"),
        ("a.webp", "RGB", 2, "has 2 pages or frames"),
    ],
)
def test_lossless_files_refuse_what_would_be_lost(run, name, mode, count, reason):
    written(name, mode, count=count)
    status, said = run("encode", "--lossless", name, "a.wvmv")
    assert status == 1 and f"error: {name} {reason}" in said


def test_a_colour_that_stands_for_nothing_is_alpha(run):
    written("a.png", transparency=(1, 2, 3))
    assert "a.png has an alpha channel" in run("encode", "--lossless", "a.png", "a.wvmv")[1]


@pytest.mark.parametrize(
    "name, mode",
    [("a.png", "L"), ("a.png", "P"), ("a.tif", "RGB"), ("a.jpg", "RGB"), ("a.gif", "L")],
)
def test_lossless_files_hold_all_of_other_pictures(run, name, mode):
    written(name, mode)
    assert run("encode", "--lossless", name, "a.wvmv")[0] == 0
    assert run("verify", "a.wvmv", f"--against={name}") == (0, "a.wvmv: whole, identical\n")


def test_a_model_is_not_ignored(run):
    written("a.png")
    status, said = run("encode", "--lossless", "--model=none.npz", "a.png", "a.wvmv")
    assert status == 1 and "--model=none.npz: lossless files are coded without a model" in said


def made_clip(count, size="W30 H22"):
    head = y4m.parsed(f"YUV4MPEG2 {size} F0:0 C420jpeg".encode())
    frames = [picture(head.height, head.width + k)[:, k:] for k in range(count)]
    with open(f"{count}.y4m", "wb") as file:
        y4m.write(file, head, (y4m.from_rgb(x, head) for x in frames))
    return head, frames


def test_verify_goes_on_after_any_file(run):
    head, frames = made_clip(2)
    made_clip(3)
    codec().save("m.npz")
    for name, image in (("b.wvmv", picture(9, 9)), ("z.wvmv", picture(8, 9))):
        with open(name, "wb") as file:
            file.write(lossless_file.encode(image))
    with open("c.wvmv", "wb") as file:
        file.write(clip.write(head, [codec().encode(frames[0], 1.0)] * 2))
    Image.fromarray(picture(9, 9)).save("b.png")
    for words, results in {
        ("c.wvmv", "--against=3.y4m"): ["3.y4m has 3 frames, c.wvmv 2"],
        ("z.wvmv", "none.wvmv", "b.wvmv", "--against=b.png"): [
            "b.png is 9x9, z.wvmv 9x8",
            "No such file or directory",
            "whole, identical",
        ],
        ("b.wvmv", "c.wvmv", "--against=2.y4m"): ["2.y4m: not an image", "whole, 2 frames, PSNR-Y"],
        ("c.wvmv", "b.wvmv", "--against=b.png"): ["b.png: begins with", "whole, identical"],
    }.items():
        files = [word for word in words if word.endswith(".wvmv")]
        status, said = run("verify", "--model=m.npz", *words)
        lines, bad = said.splitlines(), sum("whole" not in result for result in results)
        for line, name, result in zip(lines, files, results, strict=True):
            assert line.startswith(f"{name}: ") and result in line
        assert status == f"error: {bad} of {len(files)} files did not pass"
    assert "rate unknown, 420" in run("info", "c.wvmv")[1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 9 GiB")])
def test_memory_that_lacks_is_told_in_a_line(run, monkeypatch, error):
    written("a.png")
    assert run("encode", "--lossless", "a.png", "a.wvmv")[0] == 0

    def fails(*words, **options):
        raise error

    monkeypatch.setattr(lossless_file, "decode", fails)
    monkeypatch.setattr(lossless_file, "encode", fails)
    why = "it takes more memory than there is"
    for words, name in (
        (("decode", "a.wvmv", "b.png"), "a.wvmv"),
        (("encode", "--lossless", "a.png", "b.wvmv"), "a.png"),
    ):
        status, said = run(*words)
        assert status == 1 and said.startswith(f"error: {name}: {why}") and said.count("\n") == 1
    status, said = run("verify", "a.wvmv", "none.wvmv")
    assert f"a.wvmv: {why}" in said and "none.wvmv: No such file" in said
    assert status == "error: 2 of 2 files did not pass"


def test_errors_of_the_program_are_not_the_files(run, monkeypatch):
    written("a.png")

    def fails(*words, **options):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(lossless_file, "encode", fails)
    with pytest.raises(RuntimeError, match="a mistake"):
        run("encode", "--lossless", "a.png", "a.wvmv")


def test_no_small_file_asks_for_a_large_picture():
    """The densest lossless files, of one colour, have a sixteenth of the pixels a byte or fewer."""
    data = lossless_file.encode(np.zeros((256, 256, 3), np.uint8))
    assert 256 * 256 * 16 < container.DENSEST_LOSSLESS * len(data)
    header, count = container.read(data)[0], 6 * 32 * 32
    forged = dataclasses.replace(
        header,
        height=1 << 16,
        width=1 << 16,
        tile=2048,
        lengths=(0,) * count,
        checksums=(0,) * count,
    )
    with pytest.raises(BitstreamError, match="cannot hold 65536×65536 pixels"):
        lossless_file.decode(container.write(forged, [b""] * count))


def test_tiles_larger_than_any_picture_are_refused_at_once():
    start = time.perf_counter()
    for tile in (10**23 // 64 * 64, container.LARGEST + 64):
        with pytest.raises(
            ValueError, match=f"tile={tile} must be 0, or a multiple of 4 from 64 to"
        ):
            codec().encode(picture(8, 8), 1.0, tile=tile)
        with pytest.raises(ValueError, match=f"tile={tile} must be 0"):
            tiles.check(tile, 32)
    assert time.perf_counter() - start < 1


def test_a_picture_is_no_clip(run):
    written("a.png")
    run("encode", "--lossless", "a.png", "a.wvmv")
    status, said = run("decode", "a.wvmv", "b.y4m")
    assert status == 1 and said == "error: a.wvmv is a picture: write .png, not b.y4m\n"


def test_kinds_of_pictures_have_their_largest_size(run):
    with open("a.wvmv", "wb") as file:
        file.write(lossless_file.encode(np.zeros((1, commands.LONGEST["WEBP"] + 1, 3), np.uint8)))
    status, said = run("decode", "a.wvmv", "b.webp")
    assert status == 1 and "b.webp: .webp holds up to 16383 pixels a side, not 16384x1" in said
    assert run("decode", "a.wvmv", "b.png")[0] == 0


def test_both_files_are_written_or_neither(run, tmp_path):
    codec().save("m.npz")
    with open("a.wvmv", "wb") as file:
        file.write(codec().encode(picture(8, 9), 1.0))
    before = sorted(tmp_path.iterdir())
    status, said = run("decode", "--model=m.npz", "a.wvmv", "b.png", "--features=none/f.npz")
    assert status == 1 and "error: none/f.npz: No such file or directory" in said
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_is_no_folder_is_named(run):
    written("a.png")
    status, said = run("encode", "--lossless", "a.png", "a.png/b.wvmv")
    assert status == 1 and said == "error: a.png/b.wvmv: Not a directory\n"
