"""The file: a header that says what is in it and of which model, then substreams, coarse to fine.

    4 bytes   "WVMV"
    byte      version, 1
    byte      flags: 2, coded in tensorflow-compression's format
    8 bytes   beginning of the model's hash
    varint    height, width, quality (in 256ths)
    byte      substreams
    varint    bytes of each
    4 bytes   of each substream the CRC-32 of its symbols, little endian
    4 bytes   CRC-32 of all before
    …         the substreams

The header must be whole. Of the substreams a prefix is enough for a smaller picture.
"""

import dataclasses
import zlib

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.varint import read_varint, write_varint

MAGIC, VERSION = b"WVMV", 1
TFC = 2  # a flag
HASH = 8  # bytes of the model's
LARGEST = 1 << 16  # of a side: what is longer is a broken header
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

    @property
    def coder(self) -> str:
        return "tfc" if self.flags & TFC else "rans"

    def __post_init__(self):
        if self.flags & ~TFC:
            raise BitstreamError(f"flags {self.flags} ask for what this program does not know")
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise BitstreamError(f"{name} {getattr(self, name)} is not from 1 to {LARGEST}")


def write(header: Header, streams: list[bytes]) -> bytes:
    head = MAGIC + bytes([VERSION, header.flags]) + header.model
    for number in (header.height, header.width, round(QUALITY * header.quality)):
        head += write_varint(number)
    head += bytes([len(streams)]) + b"".join(map(write_varint, map(len, streams)))
    head += np.array(header.checksums, "<u4").tobytes()
    return head + zlib.crc32(head).to_bytes(4, "little") + b"".join(streams)


def read(data: bytes) -> tuple[Header, list[bytes]]:
    """The header, and as many whole substreams as there are."""
    if not data:
        raise BitstreamError("the file is empty")
    if data[:4] != MAGIC[: len(data)]:
        raise BitstreamError(
            f"the file begins with {data[:4]!r}, not with {MAGIC!r}: another format"
        )
    if len(data) < 6 + HASH:
        raise BitstreamError(f"the file is cut off within its header, at {len(data)} bytes")
    if data[4] != VERSION:
        raise BitstreamError(f"the file is of version {data[4]}; this program reads {VERSION}")
    flags, model, at = data[5], data[6 : 6 + HASH], 6 + HASH
    try:
        numbers = []
        for _ in range(3):
            number, at = read_varint(data, at)
            numbers.append(number)
        count, at = data[at], at + 1
        lengths = []
        for _ in range(count):
            length, at = read_varint(data, at)
            lengths.append(length)
    except (IndexError, BitstreamError) as error:
        raise BitstreamError("the file is cut off within its header, or damaged there") from error
    checksums = (
        np.frombuffer(data[at : at + 4 * count], "<u4") if len(data) >= at + 4 * count else ()
    )
    at += 4 * count
    if len(data) < at + 4:
        raise BitstreamError(f"the file is cut off within its header, at {len(data)} bytes")
    if zlib.crc32(data[:at]) != int.from_bytes(data[at : at + 4], "little"):
        raise BitstreamError("the header is damaged: its checksum is wrong")
    header = Header(
        model=model,
        height=numbers[0],
        width=numbers[1],
        quality=numbers[2] / QUALITY,
        flags=flags,
        lengths=tuple(lengths),
        checksums=tuple(map(int, checksums)),
    )
    at, streams = at + 4, []
    for length in lengths:
        if at + length > len(data):
            return header, streams
        streams.append(data[at : at + length])
        at += length
    if at < len(data):
        raise BitstreamError(f"{len(data) - at} bytes follow the end of the picture")
    return header, streams


def checksum(symbols: np.ndarray) -> int:
    """CRC-32 of whole numbers, as int32 in order."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i4").tobytes())
