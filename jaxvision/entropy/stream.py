"""A self-contained string of integers: interleaved rANS, and beside it the values off the tables.

    byte    log2 of the lanes, 0 … 10, and 16 times the bytes of the escaped values, up to 15
    varint  where they are 15 or more: how many more
    …       the escaped values (`gamma`), in the order of their escapes
    …       the symbols (`lanes`), up to the end; the coder begins at 2^16 + the lower half of the
            escaped values' CRC-32, so that its check at the end is theirs too

No values are no bytes. How many there are and which table each takes is for the caller to know.
"""

import zlib

import numpy as np

from jaxvision.entropy import gamma, rans, rans_jax
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.escape import escapes, merge, split
from jaxvision.entropy.gamma import decode_gamma, encode_gamma
from jaxvision.entropy.lanes import LOW, MOST_LANES, lanes_for
from jaxvision.entropy.tables import Tables
from jaxvision.entropy.varint import read_varint, write_varint

FEW = 15  # bytes of escaped values that the first byte can tell; and that there may be more
BACKENDS = {"numpy": rans, "jax": rans_jax}


def encode_values(
    values: np.ndarray, index: np.ndarray, tables: Tables, *, backend: str = "numpy"
) -> bytes:
    """Bytes of int32 values of any shape, each by the row of the tables that `index` names.

    Any value can be written, but those off their row cost more. Both backends write the same.
    """
    coder = _coder(backend)
    symbols, rows, beyond = split(values, index, tables)
    if not len(rows):
        return b""
    lanes = lanes_for(tables.bits(symbols, rows))
    side = encode_gamma(beyond)
    head = bytes([lanes.bit_length() - 1 | min(len(side), FEW) << 4])
    head += write_varint(len(side) - FEW) if len(side) >= FEW else b""
    symbols = coder.encode(symbols, rows, tables, lanes=lanes, begin=_begin(side))
    return head + side + symbols


def decode_values(
    data: bytes, index: np.ndarray, tables: Tables, *, backend: str = "numpy"
) -> np.ndarray:
    """The values, int32, in the shape of `index`; BitstreamError for bytes that do not fit it.

    The tables must be the encoder's: compare their digests first.
    """
    coder = _coder(backend)
    shape, rows = np.shape(index), tables.rows(index)
    if not len(rows):
        if data:
            raise BitstreamError(f"{len(data)} bytes, but no values")
        return np.zeros(shape, np.int32)
    lanes, side, rest = _parts(bytes(data))
    symbols = coder.decode(rest, rows, tables, lanes=lanes, begin=_begin(side))
    count = int(escapes(symbols, rows, tables).sum())
    return merge(symbols, rows, decode_gamma(side, count), tables).reshape(shape)


class Reader:
    """The values of a string some at a time: of those read the rows of the next may be found.

    Of a string of no values nothing can be read.
    """

    def __init__(self, data: bytes, tables: Tables):
        lanes, side, rest = _parts(bytes(data))
        self._tables, self._beyond = tables, gamma.Reader(side)
        self._symbols = rans.decoder_of(rest, tables, lanes=lanes, begin=_begin(side))

    def read(self, index: np.ndarray) -> np.ndarray:
        """The next values, int32, in the shape of `index`, which names their rows."""
        rows = self._tables.rows(index)
        symbols = self._symbols.read(rows)
        beyond = self._beyond.read(int(escapes(symbols, rows, self._tables).sum()))
        return merge(symbols, rows, beyond, self._tables).reshape(np.shape(index))

    def finish(self) -> None:
        """BitstreamError unless the string ends here."""
        self._symbols.finish()
        self._beyond.finish()


def _begin(side: bytes) -> int:
    return LOW + zlib.crc32(side) % LOW


def _parts(data: bytes) -> tuple[int, bytes, bytes]:
    """Lanes, escaped values and symbols of a string."""
    if not data or 1 << (data[0] & 15) > MOST_LANES:
        raise BitstreamError(f"a string begins with its lanes, not with {data[:1]!r}")
    length, begin = data[0] >> 4, 1
    if length == FEW:
        more, begin = read_varint(data, 1)
        length += more
    if begin + length > len(data):
        raise BitstreamError(f"{length} bytes of escaped values in a string of {len(data)}")
    return 1 << (data[0] & 15), data[begin : begin + length], data[begin + length :]


def _coder(backend: str):
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is none of {tuple(BACKENDS)}")
    return BACKENDS[backend]
