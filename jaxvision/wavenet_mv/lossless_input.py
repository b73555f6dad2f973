"""Whether a file is what lossless ones hold: one picture of three channels of 8 bits."""

import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

EXACT = ("1", "L", "P", "RGB")  # Pillow's kinds of pixels that are RGB without loss
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def check_exact(path: Path) -> None:
    """ValueError, with the reason, for a picture that three channels of 8 bits do not hold."""
    found = _seen(path)
    if found is not None and found.dtype != np.uint8:
        raise ValueError(f"{path} is {found.dtype}; lossless files hold 8 bits a channel")
    try:
        with Image.open(path) as image:
            count, mode = getattr(image, "n_frames", 1), image.mode
            alpha = mode in ALPHA or "transparency" in image.info
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        # No picture, of which `read_image` says more, or of a kind that OpenCV alone reads.
        count, mode, alpha = 1, "RGB", found is not None and found.ndim == 3 and found.shape[2] > 3
    if count > 1:
        raise ValueError(f"{path} has {count} pages or frames; lossless files hold one picture")
    if alpha:
        raise ValueError(f"{path} has an alpha channel, which lossless files do not hold")
    if mode not in EXACT:
        raise ValueError(f"{path} is {mode}; lossless files hold RGB, which it would become")


def _seen(path: Path) -> np.ndarray | None:
    """The pixels as OpenCV finds them: Pillow does not tell 16 bits of a colour from 8."""
    data = np.fromfile(path, np.uint8)
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        return None
