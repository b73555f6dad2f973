"""YUV4MPEG2 video, `.y4m`: frames of uncompressed Y'CbCr, one at a time.

A line of parameters (`YUV4MPEG2 W352 H288 F30:1 C420jpeg XCOLORRANGE=LIMITED`), then for each frame
a line `FRAME` and its planes: luminance, Cb, Cr, row by row. Frames are whole ones (no fields),
chroma is 4:2:0, 4:2:2 or 4:4:4. The range is limited (16 … 235) unless the header says FULL.
Samples have 8 bits, or 10 (4:2:0 alone, "420p10") in 16, the low byte first, where a caller takes
these: `depths=(8, 10)`.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

MAGIC = b"YUV4MPEG2"
LONGEST = 1024  # bytes of a line
LARGEST = 1 << 16  # of a side
CHROMA = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}  # rows and columns to one of chroma
KINDS = {"420": "420", "420jpeg": "420", "420mpeg2": "420", "420paldv": "420"}
KINDS |= {"422": "422", "444": "444"}
DEEP = {"420p10": "420"}  # of 10 bits
DTYPES = {8: np.dtype("u1"), 10: np.dtype("<u2")}
HIGH = 720  # lines from which on colours are those of BT.709, not BT.601
LUMA = {False: (0.299, 0.114), True: (0.2126, 0.0722)}  # of red and blue

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Header:
    """The first line. `rate` is frames a second, a ratio; `chroma` a key of CHROMA.

    `depth` is bits of a sample, 8 or 10.
    """

    line: bytes
    width: int
    height: int
    rate: tuple[int, int]  # (0, 0) if unknown
    chroma: str
    full: bool
    depth: int = 8

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Of the three planes."""
        return plane_shapes(self.width, self.height, self.chroma)


