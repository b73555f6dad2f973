"""The untrained floor: a wavelet, one scale a sub-band, and a table coder.

What a learned codec is worth is what it saves against this, which knows nothing of images but that
neighbours resemble one another.
"""

import dataclasses
import math
import struct
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxvision.baselines import tables
from jaxvision.baselines.codec import CodecError, check_image
from jaxvision.baselines.colour import to_rgb, to_ycbcr
from jaxvision.baselines.wavelets import Jaxwt, Lifting, Transform

LEVELS = 4
CHROMA = 1.6  # times the step of luma
HEAD, BAND = struct.Struct("<HHfB"), struct.Struct("<Bhh")


class Coder(Protocol):
    """An entropy coder of symbols, each by the table that its index names (`tables.cumulative`)."""

    def encode(
        self, symbols: np.ndarray, indexes: np.ndarray, cumulatives: Sequence[np.ndarray]
    ) -> bytes: ...

    def decode(
        self, data: bytes, indexes: np.ndarray, cumulatives: Sequence[np.ndarray]
    ) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveletFloor:
    """Quality is the quantiser's step on a scale of 0 to 255, less is better.

    Without a `coder` there are no bytes: `estimate` tells how many an ideal one would write.
    """

    name: str
    transform: Transform
    coder: Coder | None = None
    family: str = "laplace"  # of the coefficients, or "gauss"
    qualities: tuple[float, ...] = (100, 60, 36, 20, 10, 5)

    def missing(self) -> str | None:
        return self.transform.missing()

    def estimate(self, image: np.ndarray, quality: float) -> tuple[float, np.ndarray]:
        """The bits of a file, with -Σ log2 p for its symbols, and the decoded image."""
        image = check_image(image)
        head, bands, cumulatives, levels = self._analyse(image, quality)
        total = 8.0 * len(head)
        for band, table in zip(bands, cumulatives, strict=True):
            counts = np.bincount(band.ravel() - band.min(), minlength=len(table) - 1)
            total += tables.bits(counts, table)
        return total, self._synthesise(bands, image.shape[:2], quality, levels)

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        coder = self._coder()
        head, bands, cumulatives, _ = self._analyse(check_image(image), quality)
        symbols = np.concatenate([(band - band.min()).ravel() for band in bands])
        return head + coder.encode(symbols, _indexes([x.shape for x in bands]), cumulatives)

    def decode(self, data: bytes) -> np.ndarray:
        coder = self._coder()
        try:
            height, width, quality, family = HEAD.unpack_from(data)
            levels, shapes = self._shapes((height, width))
            rows = [BAND.unpack_from(data, HEAD.size + i * BAND.size) for i in range(len(shapes))]
            cumulatives = [tables.cumulative(*row, family=tables.FAMILIES[family]) for row in rows]
        except (struct.error, IndexError) as error:
            raise CodecError(f"{self.name} cannot decode {len(data)} bytes: {error}") from error
        body = data[HEAD.size + len(rows) * BAND.size :]
        symbols = coder.decode(body, _indexes(shapes), cumulatives)
        parts = np.split(symbols, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        bands = [
            part.reshape(shape) + low
            for part, shape, (_, low, _) in zip(parts, shapes, rows, strict=True)
        ]
        return self._synthesise(bands, (height, width), quality, levels)

    def _coder(self) -> Coder:
        if self.coder is None:
            raise CodecError(f"{self.name} has no coder: give coder=…, or ask for estimate()")
        return self.coder

    def _analyse(self, image: np.ndarray, quality: float):
        """The file's head, integer sub-bands, their tables, and the number of levels."""
        height, width = image.shape[:2]
        if not quality > 0:
            raise ValueError(f"quality is the quantiser's step and must be > 0, not {quality}")
        levels = _levels((height, width))
        ycbcr = to_ycbcr(image) * 255 - np.array([128, 0, 0], np.float32)
        bands = [
            np.rint(band / _step(channel, quality)).astype(np.int32)
            for channel in range(3)
            for band in self.transform.forward(ycbcr[..., channel], levels)
        ]
        rows = [
            (tables.best_scale(b, family=self.family), int(b.min()), int(b.max())) for b in bands
        ]
        try:
            head = HEAD.pack(height, width, quality, tables.FAMILIES.index(self.family))
            head += b"".join(BAND.pack(*row) for row in rows)
        except struct.error as error:
            raise CodecError(f"{self.name} cannot hold {image.shape}: {error}") from error
        return head, bands, [tables.cumulative(*r, family=self.family) for r in rows], levels

    def _synthesise(self, bands, shape: tuple[int, int], quality: float, levels: int):
        count = 1 + 3 * levels
        planes = [
            self.transform.inverse(
                [b.astype(np.float32) * _step(c, quality) for b in bands[c * count :][:count]],
                shape,
            )
            for c in range(3)
        ]
        return to_rgb((np.stack(planes, axis=-1) + np.array([128, 0, 0], np.float32)) / 255)

    def _shapes(self, shape: tuple[int, int]) -> tuple[int, list[tuple[int, ...]]]:
        levels = _levels(shape)
        bands = self.transform.forward(np.zeros(shape, np.float32), levels)
        return levels, 3 * [band.shape for band in bands]


def _levels(shape: tuple[int, int]) -> int:
    return min(LEVELS, int(math.log2(min(shape))))


def _step(channel: int, quality: float) -> np.float32:
    return np.float32(quality) * np.float32(CHROMA if channel else 1)  # as the head holds it


def _indexes(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Which table each symbol is coded by."""
    return np.repeat(np.arange(len(shapes)), [math.prod(shape) for shape in shapes])


def wavelet_floor(
    wavelet: str = "97", *, coder: Coder | None = None, jaxwt: bool = False
) -> WaveletFloor:
    """The floor with CDF 9/7 ("97") or "haar", by our own lifting or by jaxwt."""
    lifting = Lifting(wavelet)  # knows which names there are
    transform = Jaxwt({"haar": "haar", "97": "bior4.4"}[wavelet]) if jaxwt else lifting
    name = ("jaxwt-" if jaxwt else "wavelet-") + wavelet
    return WaveletFloor(name=name, transform=transform, coder=coder)
