"""Files of clips: each frame a picture's file of its own, with an index, so that any can be found.

4 bytes   "WVMC"
byte      version, 1
varint    bytes of the clip's Y4M header, and these
varint    frames
varint    bytes of each
4 bytes   CRC-32 of all before
…         the frames (`container`)
"""

import zlib
from collections.abc import Sequence

import numpy as np

from jaxvision.data import y4m
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.varint import write_varint
from jaxvision.wavenet_mv.container import check_beginning, check_header, read_varints

MAGIC, VERSION = b"WVMC", 1


def is_clip(data: bytes) -> bool:
    return data[:4] == MAGIC


def write(header: y4m.Header, frames: Sequence[bytes]) -> bytes:
    head = MAGIC + bytes([VERSION]) + write_varint(len(header.line)) + header.line
    head += write_varint(len(frames)) + b"".join(write_varint(len(frame)) for frame in frames)
    head += np.array([zlib.crc32(frame) for frame in frames], "<u4").tobytes()
    return head + zlib.crc32(head).to_bytes(4, "little") + b"".join(frames)


def read(data: bytes) -> tuple[y4m.Header, list[bytes], int]:
    """The header, as many whole frames as there are, and how many there should be."""
    check_beginning(data, MAGIC, VERSION)
    try:
        (length,), at = read_varints(data, 5, 1)
        line, at = data[at : at + length], at + length
        (count,), at = read_varints(data, at, 1)
        lengths, at = read_varints(data, at, count)
    except BitstreamError as error:
        raise BitstreamError("the clip is cut off within its header, or damaged there") from error
    checksums = data[at : at + 4 * count]
    at += 4 * count
    check_header(data, at)
    try:
        header = y4m.parsed(line)
    except ValueError as error:
        raise BitstreamError(str(error)) from error
    at, frames = at + 4, []
    checks = np.frombuffer(checksums, "<u4").tolist()
    for number, (length, check) in enumerate(zip(lengths, checks, strict=True)):
        if at + length > len(data):
            return header, frames, count
        frames.append(data[at : at + length])
        if zlib.crc32(frames[-1]) != check:
            raise BitstreamError(f"frame {number} is damaged: its checksum is wrong")
        at += length
    if at < len(data):
        raise BitstreamError(f"{len(data) - at} bytes follow the end of the clip")
    return header, frames, count


def frame(data: bytes, number: int) -> bytes:
    """The file of one frame, counted from 0."""
    _, frames, count = read(data)
    if not 0 <= number < count:
        raise ValueError(f"frame={number} must be from 0 to {count - 1}")
    if number >= len(frames):
        raise BitstreamError(f"the clip is cut off, before the end of frame {number}")
    return frames[number]
