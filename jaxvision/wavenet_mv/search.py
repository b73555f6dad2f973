"""The quality at which a file has the size, or its picture the likeness, that is asked for."""

from collections.abc import Callable

import numpy as np

from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.container import QUALITY


def at_bpp(
    codec: Codec,
    image: np.ndarray,
    bpp: float,
    *,
    coder: str = "rans",
    tile: int | None = None,
) -> float:
    """The highest quality whose file takes at most `bpp` bits a pixel."""
    if not bpp > 0:
        raise ValueError(f"target-bpp={bpp} must be above 0")
    pixels = image.shape[0] * image.shape[1]

    def bits(quality):
        return 8 * len(codec.encode(image, quality, coder=coder, tile=tile))

    def fits(quality):
        return bits(quality) <= bpp * pixels

    least, most = 0, QUALITY * (codec.qualities - 1)
    if not fits(0.0):
        size = bits(0.0) / pixels
        raise ValueError(f"target-bpp={bpp}: the lowest quality of this model takes {size:.3f}")
    return _last(fits, least, most)


def at_psnr(codec: Codec, image: np.ndarray, psnr: float, *, tile: int | None = None) -> float:
    """The lowest quality whose picture reaches `psnr` dB."""
    if not psnr > 0:
        raise ValueError(f"target-psnr={psnr} must be above 0")

    def falls_short(quality):
        return likeness(codec, image, quality, tile=tile) < psnr

    least, most = 0, QUALITY * (codec.qualities - 1)
    best = likeness(codec, image, most / QUALITY, tile=tile)
    if best < psnr:
        raise ValueError(f"target-psnr={psnr}: the highest quality of this model gives {best:.2f}")
    if not falls_short(0.0):
        return 0.0
    return _last(falls_short, least, most) + 1 / QUALITY


def likeness(codec: Codec, image: np.ndarray, quality: float, *, tile: int | None = None) -> float:
    """PSNR in dB of what a decoder would show."""
    error = codec.reconstruct(image, quality, tile=tile).astype(np.float64) - image
    return float(10 * np.log10(255**2 / max((error**2).mean(), 1e-10)))


def _last(holds: Callable[[float], bool], least: int, most: int) -> float:
    """The last quality for which `holds`, which holds for `least`, by bisection of its steps."""
    if holds(most / QUALITY):
        return most / QUALITY
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if holds(middle / QUALITY) else (least, middle)
    return least / QUALITY
