"""The stream of CompressAI's rANS coder, byte for byte, and its way to integer tables.

Written from a description of the format, and held against a string and the tables of version 1.2.8
(tests/golden). One state of 64 bits and words of 32, after Giesen's rans64:

- The stream: the state, 8 bytes, then words up to the end, all little endian. States lie in
  2^31 … 2^63 - 1; decoding ends in 2^31, with no word left.
- A symbol of the span a … b out of 2^16 is decoded by slot = x mod 2^16 and
  x = (b - a) * (x >> 16) + slot - a; then, if x < 2^31, x = x << 32 | word.
- A value without a symbol is the last symbol of its row, then nibbles, each a uniform symbol of 4
  bits. Let d be 1 for the value next to the row's last, 2 for the one after it, and so on, and
  m = 2 (d - 1); likewise below, with m = 2 d - 1. First comes the number of nibbles of m, as so
  many 15 as fit and the rest, then those of m, lowest first.
"""

import math
import struct

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.escape import escapes, merge, split
from jaxvision.entropy.tables import Tables

LOW, WORD, NIBBLE = 1 << 31, 1 << 32, 4
LONGEST = 9  # nibbles of twice a distance between int32


def encode_values(values: np.ndarray, index: np.ndarray, tables: Tables) -> bytes:
    """The string of int32 values of any shape, each by the row that `index` names."""
    symbols, rows, beyond = split(values, index, _of_16_bits(tables))
    outside = escapes(symbols, rows, tables).tolist()
    spans = zip(*(span.tolist() for span in tables.spans(symbols, rows)), strict=True)
    distances, operations = iter(beyond.tolist()), []
    for span, escaped in zip(spans, outside, strict=True):
        operations.append((*span, 16))
        if escaped:
            operations += [(nibble, 1, NIBBLE) for nibble in _nibbles(next(distances))]
    x, words = LOW, []
    for start, frequency, precision in reversed(operations):
        if x >= frequency << 63 - precision:
            words.append(x % WORD)
            x >>= 32
        x = (x // frequency << precision) + x % frequency + start
    return struct.pack(f"<Q{len(words)}I", x, *reversed(words))


def decode_values(data: bytes, index: np.ndarray, tables: Tables) -> np.ndarray:
    """The values, int32, in the shape of `index`; BitstreamError for bytes that do not fit it."""
    rows = _of_16_bits(tables).rows(index)
    coder, symbols, beyond = _Decoder(data), [], []
    escape = (tables.length - 1).tolist()
    lookup, steps = (memoryview(x.reshape(-1)) for x in (tables.lookup, tables.steps))
    for row in rows.tolist():
        slot = row << 16 | coder.state & 0xFFFF
        step = steps[slot]
        coder.take((step >> 16) + 1, step & 0xFFFF, 16)
        symbols.append(lookup[slot])
        if symbols[-1] == escape[row]:
            beyond.append(coder.distance())
    coder.finish()
    values = merge(np.array(symbols, np.int32), rows, np.array(beyond, np.int64), tables)
    return values.reshape(np.shape(index))


def from_padded(cdf: np.ndarray, length: np.ndarray, offset: np.ndarray) -> Tables:
    """The tables of a model's buffers `_quantized_cdf`, `_cdf_length` and `_offset`."""
    cdf, symbols = np.array(cdf), np.asarray(length) - 1  # theirs counts the edges
    if cdf.ndim != 2 or symbols.shape != cdf[:, 0].shape:
        raise ValueError(f"cdf {cdf.shape} and length {symbols.shape} are not [k w], [k]")
    cdf[np.arange(cdf.shape[1]) > symbols[:, None]] = 1 << 16  # theirs are padded with zeros
    return Tables(cdf, symbols, offset)


def _of_16_bits(tables: Tables) -> Tables:
    if tables.precision != 16:
        raise ValueError(f"precision={tables.precision}; CompressAI's streams have 16 bits")
    return tables


def _nibbles(distance: int) -> list[int]:
    number = -2 * distance - 1 if distance < 0 else 2 * distance - 2
    count = -(-number.bit_length() // NIBBLE)
    digits = [number >> NIBBLE * i & 15 for i in range(count)]
    return [15] * (count // 15) + [count % 15] + digits


class _Decoder:
    def __init__(self, data: bytes):
        if len(data) < 8 or len(data) % 4:
            raise BitstreamError(f"{len(data)} bytes are not a state of 8 and words of 4")
        self.state, *self.words = struct.unpack(f"<Q{len(data) // 4 - 2}I", data)
        self.used = 0
        if not LOW <= self.state < LOW * WORD:
            raise BitstreamError(f"the first state {self.state} lies outside 2^31 … 2^63 - 1")

    def take(self, frequency: int, distance: int, precision: int) -> None:
        """Takes a symbol off the state; `distance` is that of its slot from its start."""
        x = frequency * (self.state >> precision) + distance
        if x < LOW:
            if self.used == len(self.words):
                raise BitstreamError(f"the string ends after {self.used} words, but not its values")
            x = x << 32 | self.words[self.used]
            self.used += 1
        self.state = x

    def nibble(self) -> int:
        value = self.state & 15
        self.take(1, 0, NIBBLE)
        return value

    def distance(self) -> int:
        count = self.nibble()  # 15 says that more follow, and no value has as many
        if count > LONGEST:
            raise BitstreamError(f"a value off its row has more than {LONGEST} nibbles")
        number = sum(self.nibble() << NIBBLE * i for i in range(count))
        return -(number + 1) // 2 if number % 2 else number // 2 + 1

    def finish(self) -> None:
        if self.used < len(self.words) or self.state != LOW:
            left = len(self.words) - self.used
            raise BitstreamError(f"decoding ends in state {self.state}, {left} words left")


def quantize_pmf(pmf: np.ndarray) -> np.ndarray:
    """CompressAI's cumulative frequencies `[n+1]` of a distribution `[n]`, out of 2^16.

    Rounded shares are scaled by their sum and rounded down; the last symbol has the rest. Then
    every symbol that has nothing takes 1 from the least frequent one that has more.
    """
    pmf = np.asarray(pmf, np.float32)
    if pmf.ndim != 1 or not 1 <= pmf.size <= 1 << 16 or not 0 <= pmf.min() <= pmf.max() <= 1:
        raise ValueError(f"pmf of shape {pmf.shape} is not one row of probabilities")
    share = np.rint(pmf * np.float32(1 << 16)).astype(np.int64)
    if not share.any():
        raise ValueError(f"pmf of at most {pmf.max()} has no symbol as frequent as 2^-16")
    frequency = (share << 16) // share.sum()
    frequency[-1] += (1 << 16) - frequency.sum()
    for empty in np.flatnonzero(frequency == 0):
        rich = np.where(frequency > 1, frequency, math.inf)
        frequency[int(rich.argmin())] -= 1
        frequency[empty] = 1
    return np.concatenate([[0], np.cumsum(frequency)]).astype(np.int32)
