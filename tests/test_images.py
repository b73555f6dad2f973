"""Files of every kind, against Pillow."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxvision.data.images import image_size, read_image


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth colour picture, so that JPEG changes it little: `[48 64 3]`."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


def save(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b.astype(int)).max())


KINDS = {
    "png": "RGB L P RGBA LA 1",
    "jpg": "RGB L",
    "bmp": "RGB L P 1",
    "webp": "RGB RGBA",
    "tif": "RGB L P RGBA CMYK 1",
    "gif": "P L",
}


@pytest.mark.parametrize("kind, mode", [(k, m) for k in KINDS for m in KINDS[k].split()])
def test_every_kind_of_file_is_read_as_pillow_reads_it(tmp_path, picture, kind, mode):
    path = save(tmp_path / f"{mode}.{kind}", Image.fromarray(picture).convert(mode))
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    # libjpeg builds may differ by 1 in the inverse DCT and by 1 more in the colour transform
    assert difference(read_image(path), expected) <= (2 if kind == "jpg" else 0)
    assert image_size(path) == (48, 64)


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, picture, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 98, "subsampling": 0} if kind == "jpg" else {})
    path = save(tmp_path / f"turned.{kind}", Image.fromarray(picture), **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    image = read_image(path)
    assert difference(image, expected) <= 2
    assert image_size(path) == image.shape[:2]
    half = read_image(path, reduce=2)
    if kind == "jpg":
        assert half.shape == (image.shape[0] // 2, image.shape[1] // 2, 3)
    whole = cv2.resize(half, image.shape[1::-1]).astype(int)
    assert np.abs(whole - image).mean() < 6  # a wrong rotation differs by 40 and more


def test_cmyk_of_adobe_is_inverted(tmp_path):
    """Adobe writes 255 for no ink. A red and a white half must stay red and white."""
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[:, :16], rgb[:, 16:] = (255, 0, 0), 255
    path = save(tmp_path / "cmyk.jpg", Image.fromarray(rgb).convert("CMYK"), quality=95)
    assert b"Adobe" in path.read_bytes()
    assert difference(read_image(path), rgb) <= 8  # what JPEG loses in one plane, twice


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    values = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, -1)
    for kind in ("png", "tif"):
        path = save(tmp_path / f"deep.{kind}", Image.fromarray(values))
        assert difference(read_image(path), expected) <= 1  # libpng rounds, a shift cuts
    colour = np.stack([values, values[::-1], values], -1)
    cv2.imwrite(str(tmp_path / "deep_rgb.png"), colour[..., ::-1])
    assert difference(read_image(tmp_path / "deep_rgb.png"), (colour >> 8).astype(np.uint8)) <= 1


def test_values_that_fit_no_8_bits_are_refused(tmp_path):
    real = save(tmp_path / "real.tif", Image.fromarray(np.ones((4, 4), np.float32)))
    wide = save(tmp_path / "wide.tif", Image.fromarray(np.full((4, 4), 70000, np.int32)))
    for path in (real, wide):
        with pytest.raises(ValueError, match=f"{path.name}.*save it with 8 or 16 bits"):
            read_image(path)


def test_unicode_names_are_read(tmp_path, picture):
    path = save(tmp_path / "снимок 写真 n°1.jpg", Image.fromarray(picture), quality=95)
    assert read_image(path).shape == picture.shape
    assert read_image(str(path)).shape == picture.shape


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_reduced_decoding_keeps_the_geometry(tmp_path, reduce):
    """A white square on black lies at its place divided by `reduce`, to half a pixel."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[32:64, 48:112] = 255
    path = save(tmp_path / "square.jpg", Image.fromarray(image), quality=98, subsampling=0)
    small = read_image(path, reduce=reduce)
    assert small.shape == (96 // reduce, 128 // reduce, 3)
    inside = small[..., 1] > 127
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * reduce
    np.testing.assert_allclose(box, (48, 32, 112, 64), atol=reduce / 2)


def test_reduction_that_does_not_divide_the_size_is_ignored(tmp_path):
    path = save(tmp_path / "odd.jpg", Image.fromarray(np.zeros((50, 63, 3), np.uint8)))
    assert read_image(path, reduce=2).shape == (50, 63, 3)


def bad_png() -> bytes:
    """A PNG whose pixels are cut off, with every checksum and its end in place."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(range(256)) * 3)[:100]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(n, b) for n, b in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


@pytest.mark.parametrize(
    "name",
    ["empty", "text", "half.jpg", "last.jpg", "half.png", "pixels.png", "half.webp", "head.jpg"],
)
def test_damaged_files_are_named(tmp_path, picture, name):
    image = Image.fromarray(picture)
    jpeg, png = encoded(image, "JPEG", quality=95), encoded(image, "PNG")
    webp = encoded(image, "WEBP")
    data = {
        "empty": b"",
        "text": b"<html>404 Not Found</html>",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "last.jpg": jpeg[: int(len(jpeg) * 0.97)],
        "half.png": png[: len(png) // 2],
        "pixels.png": bad_png(),
        "half.webp": webp[: len(webp) // 2],
        "head.jpg": jpeg[:3] + b"\xff\xd9",
    }[name]
    path = tmp_path / f"файл {name}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"файл {name}: ") as caught:
        read_image(path)
    assert "object at 0x" not in str(caught.value)


def test_a_cut_jpeg_is_refused_by_decoders_that_fill_it_with_grey_too(
    tmp_path, picture, monkeypatch
):
    data = encoded(Image.fromarray(picture), "JPEG", quality=95)
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    grey = np.full_like(picture, 128)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flag: grey)  # as OpenCV 4 does
    with pytest.raises(ValueError, match="cut.jpg"):
        read_image(tmp_path / "cut.jpg")


def test_a_missing_file_is_an_os_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        image_size(tmp_path / "nowhere.jpg")
    (tmp_path / "no.jpg").write_bytes(b"no")
    with pytest.raises(ValueError, match="no.jpg"):
        image_size(tmp_path / "no.jpg")


def test_trailing_bytes_after_a_whole_image_do_no_harm(tmp_path, picture):
    path = tmp_path / "padded.jpg"
    path.write_bytes(encoded(Image.fromarray(picture), "JPEG", quality=95) + b"\0" * 100)
    with Image.open(path) as image:
        assert difference(read_image(path), np.asarray(image)) == 0
