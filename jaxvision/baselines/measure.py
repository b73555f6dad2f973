"""Measures codecs on images, into rows of a CSV file that an interrupted run goes on with."""

import csv
import dataclasses
import io
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.baselines.codec import Codec, CodecError
from jaxvision.baselines.floor import WaveletFloor
from jaxvision.metrics.image_quality import LEAST, ms_ssim, psnr

FILE, ESTIMATE = "file", "estimate"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One image through one codec at one setting."""

    codec: str
    setting: str
    image: str
    checksum: str  # of the pixels: a result belongs to them, whatever the file is called
    bpp: float
    psnr: float
    ms_ssim: float  # NaN where the image is too small for it
    encode_ms: float
    decode_ms: float  # NaN where nothing was decoded
    rate: str  # FILE: bytes that were written and decoded; ESTIMATE: what an ideal coder would

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        return self.codec, self.setting, self.image, self.checksum, self.rate

    @property
    def label(self) -> str:
        """The codec's name in tables and figures: no estimate passes for a file."""
        return f"{self.codec} (estimate)" if self.rate == ESTIMATE else self.codec


COLUMNS = {
    "codec": "Codec",
    "setting": "Setting",
    "image": "Image",
    "checksum": "CRC-32",
    "bpp": "BPP",
    "psnr": "PSNR",
    "ms_ssim": "MS-SSIM",
    "encode_ms": "encode ms",
    "decode_ms": "decode ms",
    "rate": "Rate",
}
NUMBERS = ("bpp", "psnr", "ms_ssim", "encode_ms", "decode_ms")


def measure(codec: Codec, image: np.ndarray, quality: float, *, name: str) -> Row:
    """Encodes and decodes `image`, which the row calls `name`."""
    begin = time.perf_counter()
    if rate_of(codec) == ESTIMATE:
        bits, decoded = codec.estimate(image, quality)
        encode, decode = time.perf_counter() - begin, np.nan
    else:
        data = codec.encode(image, quality)
        middle = time.perf_counter()
        decoded = codec.decode(data)
        encode, decode = middle - begin, time.perf_counter() - middle
        bits = 8 * len(data)
    if decoded.shape != image.shape:
        raise CodecError(f"{codec.name} made {decoded.shape} of an image of {image.shape}")
    ratio, similarity = quality_of(image, decoded)
    return Row(
        codec=codec.name,
        setting=f"{quality:g}",
        image=name,
        checksum=checksum(image),
        bpp=bits / (image.shape[0] * image.shape[1]),
        psnr=ratio,
        ms_ssim=similarity,
        encode_ms=1000 * encode,
        decode_ms=1000 * decode,
        rate=rate_of(codec),
    )


def rate_of(codec: Codec) -> str:
    """Whether a codec's bits are those of a file."""
    return ESTIMATE if isinstance(codec, WaveletFloor) and codec.coder is None else FILE


def checksum(image: np.ndarray) -> str:
    """CRC-32 of the pixels."""
    return f"{zlib.crc32(np.ascontiguousarray(image)):08x}"


def quality_of(image: np.ndarray, decoded: np.ndarray) -> tuple[float, float]:
    """PSNR and MS-SSIM of `uint8 [h w c]`; MS-SSIM is NaN for an image too small."""
    if min(image.shape[:2]) < LEAST:
        return float(_psnr(image, decoded)), np.nan
    ratio, similarity = _both(image, decoded)
    return float(ratio), float(similarity)


def _real(image: jax.Array) -> jax.Array:
    return image[None].astype(jnp.float32) / 255


@jax.jit
def _psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    return psnr(_real(a), _real(b))[0]


@jax.jit
def _both(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return psnr(_real(a), _real(b))[0], ms_ssim(_real(a), _real(b))[0]


class Results:
    """Rows in a CSV file; what it holds already is kept, and every new row is written at once."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.rows = {row.key: row for row in self._read()}

    def add(self, row: Row) -> None:
        values = dataclasses.asdict(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(
                f"{value:.7g}" if isinstance(value, float) else value for value in values.values()
            )
        self.rows[row.key] = row

    def _read(self) -> list[Row]:
        header = ",".join(COLUMNS.values())
        if not self.path.exists() or not self.path.stat().st_size:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(f"{header}\r\n".encode())
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # the last row of a run that was killed may be cut
        first, *lines = list(csv.reader(io.StringIO(whole.decode("utf-8", errors="replace")))) or [
            []
        ]
        if first != list(COLUMNS.values()):
            raise ValueError(
                f"{self.path} does not begin with {header}: it is no result of this program; "
                "give another --output"
            )
        if whole != data:
            self.path.write_bytes(whole)
        return [self._row(number, line) for number, line in enumerate(lines, 2)]

    def _row(self, number: int, line: Sequence[str]) -> Row:
        try:
            values = dict(zip(COLUMNS, line, strict=True))
            return Row(**values | {key: float(values[key]) for key in NUMBERS})
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}: {line} is no row ({error})") from error
