"""What the baselines have in common."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

INSTALL = "uv sync --extra baselines"


class Codec(Protocol):
    """An image codec. Images are `uint8 [h w 3]` in sRGB; a quality is the codec's own number.

    `qualities` run from few bits to many and spread the codec over some 0.1 to 2 bits per pixel.
    """

    name: str
    qualities: Sequence[float]

    def missing(self) -> str | None:
        """Why this machine cannot run it; None if it can."""
        ...

    def encode(self, image: np.ndarray, quality: float) -> bytes: ...

    def decode(self, data: bytes) -> np.ndarray: ...


class CodecError(RuntimeError):
    """A codec failed on an image, or is not there."""


def check_image(image: np.ndarray) -> np.ndarray:
    """Returns `image` if it is `uint8 [h w 3]` with pixels."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be uint8 [h w 3], not {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)
