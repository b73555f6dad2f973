"""Small clips for tests of AV1 streams, and the libraries that are there to code them."""

import functools

import numpy as np

from jaxvision.data.av1 import library
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.structs import Packet, load

QUICK = LABEL_OPTIONS | {"cpu-used": 6, "cq-level": 20}
HIDDEN = {"cpu-used": 6, "cq-level": 30, "lag-in-frames": 19, "sb-size": 64}


def frame(width, height, depth, time=0):
    """A frame of a moving texture: a smooth half, a mottled half, and bars that move."""
    row, col = np.mgrid[:height, :width]
    luma = 90 + 40 * np.sin((col + 3 * time) / 9) * np.cos(row / 13)
    luma += 25 * ((row + time) // 17 % 2) + (row * 37 + col * 61) % 23 * (col > width // 2)
    half = np.mgrid[: (height + 1) // 2, : (width + 1) // 2].sum(0) % 16
    dtype, step = (np.uint8, 1) if depth == 8 else (np.uint16, 4)
    planes = (luma, 120 + half, 130 - half)
    return tuple((plane * step).astype(dtype) for plane in planes)


def clip(width, height, depth, count):
    return [frame(width, height, depth, time) for time in range(count)]


@functools.cache
def libraries():
    """Of each place where a libaom may be, those that are there."""
    found = {}
    for place in library.places():
        try:
            one = load(place)
        except library.AomError:
            continue
        found.setdefault(one.version, one)
    return tuple(found.values())


@functools.cache
def stream(width=96, height=80, depth=10, count=2, hidden=False) -> tuple[Packet, ...]:
    """A clip as the first library codes it: key frames, or frames with hidden ones among them."""
    options = HIDDEN if hidden else QUICK
    frames = clip(width, height, depth, count)
    return tuple(
        encode_clip(
            libraries()[0], frames, depth=depth, options=options, key_frames_only=not hidden
        )
    )


class BitWriter:
    """Bits to bytes, to make headers that no encoder at hand writes."""

    def __init__(self):
        self.bits = ""

    def put(self, count, value=0):
        self.bits += format(value, f"0{count}b")
        return self

    def bytes(self):
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")
