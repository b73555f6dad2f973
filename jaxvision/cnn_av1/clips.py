"""Clips to label: made of photographs, the same to the bit everywhere, or read from files.

A photograph is panned and zoomed with whole numbers alone: means over whole factors, bilinear
weights of 8 bits, ITU-R BT.709 in limited range as one exact division. So the pixels depend on no
machine and no version, but for JPEG photographs on the version of libjpeg. The fractions that
weights leave make 10 bits of what was 8. Such clips are small, and were 8-bit: good for tests and
demonstrations, not for claims.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxvision.data import y4m, yuv
from jaxvision.data.images import read_image
from jaxvision.data.photographs import photographs
from jaxvision.data.y4m import Planes

ONE = 1 << 16  # of fixed-point positions: one pixel
LOWEST = 5 * ONE // 8  # pixels of the photograph to one of the clip: below, it is but a blur
SMALLEST = 16  # of a clip's side, so that sums stay below 2^63


@dataclasses.dataclass(frozen=True)
class Clip:
    """4:2:0 video: `frames` are planes of uint8 or uint16, as `depth` says, one at a time."""

    width: int
    height: int
    depth: int
    frames: Iterable[Planes]


def photo_names() -> dict[str, str]:
    """The photographs' names, as `coffee`, with the split that the library holds them to."""
    return {path.stem: split for split, paths in photographs().items() for path in paths}


def photo_clip(
    photograph: str, *, width: int = 352, height: int = 288, frames: int = 3, variant: int = 0
) -> list[Planes]:
    """A pan and zoom over a photograph of scikit-image: 10-bit planes, uint16 `[h w]`.

    Between frames the picture moves by 5 to 14 pixels along each axis and by 11 to 25 % in scale,
    in and out in turns. What lies beyond the photograph is its mirror image. `variant` 0 begins
    with the whole; others with a part of it, drawn by number, turned by right angles or mirrored.

    Raises:
      ValueError: for a name that is no photograph's, and for sizes and numbers out of range.
    """
    for name, value, least in (("width", width, SMALLEST), ("height", height, SMALLEST)):
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")
    if frames < 1 or variant < 0:
        raise ValueError(f"frames={frames} must be at least 1, variant={variant} at least 0")
    paths = {path.stem: path for paths in photographs().values() for path in paths}
    stem = Path(photograph).stem
    if stem not in paths:
        raise ValueError(f"photograph {photograph!r} is none of {', '.join(sorted(paths))}")
    image = read_image(paths[stem]).astype(np.int64)
    if variant:
        image = np.rot90(image, _draw(f"{stem} {variant} turn", 4))
        image = image[:, ::-1] if _draw(f"{stem} {variant} mirror", 2) else image
    views = _views(image.shape[:2], (height, width), f"{stem} {variant}", whole=variant == 0)
    return [_planes(*_seen(image, (height, width), *next(views))) for _ in range(frames)]


def read_clip(path: Path, *, size: tuple[int, int] | None = None, depth: int | None = None) -> Clip:
    """A `.y4m`, or a `.yuv` of `size` (width, height) and `depth` 8 or 10; frames are 4:2:0.

    Raises:
      ValueError: for another kind of file, for 4:2:2 and 4:4:4, for a `.yuv` without its size.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".y4m":
        mend = f"ffmpeg -i {path.name} -pix_fmt yuv420p10le -strict -1 {path.stem}_420.y4m"
        try:
            reader = y4m.Reader(path, depths=(8, 10))
        except ValueError as error:
            raise ValueError(f"{error}: {mend}" if ": chroma " in str(error) else error) from error
        header = reader.header
        if header.chroma != "420":
            chroma = ":".join(header.chroma)
            raise ValueError(f"{path}: chroma is {chroma}, and only 4:2:0 is read: {mend}")
        return Clip(header.width, header.height, header.depth, reader)
    if kind != ".yuv":
        raise ValueError(f"{path}: clips are .y4m or .yuv: ffmpeg -i {path.name} {path.stem}.y4m")
    if size is None or depth is None:
        raise ValueError(f"{path}: a .yuv does not say what it is: give --size WxH and --depth 10")
    return Clip(*size, depth, _Raw(path, size, depth))


def deepened(planes: Planes) -> Planes:
    """8-bit planes as 10-bit ones, the new bits zero."""
    return tuple(plane.astype(np.uint16) << 2 for plane in planes)


@dataclasses.dataclass(frozen=True)
class _Raw:
    path: Path
    size: tuple[int, int]
    depth: int

    def __iter__(self) -> Iterator[Planes]:
        return iter(yuv.frames(self.path, *self.size, self.depth))


def _draw(key: str, below: int) -> int:
    """A number from 0 that the key decides: NumPy's streams may change with its versions."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % below


