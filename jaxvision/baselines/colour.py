"""RGB to the planes that video codecs take, and back: BT.709, full range, 4:4:4 or 4:2:0.

Written out here since tools that convert on their own differ in matrix, range and filter, which
costs decibels that no codec lost.
"""

import numpy as np
from PIL import Image

KR, KB = 0.2126, 0.0722  # ITU-R BT.709, item 3.2
FORWARD = np.array(
    [
        [KR, 1 - KR - KB, KB],
        [-KR / (2 - 2 * KB), (KR + KB - 1) / (2 - 2 * KB), 0.5],
        [0.5, (KR + KB - 1) / (2 - 2 * KR), -KB / (2 - 2 * KR)],
    ]
)
INVERSE = np.linalg.inv(FORWARD)
KERNEL = Image.Resampling.LANCZOS  # of chroma; samples lie in the centre of their 2x2 pixels


def to_ycbcr(image: np.ndarray) -> np.ndarray:
    """`uint8 [h w 3]` -> float32 `[h w 3]`: luma in [0, 1], chroma in [-1/2, 1/2]."""
    return (image.astype(np.float32) / 255) @ FORWARD.T.astype(np.float32)


def to_rgb(ycbcr: np.ndarray) -> np.ndarray:
    """The inverse of `to_ycbcr`, clipped and rounded."""
    rgb = ycbcr.astype(np.float32) @ INVERSE.T.astype(np.float32)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def to_planes(image: np.ndarray, *, bits: int, half: bool) -> list[np.ndarray]:
    """Three integer planes of `uint8 [h w 3]`; chroma has half the side where `half`.

    With `half`, an odd side is made even by repeating its last row or column.
    """
    if half:
        odd = [(0, size % 2) for size in image.shape[:2]]
        image = np.pad(image, (*odd, (0, 0)), mode="edge")
    planes = list(np.moveaxis(to_ycbcr(image), -1, 0))
    if half:
        size = (image.shape[1] // 2, image.shape[0] // 2)
        planes[1:] = [_resized(plane, size) for plane in planes[1:]]
    top, dtype = 2**bits - 1, np.uint8 if bits == 8 else np.dtype("<u2")
    zeros = (0, 2 ** (bits - 1), 2 ** (bits - 1))  # the code of no chroma
    return [
        np.clip(np.rint(plane * top) + zero, 0, top).astype(dtype)
        for plane, zero in zip(planes, zeros, strict=True)
    ]


def from_planes(planes: list[np.ndarray], *, bits: int) -> np.ndarray:
    """The inverse of `to_planes`: `uint8 [h w 3]`, even sides where chroma is half."""
    top, zeros = 2**bits - 1, (0, 2 ** (bits - 1), 2 ** (bits - 1))
    height, width = planes[0].shape
    values = [(p.astype(np.float32) - z) / top for p, z in zip(planes, zeros, strict=True)]
    if values[1].shape != (height, width):
        values[1:] = [_resized(plane, (width, height)) for plane in values[1:]]
    return to_rgb(np.stack(values, axis=-1))


def _resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, KERNEL))
