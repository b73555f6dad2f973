"""Values that have no symbol of their own: how far they lie outside their row.

Every row's last symbol, the escape, says that such a value follows; each format then writes the
distance in its own way.
"""

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.tables import Tables, int32


def split(values: np.ndarray, index: np.ndarray, tables: Tables):
    """Symbols, rows and distances: what is to be written of integers of any shape, in C order.

    int32 `[n]`, int32 `[n]`, and int64, one for each escape among the symbols: 1 for the first
    value above a row, 2 for the next; -1 for the first below.
    """
    if np.shape(values) != np.shape(index):
        raise ValueError(f"values {np.shape(values)} and index {np.shape(index)} differ in shape")
    rows = tables.rows(index)
    escape = tables.length[rows] - 1
    symbols = int32("values", values).reshape(-1).astype(np.int64) - tables.offset[rows]
    outside = (symbols < 0) | (symbols >= escape)
    beyond = symbols[outside]
    beyond = np.where(beyond < 0, beyond, beyond - escape[outside] + 1)
    return np.where(outside, escape, symbols).astype(np.int32), rows, beyond


def escapes(symbols: np.ndarray, rows: np.ndarray, tables: Tables) -> np.ndarray:
    """Which symbols are escapes."""
    return symbols == tables.length[rows] - 1


def merge(symbols: np.ndarray, rows: np.ndarray, beyond: np.ndarray, tables: Tables) -> np.ndarray:
    """The values int32 `[n]` of `split`; BitstreamError where a distance leads out of int32."""
    values = symbols.astype(np.int64) + tables.offset[rows]
    beyond = np.asarray(beyond, np.int64)
    outside = escapes(symbols, rows, tables)
    below = tables.offset[rows[outside]] + beyond
    values[outside] = np.where(beyond < 0, below, values[outside] + beyond - 1)
    if values.size and not -(2**31) <= values.min() <= values.max() < 2**31:
        raise BitstreamError(f"values {values.min()} … {values.max()} do not fit int32")
    return values.astype(np.int32)
