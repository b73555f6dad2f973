"""Interleaved rANS in NumPy, all lanes at once; the format is in `lanes`."""

import numpy as np

from jaxvision.entropy import rans_scalar
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.lanes import LOW, check_end, dealt, joined, parted
from jaxvision.entropy.tables import Tables

FEW = 16  # lanes below which Python's integers are quicker than arrays of them


def encode(
    symbols: np.ndarray, index: np.ndarray, tables: Tables, *, lanes: int, begin: int = LOW
) -> bytes:
    """Bytes of symbols `[n]`, each of the table row `index [n]`; states begin at `begin`."""
    if lanes < FEW:
        return rans_scalar.encode(symbols, index, tables, lanes=lanes, begin=begin)
    start, frequency = dealt(symbols, tables.rows(index), tables, lanes)
    top, shift = np.uint32(1 << tables.precision), np.uint32(32 - tables.precision)
    # A certain symbol's limit is 2^32, which wraps to 0 and then to what no state exceeds.
    limit = (frequency << shift) - np.uint32(1)
    spread = top - frequency
    low, full = np.empty(start.shape, "<u2"), np.empty(start.shape, bool)
    x, half = np.full(lanes, begin, np.uint32), np.uint32(16)
    for row in range(len(start) - 1, -1, -1):
        np.greater(x, limit[row], out=full[row])
        low[row] = x
        np.right_shift(x, half, out=x, where=full[row])
        x += x // frequency[row] * spread[row] + start[row]
    return joined(x, low[full])


def decode(
    data: bytes, index: np.ndarray, tables: Tables, *, lanes: int, begin: int = LOW
) -> np.ndarray:
    """Symbols `[n]`, int32, of the rows `index [n]`; BitstreamError unless all checks out."""
    decoder = decoder_of(data, tables, lanes=lanes, begin=begin)
    symbols = decoder.read(index)
    decoder.finish()
    return symbols


def decoder_of(
    data: bytes, tables: Tables, *, lanes: int, begin: int = LOW
) -> "Decoder | rans_scalar.Decoder":
    """The quicker one for so many lanes."""
    return (rans_scalar.Decoder if lanes < FEW else Decoder)(data, tables, lanes=lanes, begin=begin)


class Decoder:
    """Symbols of a stream, some at a time: of those read the rows of the next may be found."""

    def __init__(self, data: bytes, tables: Tables, *, lanes: int, begin: int = LOW):
        self._tables, self._begin = tables, begin
        self._states, self._words = parted(data, lanes)
        self._done = self._used = 0

    def read(self, index: np.ndarray) -> np.ndarray:
        """The next symbols, int32 `[n]`, of the rows `index [n]`."""
        tables, words, used = self._tables, self._words, self._used
        bits, mask = np.uint32(tables.precision), np.uint32((1 << tables.precision) - 1)
        half, low, steps = np.uint32(16), np.uint32(LOW), tables.steps.reshape(-1)
        # Places in the lookup: the loop adds the low bits.
        slots = tables.rows(index).astype(np.intp) << tables.precision
        lanes = len(self._states)
        lane, end = self._done % lanes, 0
        while end < len(slots):
            row = slots[end : end + lanes - lane]
            state = self._states[lane : lane + len(row)]
            row += state & mask
            step = steps.take(row)
            state >>= bits
            state *= (step >> half) + np.uint32(1)
            state += step & np.uint32(0xFFFF)
            hungry = (state < low).nonzero()[0]
            if len(hungry):
                taken = words[used : used + len(hungry)]
                used += len(hungry)
                if used > len(words):
                    raise BitstreamError(f"the words end at symbol {self._done + end}")
                state[hungry] = state.take(hungry) << half | taken
            lane, end = 0, end + len(row)
        self._done, self._used = self._done + len(slots), used
        return tables.lookup.reshape(-1)[slots].astype(np.int32)

    def finish(self) -> None:
        """BitstreamError unless all has been read, and the states are where encoding began."""
        check_end(self._states, len(self._words) - self._used, self._begin)
