"""The stream of tensorflow-compression's range coder, byte for byte.

Written from a description of the format, and held against strings of versions 2.14.1 and ops 2.17.0
(tests/golden). A range coder after Martin 1979, at 32 bits:

- The coder holds an interval of the integers below 2^32, at first all of them. A symbol of
  cumulative frequencies a … b out of 2^P narrows `size` to `size * a >> P … size * b >> P`.
- While size <= 2^16, the upper 16 bits of the interval's begin are written, big endian, and both
  are shifted up by 16 bits. An addition that overflows carries into the words already written.
- At the end comes the number within the interval that takes the fewest bytes, the least of them.
  Zero bytes at the end of the string are left off; a decoder reads zeros there.
- A value without a symbol is the last symbol of its row, then bits, each a symbol of 1 bit: Elias
  gamma of how far it lies outside, 1 for the nearest, then 1 if below and 0 if above.

The string has no check of its own: cut off or altered, it decodes to other values. Only one that is
too long is told. The tables are one int32 vector, of each row -P and then cumulative frequencies.
"""

from bisect import bisect_right

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.escape import escapes, merge, split
from jaxvision.entropy.tables import Tables, stacked

WHOLE, WORD = 1 << 32, 1 << 16
COIN = [0, 1, 2]  # cumulative frequencies of a bit
LONGEST = 33  # bits of a distance between two int32


def flat_tables(tables: Tables) -> np.ndarray:
    """Tables as tensorflow-compression takes them, with the escape that -P asks for."""
    rows = (row[: n + 1] for row, n in zip(tables.cdf, tables.length, strict=True))
    return np.concatenate([np.r_[-tables.precision, row] for row in rows]).astype(np.int32)


def from_flat(flat: np.ndarray, offset: np.ndarray) -> Tables:
    """The tables of a vector such as a model of tensorflow-compression stores."""
    flat, rows = np.asarray(flat), []
    precision = -int(flat[0]) if flat.size else 0
    if not 1 <= precision <= 16:
        raise ValueError(f"flat begins with {flat[:1]}: tables without an escape are not read")
    ends = np.flatnonzero(flat == 1 << precision) + 1
    if not ends.size or ends[-1] != flat.size:
        raise ValueError(f"flat of {flat.size} does not end with the {1 << precision} of a row")
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        if flat[begin] != -precision:
            raise ValueError(f"flat[{begin}]={flat[begin]} is not {-precision}: precisions differ")
        rows.append(flat[begin + 1 : end])
    return stacked(rows, offset, precision)


def encode_values(values: np.ndarray, index: np.ndarray, tables: Tables) -> bytes:
    """The string of int32 values of any shape, each by the row that `index` names."""
    symbols, rows, beyond = split(values, index, tables)
    outside = escapes(symbols, rows, tables)
    start, frequency = tables.spans(symbols, rows)
    coder, distances, precision = _Encoder(), iter(beyond.tolist()), tables.precision
    ends = (start + frequency).tolist()
    for low, high, escaped in zip(start.tolist(), ends, outside.tolist(), strict=True):
        coder.narrow(low, high, precision)
        if escaped:
            distance = next(distances)
            zeros = "0" * (abs(distance).bit_length() - 1)
            for bit in map(int, f"{zeros}{abs(distance):b}{distance < 0:d}"):
                coder.narrow(bit, bit + 1, 1)
    return coder.finish()


def decode_values(data: bytes, index: np.ndarray, tables: Tables) -> np.ndarray:
    """The values, int32, in the shape of `index`."""
    reader = Reader(data, tables)
    values = reader.read(index)
    reader.finish()
    return values


class Reader:
    """The values of a string some at a time, as of `stream.Reader`."""

    def __init__(self, data: bytes, tables: Tables):
        self._tables, self._data, self._count = tables, bytes(data), 0
        self._lengths = tables.length.tolist()
        rows = zip(tables.cdf.tolist(), self._lengths, strict=True)
        self._cdf = [row[: n + 1] for row, n in rows]
        self._coder = _Decoder(self._data)

    def read(self, index: np.ndarray) -> np.ndarray:
        """The next values, int32, in the shape of `index`, which names their rows."""
        rows, precision = self._tables.rows(index), self._tables.precision
        symbols, beyond = [], []
        for row in rows.tolist():
            symbols.append(self._coder.next(self._cdf[row], precision))
            if symbols[-1] == self._lengths[row] - 1:
                beyond.append(self._coder.distance_beyond())
        self._count += len(rows)
        beyond = np.array(beyond, np.int64)
        values = merge(np.array(symbols, np.int32), rows, beyond, self._tables)
        return values.reshape(np.shape(index))

    def finish(self) -> None:
        """BitstreamError for a string that is too long; no other damage is told."""
        length = len(self._data)
        if length > self._coder.place - 2 or self._data[-1:] == b"\0":
            raise BitstreamError(f"{length} bytes do not end where {self._count} values do")


class _Encoder:
    def __init__(self):
        self.words, self.base, self.size = [], 0, WHOLE

    def narrow(self, low: int, high: int, precision: int) -> None:
        begin = self.size * low >> precision
        self.base += begin
        self.size = (self.size * high >> precision) - begin
        if self.base >= WHOLE:
            self.base -= WHOLE
            self._carry()
        while self.size <= WORD:
            self.words.append(self.base >> 16)
            self.base = self.base % WORD << 16
            self.size <<= 16

    def _carry(self) -> None:
        place = len(self.words) - 1
        while self.words[place] == WORD - 1:
            self.words[place] = 0
            place -= 1
        self.words[place] += 1

    def finish(self) -> bytes:
        # The least multiple of the highest power that the interval holds; size > 2^16 holds one.
        for unit in (WHOLE, WHOLE >> 8, WORD):
            number = -(-self.base // unit) * unit
            if number < self.base + self.size:
                break
        if number == WHOLE:
            self._carry()
        self.words.append(number % WHOLE >> 16)
        return np.array(self.words, ">u2").tobytes().rstrip(b"\0")


class _Decoder:
    """Where the string lies within the interval: its distance from the begin, and the size."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 4
        self.distance, self.size = int.from_bytes(data[:4].ljust(4, b"\0"), "big"), WHOLE

    def next(self, cdf: list[int], precision: int) -> int:
        slot = ((self.distance + 1 << precision) - 1) // self.size
        symbol = bisect_right(cdf, slot) - 1
        begin = self.size * cdf[symbol] >> precision
        self.size = (self.size * cdf[symbol + 1] >> precision) - begin
        self.distance -= begin
        while self.size <= WORD:
            word = self.data[self.place : self.place + 2].ljust(2, b"\0")
            self.place += 2
            self.distance = self.distance << 16 | int.from_bytes(word, "big")
            self.size <<= 16
        return symbol

    def distance_beyond(self) -> int:
        length, beyond = 0, 1
        while not self.next(COIN, 1):
            length += 1
            if length > LONGEST:
                raise BitstreamError(f"a value off its row has more than {LONGEST} bits")
        for _ in range(length):
            beyond = beyond << 1 | self.next(COIN, 1)
        return -beyond if self.next(COIN, 1) else beyond
