"""Elias gamma codes with a sign, as bytes.

A number n other than 0 becomes k zero bits, the k + 1 bits of |n| from the highest, and 1 if n is
negative, else 0. The highest bit of a byte comes first; zero bits fill the last byte. Elias 1975
(doi 10.1109/TIT.1975.1055349).
"""

import numpy as np

from jaxvision.entropy.errors import BitstreamError

LONGEST = 40  # bits of |n|; distances between int32 have 33 at most


def encode_gamma(numbers: np.ndarray) -> bytes:
    """Bytes of integers `[n]`, none of them 0, each of at most 40 bits."""
    numbers = np.asarray(numbers, np.int64)
    size = abs(numbers)
    if size.size and not 1 <= size.min() <= size.max() < 1 << LONGEST:
        raise ValueError(f"|numbers| {size.min()} … {size.max()} lie outside 1 … 2^{LONGEST} - 1")
    length = 2 * np.frexp(size.astype(np.float64))[1].astype(np.int64)
    ends = np.cumsum(length)
    places = np.repeat(ends, length) - np.arange(1, length.sum() + 1)  # bits to the right
    codes = np.repeat(size << 1 | (numbers < 0), length)
    return np.packbits((codes >> np.minimum(places, 63) & 1).astype(np.uint8)).tobytes()


def decode_gamma(data: bytes, count: int) -> np.ndarray:
    """`count` numbers, int64, that fill `data` but for the zero bits of its last byte."""
    reader = Reader(data)
    numbers = reader.read(count)
    reader.finish()
    return numbers


class Reader:
    """Numbers out of `data`, some at a time."""

    def __init__(self, data: bytes):
        self._text = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def read(self, count: int) -> np.ndarray:
        """The next `count` numbers, int64."""
        text, place, numbers = self._text, self._place, np.empty(count, np.int64)
        for i in range(count):
            first = text.find("1", place)
            end = 2 * first - place + 1  # where the sign is
            if first < 0 or end >= len(text):
                raise BitstreamError(f"escaped value {i} of {count} is cut off")
            if first - place >= LONGEST:
                raise BitstreamError(f"escaped value {i} has {first - place + 1} bits")
            size = int(text[first:end], 2)
            numbers[i] = -size if text[end] == "1" else size
            place = end + 1
        self._place = place
        return numbers

    def finish(self) -> None:
        """BitstreamError unless only the zero bits of the last byte are left."""
        left = self._text[self._place :]
        if len(left) >= 8 or "1" in left:
            raise BitstreamError(f"{len(left)} bits follow the last escaped value")
