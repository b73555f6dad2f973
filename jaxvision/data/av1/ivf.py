"""Files of AV1 streams: IVF, and the plain sequence of units, `.obu` ("Section 5").

IVF is a header of 32 bytes, then for each temporal unit its size (32 bits), its time (64 bits) and
its bytes; numbers are little-endian.
"""

import contextlib
import dataclasses
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from jaxvision.data.av1 import obu
from jaxvision.data.av1.structs import Packet
from jaxvision.written import whole_file

# Magic, version, length of the header, codec, width, height, rate, scale, frames, unused.
HEADER = struct.Struct("<4sHH4sHHIIII")
UNIT = struct.Struct("<IQ")
MAGIC, CODEC = b"DKIF", b"AV01"
NOT_SAID = 0xFFFFFFFF  # of muxers that cannot go back to the header


@dataclasses.dataclass(frozen=True)
class IvfHeader:
    """`rate` is frames a second, a ratio. `frames` is what the file says; 0 if it does not."""

    width: int
    height: int
    rate: tuple[int, int]
    frames: int


def write_ivf(
    target: str | Path | BinaryIO,
    packets: Iterable[Packet],
    *,
    width: int,
    height: int,
    rate: tuple[int, int] = (30, 1),
) -> int:
    """Writes a stream to a path, whole or not at all, or to a file that can seek.

    Returns:
      The number of its temporal units.
    """
    if not (1 <= width <= 65535 and 1 <= height <= 65535):
        raise ValueError(f"frames of {width}×{height} are not of 1 to 65535 a side")
    if min(rate) < 1 or max(rate) >= 1 << 32:
        raise ValueError(f"rate={rate} is no ratio of frames a second")
    with _opened(target) as file:
        begin, count = file.tell(), 0
        head = (MAGIC, 0, HEADER.size, CODEC, width, height, *rate)
        file.write(HEADER.pack(*head, 0, 0))
        for packet in packets:
            file.write(UNIT.pack(len(packet.data), packet.pts) + packet.data)
            count += 1
        file.seek(begin)
        file.write(HEADER.pack(*head, count, 0))
        file.seek(0, os.SEEK_END)
    return count


def read_ivf(path: str | Path) -> tuple[IvfHeader, Iterator[Packet]]:
    """The header, and the temporal units one at a time.

    Raises:
      ValueError: with the path, for a file that is no IVF of AV1; while units are taken, with the
        offset, for one that is cut off or damaged.
    """
    path = Path(path)
    with path.open("rb") as file:
        data = file.read(HEADER.size)
    if data[:4] != MAGIC:
        raise ValueError(f"{path}: begins with {data[:4]!r}, not with {MAGIC.decode()!r}")
    if len(data) < HEADER.size:
        raise ValueError(f"{path}: the header is cut off at byte {len(data)} of {HEADER.size}")
    _, version, length, codec, width, height, rate, scale, frames, _ = HEADER.unpack(data)
    if codec != CODEC:
        raise ValueError(f"{path}: the codec is {codec!r}, not AV1 ({CODEC.decode()!r})")
    if version or length < HEADER.size:
        raise ValueError(f"{path}: version {version} with a header of {length} bytes is not known")
    header = IvfHeader(width, height, (rate, scale), 0 if frames == NOT_SAID else frames)
    return header, _ivf_units(path, length, header.frames)


def read_stream(path: str | Path) -> tuple[IvfHeader, Iterator[Packet]]:
    """As `read_ivf`, also of `.obu` files; the kind is told by the first bytes, not the name."""
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start == MAGIC:
        return read_ivf(path)
    if start[:2] != obu.DELIMITER:
        raise ValueError(
            f"{path}: begins with {start!r}, neither an IVF file nor AV1 units; of other containers"
            " take the stream out: ffmpeg -i FILE -c:v copy stream.ivf"
        )
    data = path.read_bytes()
    try:
        cuts = [u.begin for u in obu.units(data) if u.kind == obu.TEMPORAL_DELIMITER]
        sequence = obu.sequence(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    pieces = [data[a:b] for a, b in zip(cuts, [*cuts[1:], len(data)], strict=True)]
    header = IvfHeader(sequence.width, sequence.height, (30, 1), len(pieces))
    return header, (_packet(i, piece) for i, piece in enumerate(pieces))


def _ivf_units(path: Path, at: int, said: int) -> Iterator[Packet]:
    with path.open("rb") as file:
        file.seek(at)
        number = 0
        while head := file.read(UNIT.size):
            where = f"{path}: temporal unit {number} at byte {at}"
            if len(head) < UNIT.size:
                raise ValueError(f"{where} is cut off")
            size, pts = UNIT.unpack(head)
            left = os.fstat(file.fileno()).st_size - file.tell()
            if size > left:
                raise ValueError(f"{where} is cut off: {left} of {size} bytes are there")
            data = file.read(size)
            try:
                yield _packet(pts, data)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            at += UNIT.size + size
            number += 1
    if number < said:
        raise ValueError(
            f"{path}: has {number} temporal units, not {said} as its header says: it is cut off; "
            "if it is the header that is wrong, ffmpeg -i FILE -c:v copy OTHER.ivf writes it anew"
        )


def _packet(pts: int, data: bytes) -> Packet:
    """With a key frame are the units with a sequence header whose first frame is one."""
    reduced = None
    for unit in obu.units(data):
        payload = data[unit.payload : unit.end]
        if unit.kind == obu.SEQUENCE_HEADER:
            reduced = obu.parsed(payload).reduced
        elif unit.kind in obu.FRAMES:
            key = reduced is not None and obu.frame_start(payload, reduced=reduced).key
            return Packet(pts, data, key)
    return Packet(pts, data, False)


@contextlib.contextmanager
def _opened(target: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(target, str | Path):
        with whole_file(Path(target)) as part, part.open("wb") as file:
            yield file
    else:
        yield target
