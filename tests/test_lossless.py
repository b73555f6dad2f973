"""Pictures without loss: to the bit at any size, from any tile, and near what theory allows."""

import functools
import itertools

import numpy as np
import pytest
from PIL import Image

from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv import __main__ as command
from jaxvision.wavenet_mv import container, fitted, integers, logistic, lossless, lossless_file


def picture(height, width, seed=0):
    """Waves and a little noise, uint8 `[h w 3]`."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + k) + np.cos(y / 13 - k) for k in range(3)], -1)
    noise = np.random.default_rng(seed).normal(0, 3, waves.shape)
    return np.clip(127 + 50 * waves + noise, 0, 255).astype(np.uint8)


@functools.cache
def written(height=90, width=140):
    return lossless_file.encode(picture(height, width))


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (2, 1), (1, 9), (7, 1), (3, 2), (33, 42), (64, 65)]
)
def test_any_size_comes_back_to_the_bit(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for image in (picture(*size), noise, np.zeros((*size, 3), np.uint8)):
        data = lossless_file.encode(image)
        np.testing.assert_array_equal(lossless_file.decode(data).image, image)


def test_large_grids_are_coded_in_halves_and_tiles():
    image = picture(131, 200)
    data = lossless_file.encode(image)
    np.testing.assert_array_equal(lossless_file.decode(data).image, image)
    tiled = lossless_file.encode(image, tile=64)
    assert len(container.read(tiled)[0].lengths) == 12 * lossless_file.MOST
    np.testing.assert_array_equal(lossless_file.decode(tiled).image, image)


def test_files_are_near_the_entropy_of_noise():
    """What is drawn takes log2(3 sqrt(2 pi e)) bits a value; predictions from neighbours, which are
    noisy themselves, cost an eighth more."""
    image = picture(131, 200)
    entropy = image.size * np.log2(3 * np.sqrt(2 * np.pi * np.e)) / 8
    assert entropy < len(lossless_file.encode(image)) < 1.13 * entropy


def test_a_prefix_gives_the_levels_means():
    header, streams = container.read(written())
    end = len(written()) - len(streams[-1])
    small = lossless_file.decode(written()[:end], levels=5)
    assert small.image.shape == (45, 70, 3) and small.levels == (5, 6)
    mean = picture(90, 140).reshape(45, 2, 70, 2, 3).mean((1, 3))
    assert abs(small.image - mean).mean() < 3
    with pytest.raises(BitstreamError, match="5 of its 6 levels are whole, which levels=5 decodes"):
        lossless_file.decode(written()[:end])
    for levels in (0, 7):
        with pytest.raises(ValueError, match=f"levels={levels} must be from 1 to 6"):
            lossless_file.decode(written(), levels=levels)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 8), (13, 6)])
def test_colours_and_lifting_are_whole_and_exact(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    planes = integers.to_colours(image)
    np.testing.assert_array_equal(integers.to_image(planes), image)
    means, grids = integers.forward(planes, 3)
    for grid in grids:
        np.testing.assert_array_equal(grid[:, ::2, ::2], means)
        means = integers.inverse(grid)
    np.testing.assert_array_equal(means, planes)


def test_transform_is_cdf_5_3():
    """A plane that is linear has no differences inside, and its means are its own even cells."""
    y, x = np.mgrid[:16, :16]
    planes = np.stack([4 * x + 8 * y + k for k in range(3)]).astype(np.int32)
    means, (grid,) = integers.forward(planes, 1)
    for part in integers.phases(grid)[1:]:
        assert not part[:, :-1, :-1].any()
    np.testing.assert_array_equal(means[:, 1:-1, 1:-1], planes[:, 2:-2:2, 2:-2:2])


def test_tables_are_logistic_and_never_change():
    """The digest stands in every file: another one would make them unreadable."""
    tables = logistic.tables()
    assert tables.digest.hex()[:16] == "321d4ebe23dd66fe"
    row, first = logistic.EIGHTHS * 20 + 3, int(tables.offset[logistic.EIGHTHS * 20 + 3])
    values = np.arange(first, -first + 1)
    mass = np.diff(tables.cdf[row])[: len(values)] / (1 << tables.precision)
    scale = 0.05 * 1.18**20
    edges = 1 / (1 + np.exp(-(np.append(values, values[-1] + 1) - 0.5 - 3 / 8) / scale))
    # each frequency is 1 or more, and cumulative ones are rounded down
    np.testing.assert_allclose(mass, np.diff(edges), atol=(len(values) + 2) / 2**14 * 0.2)


def test_fits_survive_the_file_and_predict():
    rng = np.random.default_rng(0)
    known = rng.integers(-50, 50, (4000, 3))
    sizes = rng.integers(0, 200, (4000, 2))
    noise = rng.laplace(0, 1, 4000) * sizes[:, 0] / 8
    values = np.rint(known @ [0.5, -0.25, 0] + noise).astype(np.int64)
    fit = fitted.fitted(known, sizes, values)
    np.testing.assert_allclose(fit.mean / fitted.UNIT, [0.5, -0.25, 0], atol=0.05)
    assert fit.error[0] > 4 * fit.error[1]
    again, end = fitted.from_bytes(b"x" + fit.to_bytes(), 1, means=3, errors=2)
    assert end == 1 + len(fit.to_bytes())
    for name in ("mean", "error", "scales"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fit, name))
    for data in (b"", b"\2", fit.to_bytes()[:-1], fit.to_bytes()[:-1] + b"\xff"):
        with pytest.raises(BitstreamError):
            fitted.from_bytes(data, 0, means=3, errors=2)


def test_damage_is_told():
    data, rng, refused = bytearray(written()), np.random.default_rng(0), 0
    for k in range(60):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:  # a parameter that no value asks for may change
            shown = lossless_file.decode(
                bytes(broken if k % 2 else data[: rng.integers(len(data))])
            )
            np.testing.assert_array_equal(shown.image, picture(90, 140))
        except BitstreamError as error:
            refused += bool(str(error))
    assert refused > 55
    decoder = lossless.Decoder(90, 140)
    streams = container.read(written())[1]
    decoder.next(streams[0])
    with pytest.raises(BitstreamError, match="1 bytes follow the end of a level"):
        decoder.next(streams[1] + b"x")


def test_command_needs_no_model(tmp_path, capsys):
    Image.fromarray(picture(33, 42)).save(tmp_path / "a.png")
    a, b, png = (str(tmp_path / name) for name in ("a.wvmv", "b.png", "a.png"))
    assert command.main(["encode", "--lossless", "--verify", png, a]) == 0
    assert command.main(["decode", a, b]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(b)), picture(33, 42))
    assert (
        command.main(["info", a, "--bits"]) == 0
        and command.main(["verify", a, f"--against={png}"]) == 0
    )
    said = capsys.readouterr().out
    assert "42x33, lossless" in said and "substream 5" in said and "whole, identical" in said
    assert command.main(["encode", png, a]) == 1
    assert "--model=MODEL.npz is missing" in capsys.readouterr().err
    assert not list(itertools.chain(tmp_path.glob(".*part")))