def _views(of: tuple[int, int], size: tuple[int, int], key: str, *, whole: bool):
    """Without end, step (of the photograph, for a pixel of the clip) and centre, in 1/65536 px."""
    fit = min(o * ONE // s for o, s in zip(of, size, strict=True))
    least = LOWEST * 5 // 4
    largest = max(fit * 15 // 16, least)  # so that there is room to zoom, mirrored if need be
    step = largest if whole else least + _draw(f"{key} step", largest - least + 1)
    zoom = 111 + _draw(f"{key} zoom", 15)
    centre, moves = [], []
    for o, s, axis in zip(of, size, "yx", strict=True):
        room = 0 if whole else max(0, o * ONE - s * step)
        centre.append((o * ONE - room) // 2 + _draw(f"{key} centre {axis}", room + 1))
        sign = 1 - 2 * _draw(f"{key} sign {axis}", 2)
        moves.append(sign * (5 + _draw(f"{key} move {axis}", 10)))
    inward = True
    while True:
        yield step, tuple(centre)
        centre = [c + move * step for c, move in zip(centre, moves, strict=True)]
        nearer, farther = step * 100 // zoom, step * zoom // 100
        inward = nearer >= LOWEST if inward else farther > largest
        step = nearer if inward else farther


def _seen(image, size, step, centre) -> tuple[np.ndarray, int]:
    """RGB `[h w 3]` of whole numbers, and the number that stands for white."""
    factor = max(1, step // ONE)
    rows, columns = (n // factor for n in image.shape[:2])
    sums = image[: rows * factor, : columns * factor]
    sums = sums.reshape(rows, factor, columns, factor, 3).sum((1, 3))
    for axis in (0, 1):
        first, second, weight = _taps(size[axis], step, centre[axis], factor, sums.shape[axis])
        weight = weight[:, None, None] if axis == 0 else weight[None, :, None]
        sums = (256 - weight) * sums.take(first, axis) + weight * sums.take(second, axis)
    return sums, 255 * factor**2 * 256**2


def _taps(count, step, centre, factor, length) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels to each of `count`, and the second one's weight of 256."""
    places = centre + (2 * np.arange(count, dtype=np.int64) + 1 - count) * step // 2
    places = places // factor - ONE // 2  # from edges to the middles of pixels
    first = places >> 16

    def mirrored(at):
        at = at % (2 * length)
        return np.minimum(at, 2 * length - 1 - at)

    return mirrored(first), mirrored(first + 1), (places >> 8) & 255


def _planes(rgb: np.ndarray, white: int) -> Planes:
    """10-bit Y'CbCr 4:2:0 in limited range (ITU-R BT.709-6, 3); chroma is the mean of four."""
    luma = 2126 * rgb[..., 0] + 7152 * rgb[..., 1] + 722 * rgb[..., 2]  # of 10000 white
    y = 64 + _divided(876 * luma, 10000 * white)
    cb = 512 + _divided(896 * _fours(10000 * rgb[..., 2] - luma), 4 * 18556 * white)
    cr = 512 + _divided(896 * _fours(10000 * rgb[..., 0] - luma), 4 * 15748 * white)
    return tuple(plane.astype(np.uint16) for plane in (y, cb, cr))


def _divided(a: np.ndarray, b: int) -> np.ndarray:
    """Rounded to the nearest, halves up."""
    return (a + b // 2) // b


def _fours(x: np.ndarray) -> np.ndarray:
    """Sums of two by two; an odd edge counts twice."""
    x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2)), mode="edge")
    return x.reshape(x.shape[0] // 2, 2, -1, 2).sum((1, 3))
