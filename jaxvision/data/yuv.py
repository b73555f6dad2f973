"""Raw video, `.yuv`: the planes of one frame after another, and nothing that says of what size."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxvision.data.y4m import CHROMA, DTYPES, Planes, check_depth, plane_shapes


def frames(
    path: str | Path, width: int, height: int, depth: int, chroma: str = "420"
) -> Iterator[Planes]:
    """The frames of a file: planes Y, Cb and Cr `[h w]`, uint8, or uint16 at 10 bits.

    In the file these have the low byte first.

    Raises:
      ValueError: for a size, depth or chroma that cannot be; at once if the file is of no whole
        number of frames; while frames are taken, for a value beyond the depth.
    """
    path = Path(path)
    if width < 1 or height < 1:
        raise ValueError(f"{path}: frames of {width}×{height} have no pixel")
    if depth not in DTYPES:
        raise ValueError(f"{path}: depth={depth} must be 8 or 10 bits")
    if chroma not in CHROMA:
        raise ValueError(f"{path}: chroma {chroma!r} is none of {', '.join(CHROMA)}")
    shapes = plane_shapes(width, height, chroma)
    size = sum(rows * columns for rows, columns in shapes) * DTYPES[depth].itemsize
    there = path.stat().st_size
    if not there or there % size:
        raise ValueError(
            f"{path}: {there} bytes are no whole number of frames of {width}×{height} at {depth}"
            f" bits, {chroma}, which have {size}: give the right size, depth and chroma"
        )
    return _frames(path, shapes, depth, there // size)


def _frames(path: Path, shapes: list[tuple[int, int]], depth: int, count: int) -> Iterator[Planes]:
    dtype = DTYPES[depth]
    with path.open("rb") as file:
        for number in range(count):
            planes = []
            for rows, columns in shapes:
                data = file.read(rows * columns * dtype.itemsize)
                if len(data) < rows * columns * dtype.itemsize:
                    raise ValueError(f"{path}: frame {number} is cut off")
                plane = np.frombuffer(data, dtype).reshape(rows, columns)
                check_depth(plane, depth, f"{path}: frame {number}")
                planes.append(plane)
            yield tuple(planes)
