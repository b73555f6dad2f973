"""Codecs of still images: JPEG, WebP, JPEG 2000 and AVIF by Pillow, JPEG XL by imagecodecs.

JPEG 2000 and JPEG XL are bare codestreams; AVIF's boxes (some 300 bytes) are counted, as is all
that JPEG and WebP write.
"""

import dataclasses
import importlib.util
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, features

from jaxvision.baselines.codec import INSTALL, CodecError, check_image


@dataclasses.dataclass(frozen=True, kw_only=True)
class PillowCodec:
    """A format of Pillow's; `options` are its own, and `dial` the one that quality sets."""

    name: str
    qualities: tuple[float, ...]
    format: str
    options: Mapping[str, Any]
    dial: str = "quality"

    def missing(self) -> str | None:
        Image.init()
        unread = self.format == "JPEG2000" and not features.check("jpg_2000")
        if self.format not in Image.SAVE or unread:
            return f"this Pillow is built without {self.format}: pip install --upgrade pillow"
        return None

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        value = [quality] if self.dial == "quality_layers" else quality
        picture = Image.fromarray(check_image(image))
        try:
            picture.save(file, self.format, **{self.dial: value}, **self.options)
        except (OSError, KeyError) as error:
            raise CodecError(f"{self.name} cannot encode {image.shape}: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(data), formats=[self.format]) as image:
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise CodecError(f"{self.name} cannot decode {len(data)} bytes: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class JpegXl:
    """JPEG XL by libjxl; quality is Butteraugli's distance, less is better."""

    name: str = "jpeg-xl"
    qualities: tuple[float, ...] = (8, 5, 3.5, 2.2, 1.3, 0.7)
    effort: int = 7

    def missing(self) -> str | None:
        found = importlib.util.find_spec("imagecodecs")
        return None if found else f"imagecodecs is not installed: {INSTALL}"

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        import imagecodecs  # optional

        return imagecodecs.jpegxl_encode(
            check_image(image),
            distance=float(quality),
            effort=self.effort,
            lossless=False,
            numthreads=1,
        )

    def decode(self, data: bytes) -> np.ndarray:
        import imagecodecs  # optional

        try:
            return np.array(imagecodecs.jpegxl_decode(data, numthreads=1))
        except (ValueError, imagecodecs.JpegxlError) as error:
            raise CodecError(f"{self.name} cannot decode {len(data)} bytes: {error}") from error


JPEG_420 = PillowCodec(
    name="jpeg-420",
    qualities=(5, 10, 20, 35, 50, 70, 85),
    format="JPEG",
    options=dict(subsampling="4:2:0", optimize=True),  # Huffman tables of the image's own
)
WEBP = PillowCodec(
    name="webp",
    qualities=(2, 10, 30, 50, 70, 85, 95),
    format="WEBP",
    options=dict(method=6),
)
JPEG_2000 = PillowCodec(
    name="jpeg-2000",
    qualities=(24, 27, 30, 33, 36, 40),  # PSNR in dB that OpenJPEG aims at
    format="JPEG2000",
    dial="quality_layers",
    options=dict(quality_mode="dB", irreversible=True, mct=1, no_jp2=True),
)
AVIF_444 = PillowCodec(
    name="avif-444",
    qualities=(15, 30, 45, 60, 75),
    format="AVIF",
    options=dict(subsampling="4:4:4", speed=6, max_threads=1),
)
STILLS = (JPEG_420, WEBP, JPEG_2000, JpegXl(), AVIF_444)
