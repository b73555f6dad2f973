"""The units of AV1 streams: where frames begin in them, and what their headers say of a sequence.

AV1 Bitstream & Decoding Process Specification (2019), 5.3 (units), 5.5 (sequence headers) and 5.9.2
(the first bits of frame headers). Streams are in the low-overhead format, as in IVF files.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, TILE_GROUP = 1, 2, 3, 4
FRAME, REDUNDANT_HEADER, TILE_LIST = 6, 7, 8
FRAMES = (FRAME, FRAME_HEADER)  # what a frame begins with
DELIMITER = bytes([TEMPORAL_DELIMITER << 3 | 2, 0])
KEY, SRGB, IDENTITY = 0, 13, 0  # a frame's type; transfer characteristics; a matrix
SUBSAMPLING = {(1, 1): "420", (1, 0): "422", (0, 0): "444"}


class Unit(NamedTuple):
    """A unit of `data[begin:end]`, with its payload from `payload` on, and its layers."""

    kind: int
    begin: int
    payload: int
    end: int
    temporal: int
    spatial: int


@dataclasses.dataclass(frozen=True)
class Sequence:
    """What a sequence header says of all frames; `subsampling` is "420", "422" or "444"."""

    width: int
    height: int
    depth: int
    monochrome: bool
    subsampling: str
    superblock: int  # pixels
    reduced: bool  # of one picture, whose frame header leaves out what follows from that
    layers: int  # what is decoded: a bit for each of 8 temporal and 4 spatial layers; 0 for all


class FrameStart(NamedTuple):
    """The first bits of a frame header: an earlier frame shown again, or a new one."""

    existing: bool
    key: bool
    shown: bool


def units(data: bytes) -> Iterator[Unit]:
    """The units of a stream or a part of it; ValueError, with the offset, where there is none."""
    at = 0
    while at < len(data):
        begin, head = at, data[at]
        if head & 0x81:
            raise ValueError(f"byte {at}: {head:#04x} begins no unit of AV1")
        kind, extended, sized = head >> 3 & 15, head >> 2 & 1, head >> 1 & 1
        at += 1 + extended
        if at > len(data):
            raise ValueError(f"byte {begin}: the header of a unit is cut off")
        layers = data[begin + 1] if extended else 0
        size = len(data) - at
        if sized:
            size, at = _leb128(data, at)
        if at + size > len(data):
            raise ValueError(f"byte {begin}: a unit of {size} bytes is cut off at {len(data)}")
        yield Unit(kind, begin, at, at + size, layers >> 5, layers >> 3 & 3)
        at += size


def frames_of(temporal_unit: bytes) -> list[bytes]:
    """The unit in pieces of one frame each; what precedes a frame is with it.

    An earlier frame that is shown again is a piece of its own.
    """
    cuts, last = [], 0
    for unit in units(temporal_unit):
        if unit.kind in FRAMES:
            cuts.append(last)
        if unit.kind in (*FRAMES, REDUNDANT_HEADER, TILE_GROUP):
            last = unit.end
    cuts = [0, *cuts[1:], len(temporal_unit)]
    return [temporal_unit[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


def frame_start(payload: bytes, *, reduced: bool) -> FrameStart:
    """What the header of a frame begins with; `reduced` is of its sequence."""
    if reduced:
        return FrameStart(existing=False, key=True, shown=True)
    bits = Bits(payload)
    if bits.take(1):
        return FrameStart(existing=True, key=False, shown=True)
    return FrameStart(existing=False, key=bits.take(2) == KEY, shown=bool(bits.take(1)))


def sequence(data: bytes) -> Sequence:
    """What the first sequence header of a stream says; ValueError if there is none."""
    for unit in units(data):
        if unit.kind == SEQUENCE_HEADER:
            return parsed(data[unit.payload : unit.end])
    raise ValueError(f"{len(data)} bytes hold no sequence header: the stream begins before them")


class Bits:
    """Bits of bytes, the highest first; ValueError after the last."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> int:
        end = self.at + count
        if end > 8 * len(self.data):
            raise ValueError(f"a header of {len(self.data)} bytes is cut off")
        first, last = self.at // 8, -(-end // 8)
        value = int.from_bytes(self.data[first:last], "big") >> 8 * last - end
        self.at = end
        return value & (1 << count) - 1

    def skip_variable(self) -> None:
        """A number that begins with as many zeros as it has bits after its first one."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        if zeros < 32:
            self.take(zeros)


def parsed(payload: bytes) -> Sequence:
    """A sequence header; ValueError where it is cut off or of a profile that is none."""
    bits = Bits(payload)
    profile = bits.take(3)
    if profile > 2:
        raise ValueError(f"a sequence header of profile {profile}, which AV1 does not have")
    bits.take(1)
    reduced = bool(bits.take(1))
    layers = 0
    if reduced:
        bits.take(5)
    else:
        layers = _operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(across) + 1, bits.take(down) + 1
    if not reduced and bits.take(1):  # numbers of frames
        bits.take(7)
    superblock = 128 if bits.take(1) else 64
    bits.take(2)
    if not reduced:
        _tools(bits)
    bits.take(3)
    depth, monochrome, subsampling = _colours(bits, profile)
    return Sequence(width, height, depth, monochrome, subsampling, superblock, reduced, layers)


def _operating_points(bits: Bits) -> int:
    """Times, and the layers of the points at which the stream can be decoded: those of point 0."""
    modelled, delay = 0, 0
    if bits.take(1):
        bits.take(64)
        if bits.take(1):
            bits.skip_variable()
        modelled = bits.take(1)
        if modelled:
            delay = bits.take(5) + 1
            bits.take(42)
    displayed, first = bits.take(1), 0
    for point in range(bits.take(5) + 1):
        layers = bits.take(12)
        first = layers if point == 0 else first
        if bits.take(5) > 7:
            bits.take(1)
        if modelled and bits.take(1):
            bits.take(2 * delay + 1)
        if displayed and bits.take(1):
            bits.take(4)
    return first


def _tools(bits: Bits) -> None:
    bits.take(4)
    ordered = bits.take(1)
    if ordered:
        bits.take(2)
    screen = 2 if bits.take(1) else bits.take(1)
    if screen and not bits.take(1):
        bits.take(1)
    if ordered:
        bits.take(3)


def _colours(bits: Bits, profile: int) -> tuple[int, bool, str]:
    """Depth, whether there is no chroma, and its subsampling."""
    high = bits.take(1)
    depth = 8 + 2 * high
    if profile == 2 and high:
        depth += 2 * bits.take(1)
    monochrome = bool(profile != 1 and bits.take(1))
    colours = (bits.take(8), bits.take(8), bits.take(8)) if bits.take(1) else (2, 2, 2)
    if monochrome:
        return depth, True, "420"
    if colours == (1, SRGB, IDENTITY):
        return depth, False, "444"
    bits.take(1)
    shifts = {0: (1, 1), 1: (0, 0), 2: (1, 0)}[profile]
    if depth == 12:
        across = bits.take(1)
        shifts = (across, bits.take(1) if across else 0)
    return depth, False, SUBSAMPLING[shifts]


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A size, and where it ends."""
    value = 0
    for k in range(8):
        if at + k >= len(data):
            raise ValueError(f"byte {at}: the size of a unit is cut off")
        value |= (data[at + k] & 127) << 7 * k
        if not data[at + k] & 128:
            return value, at + k + 1
    raise ValueError(f"byte {at}: the size of a unit has more than 8 bytes")
