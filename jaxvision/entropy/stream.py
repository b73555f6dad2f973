"""A self-contained string of integers: interleaved rANS, and beside it the values off the tables.

    byte    log2 of the lanes, 0 … 10
    varint  bytes of the escaped values
    …       the escaped values (`gamma`), in the order of their escapes
    …       the symbols (`lanes`), up to the end

No values are no bytes. How many there are and which table each takes is for the caller to know.
"""

import numpy as np

from jaxvision.entropy import rans, rans_jax
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.escape import escapes, merge, split
from jaxvision.entropy.gamma import decode_gamma, encode_gamma
from jaxvision.entropy.lanes import MOST_LANES, lanes_for
from jaxvision.entropy.tables import Tables
from jaxvision.entropy.varint import read_varint, write_varint

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
    head = bytes([lanes.bit_length() - 1]) + write_varint(len(side))
    return head + side + coder.encode(symbols, rows, tables, lanes=lanes)


def decode_values(
    data: bytes, index: np.ndarray, tables: Tables, *, backend: str = "numpy"
) -> np.ndarray:
    """The values, int32, in the shape of `index`; BitstreamError for bytes that do not fit it.

    The tables must be the encoder's: compare their digests first.
    """
    coder = _coder(backend)
    shape, rows, data = np.shape(index), tables.rows(index), bytes(data)
    if not len(rows):
        if data:
            raise BitstreamError(f"{len(data)} bytes, but no values")
        return np.zeros(shape, np.int32)
    if not data or 1 << data[0] > MOST_LANES:
        raise BitstreamError(f"a string begins with its lanes, not with {data[:1]!r}")
    length, begin = read_varint(data, 1)
    if begin + length > len(data):
        raise BitstreamError(f"{length} bytes of escaped values in a string of {len(data)}")
    symbols = coder.decode(data[begin + length :], rows, tables, lanes=1 << data[0])
    count = int(escapes(symbols, rows, tables).sum())
    beyond = decode_gamma(data[begin : begin + length], count)
    return merge(symbols, rows, beyond, tables).reshape(shape)


def _coder(backend: str):
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is none of {tuple(BACKENDS)}")
    return BACKENDS[backend]