def plane_shapes(width: int, height: int, chroma: str) -> list[tuple[int, int]]:
    """Of Y, Cb and Cr; chroma has a sample also for what is left over at odd sizes."""
    rows, columns = CHROMA[chroma]
    small = (-(-height // rows), -(-width // columns))
    return [(height, width), small, small]


def parsed(line: bytes, *, name: str = "the clip", depths: tuple[int, ...] = (8,)) -> Header:
    """ValueError, with `name`, for a line that is not of a video of `depths` that can be read."""
    magic, *words = line.rstrip(b"\n").decode("ascii", "replace").split(" ")
    if magic.encode() != MAGIC:
        raise ValueError(f"{name}: begins with {magic[:20]!r}, not with {MAGIC.decode()!r}")
    fields = {word[:1]: word[1:] for word in words if word and word[0] != "X"}
    sizes = []
    for key, what in (("W", "width"), ("H", "height")):
        text = fields.get(key, "")
        number = int(text.lstrip("0")[:9] or 0) if text.isdecimal() else 0
        if not 1 <= number <= LARGEST:
            raise ValueError(f"{name}: {what} {text[:20]!r} is not from 1 to {LARGEST}")
        sizes.append(number)
    kind = fields.get("C", "420jpeg")
    kinds = (KINDS if 8 in depths else {}) | (DEEP if 10 in depths else {})
    if kind not in kinds:
        bits = " or ".join(map(str, depths))
        raise ValueError(f"{name}: chroma {kind!r} is none of {', '.join(kinds)}, {bits} bits")
    if fields.get("I", "p") not in ("p", "?"):
        raise ValueError(f"{name}: frames are interlaced (I{fields['I']}); whole ones are read")
    numbers = fields.get("F", "25:1").split(":")
    decimal = len(numbers) == 2 and all(n.isdecimal() and len(n) <= 12 for n in numbers)
    if not decimal or (int(numbers[0]) > 0) != (int(numbers[1]) > 0):
        raise ValueError(f"{name}: F{fields['F'][:40]} is no ratio of frames a second")
    ranges = [word[12:].upper() for word in words if word.startswith("XCOLORRANGE=")]
    rate = int(numbers[0]), int(numbers[1])
    full, depth = ranges[-1:] == ["FULL"], 10 if kind in DEEP else 8
    return Header(line.rstrip(b"\n"), *sizes, rate, kinds[kind], full, depth)


class Reader:
    """The frames of a file as planes `[h w]`; each iteration starts anew.

    They are uint8, or uint16 of a clip of 10 bits, which is read if `depths` has 10.
    """

    def __init__(self, path: Path, *, depths: tuple[int, ...] = (8,)):
        self.path = Path(path)
        with self.path.open("rb") as file:
            self.header = parsed(_line(file, self.path), name=str(self.path), depths=depths)

    def __iter__(self) -> Iterator[Planes]:
        dtype = DTYPES[self.header.depth]
        with self.path.open("rb") as file:
            _line(file, self.path)
            number = 0
            while line := _line(file, self.path, ended=True):
                if line.split(b" ")[0].rstrip(b"\n") != b"FRAME":
                    raise ValueError(f"{self.path}: frame {number} begins with {line[:20]!r}")
                size = sum(rows * columns for rows, columns in self.header.shapes) * dtype.itemsize
                if os.fstat(file.fileno()).st_size - file.tell() < size:  # before memory is taken
                    raise ValueError(f"{self.path}: frame {number} is cut off")
                planes = []
                for shape in self.header.shapes:
                    size = shape[0] * shape[1] * dtype.itemsize
                    data = file.read(size)
                    if len(data) < size:
                        raise ValueError(f"{self.path}: frame {number} is cut off")
                    plane = np.frombuffer(data, dtype).reshape(shape)
                    check_depth(plane, self.header.depth, f"{self.path}: frame {number}")
                    planes.append(plane)
                yield tuple(planes)
                number += 1


def check_depth(plane: np.ndarray, depth: int, name: str) -> None:
    """ValueError, with `name`, for samples that so many bits do not hold."""
    if depth > 8 and plane.max() >= 1 << depth:
        raise ValueError(f"{name} holds {plane.max()}, which {depth} bits do not")


def write(file: BinaryIO, header: Header, frames: Iterable[Planes]) -> int:
    """Writes a clip and returns the number of its frames."""
    dtype = DTYPES[header.depth]
    file.write(header.line + b"\n")
    number = 0
    for planes in frames:
        shapes = [plane.shape for plane in planes]
        if shapes != header.shapes:
            raise ValueError(f"frame {number} has planes {shapes}, not {header.shapes}")
        for plane in planes:
            if plane.dtype.newbyteorder("=") != dtype.newbyteorder("="):
                raise ValueError(
                    f"frame {number} is {plane.dtype}; {header.depth} bits are {dtype.name}"
                )
            check_depth(plane, header.depth, f"frame {number}")
        file.write(b"FRAME\n" + b"".join(plane.astype(dtype).tobytes() for plane in planes))
        number += 1
    return number


def to_rgb(planes: Planes, header: Header) -> np.ndarray:
    """uint8 `[h w 3]`; chroma is interpolated between the middles of its cells."""
    size, step = (header.width, header.height), np.float32(1 << (header.depth - 8))
    luma, cb, cr = (plane.astype(np.float32) / step for plane in planes)
    cb, cr = (cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (cb, cr))
    low, steps, chroma = _range(header)
    red, blue = LUMA[header.height >= HIGH]
    y, cb, cr = (luma - low) / steps, (cb - 128) / chroma, (cr - 128) / chroma
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    rgb = np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1)
    return np.clip(np.rint(255 * rgb), 0, 255).astype(np.uint8)


def from_rgb(image: np.ndarray, header: Header) -> Planes:
    """The planes of uint8 `[h w 3]`; chroma is the mean of what it stands for."""
    if image.shape != (header.height, header.width, 3):
        raise ValueError(f"a frame of {image.shape} in a clip of {header.width}×{header.height}")
    r, g, b = np.moveaxis(image.astype(np.float32) / 255, -1, 0)
    low, steps, chroma = _range(header)
    red, blue = LUMA[header.height >= HIGH]
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    planes = [low + steps * y, *(128 + chroma * _smaller(x, header) for x in (cb, cr))]
    step, most = np.float32(1 << (header.depth - 8)), (1 << header.depth) - 1
    return tuple(np.clip(np.rint(x * step), 0, most).astype(DTYPES[header.depth]) for x in planes)


def psnr(wanted: Planes, shown: Planes, *, depth: int = 8) -> tuple[float, float, float, float]:
    """dB of luminance, Cb and Cr, and of all with weights 6:1:1, as is usual for video."""
    peak, found = (1 << depth) - 1, []
    for a, b in zip(wanted, shown, strict=True):
        error = float(((a.astype(np.float64) - b) ** 2).mean())
        found.append(10 * float(np.log10(peak**2 / max(error, 1e-10))))
    return (*found, (6 * found[0] + found[1] + found[2]) / 8)


def _range(header: Header) -> tuple[float, float, float]:
    """Black, the steps from there to white, and those of chroma (BT.601, BT.709; JFIF)."""
    return (0.0, 255.0, 255.0) if header.full else (16.0, 219.0, 224.0)


def _smaller(x: np.ndarray, header: Header) -> np.ndarray:
    rows, columns = CHROMA[header.chroma]
    x = np.pad(x, ((0, -x.shape[0] % rows), (0, -x.shape[1] % columns)), mode="edge")
    return x.reshape(x.shape[0] // rows, rows, -1, columns).mean((1, 3))


def _line(file: BinaryIO, path: Path, *, ended: bool = False) -> bytes:
    line = file.readline(LONGEST)
    if not line.endswith(b"\n") and not (ended and not line):
        raise ValueError(f"{path}: a line of parameters is cut off, or this is no Y4M video")
    return line
