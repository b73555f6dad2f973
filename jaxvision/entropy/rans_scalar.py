"""Interleaved rANS in Python's integers, a symbol at a time; the format is in `lanes`.

A NumPy call takes as long for one lane as for thirty: strings too short for many lanes come here.
"""

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.lanes import LOW, check_end, check_lanes, joined, parted
from jaxvision.entropy.tables import Tables


def encode(
    symbols: np.ndarray, index: np.ndarray, tables: Tables, *, lanes: int, begin: int = LOW
) -> bytes:
    """As `rans.encode`."""
    check_lanes(lanes)
    spans = [span.tolist() for span in tables.spans(symbols, tables.rows(index))]
    precision, shift, last = tables.precision, 32 - tables.precision, lanes - 1
    states, words, places = [begin] * lanes, [], range(len(spans[0]) - 1, -1, -1)
    for place, start, frequency in zip(places, *map(reversed, spans), strict=True):
        x = states[place & last]
        if x >> shift >= frequency:
            words.append(x & 0xFFFF)
            x >>= 16
        whole, rest = divmod(x, frequency)
        states[place & last] = (whole << precision) + rest + start
    return joined(np.array(states), np.array(words[::-1], np.uint16))


def decode(
    data: bytes, index: np.ndarray, tables: Tables, *, lanes: int, begin: int = LOW
) -> np.ndarray:
    """As `rans.decode`."""
    decoder = Decoder(data, tables, lanes=lanes, begin=begin)
    symbols = decoder.read(index)
    decoder.finish()
    return symbols


class Decoder:
    """As `rans.Decoder`."""

    def __init__(self, data: bytes, tables: Tables, *, lanes: int, begin: int = LOW):
        self._tables, self._begin = tables, begin
        self._states, self._words = (x.tolist() for x in parted(data, lanes))
        self._done = self._used = 0

    def read(self, index: np.ndarray) -> np.ndarray:
        """As `rans.Decoder.read`."""
        tables, states, words = self._tables, self._states, self._words
        slots = (tables.rows(index).astype(np.int64) << tables.precision).tolist()
        steps, found, used = memoryview(tables.steps.reshape(-1)), [], self._used
        precision, mask, last = tables.precision, (1 << tables.precision) - 1, len(states) - 1
        for place, slot in enumerate(slots, self._done):
            x = states[place & last]
            slot += x & mask
            found.append(slot)
            step = steps[slot]
            x = ((step >> 16) + 1) * (x >> precision) + (step & 0xFFFF)
            if x < LOW:
                if used == len(words):
                    raise BitstreamError(f"the words end at symbol {place}")
                x = x << 16 | words[used]
                used += 1
            states[place & last] = x
        self._done, self._used = self._done + len(slots), used
        return tables.lookup.reshape(-1)[np.array(found, np.int64)].astype(np.int32)

    def finish(self) -> None:
        """As `rans.Decoder.finish`."""
        check_end(np.array(self._states), len(self._words) - self._used, self._begin)
