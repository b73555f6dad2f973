"""The file: a header that says what is in it and of which model, then substreams, coarse to fine.

    4 bytes   "WVMV"
    byte      version, 3
    byte      flags: 1, lossless; 2, coded in tensorflow-compression's format
    8 bytes   beginning of the model's hash; of a lossless file, of its tables'
    varint    height, width, quality (in 256ths), tile
    varint    substreams
    varint    bytes of each substream
    2 bytes   CRC-32 of the symbols of each substream, its lower half: rANS checks itself besides
              (4 bytes, all of it, in tensorflow-compression's format, which does not, and of a
              lossless file, whose predictions' parameters rANS does not see)
    4 bytes   CRC-32 of all before; numbers are little endian
    …         the substreams

`tile` is the side of the squares that the picture is coded in, 0 where it is one piece. There is a
substream for each level of each tile, sorted by level, then by tile, row by row. The header must be
whole. Of the substreams a prefix is enough for a smaller picture.
"""

import dataclasses
import zlib

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.varint import read_varint, write_varint

MAGIC, VERSION = b"WVMV", 3
LOSSLESS, TFC = 1, 2  # flags
HASH = 8  # bytes of the model's
LARGEST = 1 << 16  # of a side: what is longer is a broken header
MOST = 1 << 22  # pixels of a tile, so that no header can ask for more memory at once
DENSEST = 1 << 18  # pixels a byte can stand for: a symbol takes 2^-16 bits at least
DENSEST_LOSSLESS = 1 << 14  # a tile has 45 strings of 7 bytes or more, and MOST pixels at most
QUALITY = 256  # parts of a step between two qualities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    model: bytes
    height: int
    width: int
    quality: float
    flags: int
    lengths: tuple[int, ...]
    checksums: tuple[int, ...]
    tile: int = 0

    @property
    def coder(self) -> str:
        return "tfc" if self.flags & TFC else "rans"

    @property
    def lossless(self) -> bool:
        return bool(self.flags & LOSSLESS)

    def __post_init__(self):
        if len(self.checksums) != len(self.lengths):
            raise ValueError(f"{len(self.checksums)} checksums of {len(self.lengths)} substreams")
        if self.flags not in (0, LOSSLESS, TFC):
            raise BitstreamError(f"flags {self.flags} ask for what this program does not know")
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise BitstreamError(f"{name} {getattr(self, name)} is not from 1 to {LARGEST}")
        sides = [min(n, self.tile or n) for n in (self.height, self.width)]
        if sides[0] * sides[1] > MOST:
            raise BitstreamError(f"a tile of {sides[0]}×{sides[1]} has more than {MOST} pixels")


def write(header: Header, streams: list[bytes]) -> bytes:
    head = MAGIC + bytes([VERSION, header.flags]) + header.model
    for number in (header.height, header.width, round(QUALITY * header.quality), header.tile):
        head += write_varint(number)
    head += write_varint(len(streams)) + b"".join(map(write_varint, map(len, streams)))
    head += np.array(header.checksums, _check(header.flags)).tobytes()
    return head + zlib.crc32(head).to_bytes(4, "little") + b"".join(streams)


def read(data: bytes) -> tuple[Header, list[bytes]]:
    """The header, and as many whole substreams as there are."""
    check_beginning(data, MAGIC, VERSION)
    if len(data) < 6 + HASH:
        raise BitstreamError(f"the file is cut off within its header, at {len(data)} bytes")
    flags, model = data[5], data[6 : 6 + HASH]
    try:
        numbers, at = read_varints(data, 6 + HASH, 5)
        *numbers, count = numbers
        lengths, at = read_varints(data, at, count)
    except BitstreamError as error:
        raise BitstreamError("the file is cut off within its header, or damaged there") from error
    end = at + _check(flags).itemsize * count
    check_header(data, end)
    header = Header(
        model=model,
        height=numbers[0],
        width=numbers[1],
        quality=numbers[2] / QUALITY,
        tile=numbers[3],
        flags=flags,
        lengths=tuple(lengths),
        checksums=tuple(np.frombuffer(data[at:end], _check(flags)).tolist()),
    )
    densest = DENSEST_LOSSLESS if header.lossless else DENSEST
    if header.height * header.width > densest * (sum(lengths) + end):
        raise BitstreamError(
            f"{sum(lengths)} bytes of substreams cannot hold {header.width}×{header.height} pixels"
        )
    at, streams = end + 4, []
    for length in lengths:
        if at + length > len(data):
            return header, streams
        streams.append(data[at : at + length])
        at += length
    if at < len(data):
        raise BitstreamError(f"{len(data) - at} bytes follow the end of the picture")
    return header, streams


def check_beginning(data: bytes, magic: bytes, version: int) -> None:
    """BitstreamError for a file that is empty, of another format or of another version."""
    if not data:
        raise BitstreamError("the file is empty")
    if data[:4] != magic[: len(data)]:
        raise BitstreamError(
            f"the file begins with {data[:4]!r}, not with {magic!r}: another format"
        )
    if len(data) > 4 and data[4] != version:
        raise BitstreamError(f"the file is of version {data[4]}; this program reads {version}")


def check_header(data: bytes, end: int) -> None:
    """BitstreamError unless the CRC-32 of all before follows at byte `end`."""
    if len(data) < end + 4:
        raise BitstreamError(f"the file is cut off within its header, at {len(data)} bytes")
    if zlib.crc32(data[:end]) != int.from_bytes(data[end : end + 4], "little"):
        raise BitstreamError("the header is damaged: its checksum is wrong")


def read_varints(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """So many numbers from byte `at`, and where they end; each takes a byte at least."""
    if count > len(data) - at:
        raise BitstreamError(f"{count} numbers in {len(data) - at} bytes")
    numbers = []
    for _ in range(count):
        number, at = read_varint(data, at)
        numbers.append(number)
    return numbers, at


def checksum(symbols: np.ndarray, flags: int) -> int:
    """CRC-32 of whole numbers, as int32 in order, or its lower half."""
    whole = zlib.crc32(np.ascontiguousarray(symbols, "<i4").tobytes())
    return whole % (1 << 8 * _check(flags).itemsize)


def _check(flags):
    return np.dtype("<u4" if flags & (TFC | LOSSLESS) else "<u2")
