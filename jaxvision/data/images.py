"""Reads an image file of any common kind as upright 8-bit RGB."""

import io
import os
import struct
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length


def read_image(path: str | os.PathLike, *, reduce: int = 1) -> np.ndarray:
    """Reads `path` as `uint8 [h w 3]` RGB, rotated as its EXIF says.

    Grey becomes three equal channels, palettes and CMYK (Adobe's inverted one too) become RGB,
    alpha is dropped, 16 bits keep their upper 8. `reduce` in 1, 2, 4, 8 lets a JPEG whose height
    and width it divides be decoded at that fraction of its size, faster; other images ignore it.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is cut short, damaged or no image; the message names the file.
    """
    data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every unicode name on every system
    head = data[:8].tobytes()
    image = None
    if head.startswith(_JPEG):
        frame = _jpeg_frame(data)
        # a JPEG that is cut short decodes to grey below the cut, in some versions without a word
        if frame and data[-2:].tobytes() == b"\xff\xd9" and frame[2] in (1, 3):
            exact = reduce in _REDUCED and not (frame[0] % reduce or frame[1] % reduce)
            image = _decode(data, _REDUCED[reduce] if exact else cv2.IMREAD_COLOR_RGB)
    elif head == _PNG and data[-8:].tobytes() == _PNG_END and b"eXIf" not in data.tobytes():
        image = _decode(data, cv2.IMREAD_COLOR_RGB)
    return _read_with_pillow(data, path) if image is None else image


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image as `read_image` gives it, from the file's header."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise ValueError(f"{os.fspath(path)}: not an image that can be read ({error})") from error
    return (width, height) if turned else (height, width)


def _decode(data: np.ndarray, flag: int) -> np.ndarray | None:
    try:
        image = cv2.imdecode(data, flag)
    except cv2.error:
        return None  # Pillow gives the reason
    if image is None or flag == cv2.IMREAD_COLOR_RGB:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_with_pillow(data: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    if not data.size:
        raise ValueError(f"{os.fspath(path)}: the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits, or 32 that hold 16; Pillow would clip at 255
                values = np.asarray(image).astype(np.int64)
                if values.min() < 0 or values.max() > 0xFFFF:
                    raise ValueError("its values do not fit 16 bits; save it with 8 or 16 bits")
                grey = (values >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if image.mode == "F":
                raise ValueError("it holds real numbers; save it with 8 or 16 bits")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no known format" if unknown else str(error)
        raise ValueError(f"{os.fspath(path)}: not an image that can be read ({reason})") from error


def _jpeg_frame(data: np.ndarray) -> tuple[int, int, int] | None:
    """Height, width and channels as a JPEG's frame header gives them."""
    for marker, at in _jpeg_segments(data):
        if marker in _JPEG_FRAMES and at + 8 <= len(data):
            height, width, channels = struct.unpack(">HHB", data[at + 3 : at + 8].tobytes())
            return height, width, channels
    return None


def _jpeg_segments(data: np.ndarray) -> Iterator[tuple[int, int]]:
    """Markers of a JPEG up to its first scan, each with the place of its length."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = int(data[at + 1])
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker == 0xDA:
            return
        else:
            yield marker, at + 2
            at += 2 + (int(data[at + 2]) << 8 | int(data[at + 3]))
