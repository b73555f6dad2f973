"""Integer tables of symbol frequencies: what encoder and decoder must have in common.

They are data that travels with a model. Two machines that each compute them from the same scales
may differ in the last place, and then no file crosses from one to the other.
"""

import dataclasses
import functools
import hashlib
import operator
from collections.abc import Mapping

import numpy as np

NAMES = ("cdf", "length", "offset", "precision")
FORMAT = b"jaxvision tables 1"


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """`k` distributions over integers, as cumulative frequencies out of `2^precision`.

    Symbol `s` of row `i` has the frequency `cdf[i, s + 1] - cdf[i, s] >= 1`. It stands for the
    value `offset[i] + s`; the last symbol of each row stands for every value that has no other.

    Args:
      cdf: int32 `[k w+1]`; a row rises from 0 to `2^precision` and stays there.
      length: int32 `[k]`, symbols of a row, the last included.
      offset: int32 `[k]`.
      precision: bits, 1 to 16.
    """

    cdf: np.ndarray
    length: np.ndarray
    offset: np.ndarray
    precision: int = 16

    def __post_init__(self):
        for name in NAMES[:3]:
            array = int32(name, getattr(self, name))
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "precision", operator.index(self.precision))
        self._check()

    def _check(self) -> None:
        cdf, length = self.cdf, self.length
        if not 1 <= self.precision <= 16:
            raise ValueError(f"precision={self.precision} lies outside 1 … 16")
        shapes = cdf.shape, length.shape, self.offset.shape
        if cdf.ndim != 2 or not cdf.size or shapes[1:] != 2 * (cdf.shape[:1],):
            raise ValueError(f"shapes {shapes} are not [k w+1], [k], [k]")
        top = 1 << self.precision
        if cdf.min() < 0 or cdf.max() > top:  # first, for differences must not overflow
            raise ValueError(f"cdf={cdf.min()} … {cdf.max()} lies outside 0 … {top}")
        if length.min() < 1 or length.max() >= cdf.shape[1]:
            raise ValueError(
                f"length={length.min()} … {length.max()} lies outside 1 … {cdf.shape[1] - 1}"
            )
        inside = np.arange(cdf.shape[1] - 1) < length[:, None]
        good = np.where(inside, np.diff(cdf) > 0, np.diff(cdf) == 0).all(1)
        good &= (cdf[:, 0] == 0) & (cdf[:, -1] == top)
        if not good.all():
            row = int(np.argmin(good))
            raise ValueError(f"cdf row {row} does not rise from 0 to {top} in {length[row]} steps")

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of the distributions; the width of the padding does not matter."""
        lines = [FORMAT, bytes([self.precision])]
        for row, length, offset in zip(self.cdf, self.length, self.offset, strict=True):
            lines += [np.array([length, offset], "<i4").tobytes()]
            lines += [row[: length + 1].astype("<i4").tobytes()]
        return hashlib.sha256(b"".join(lines)).digest()

    @functools.cached_property
    def lookup(self) -> np.ndarray:
        """The symbol of every slot `0 … 2^precision - 1`, uint16 `[k 2^precision]`."""
        rows = np.empty((len(self.cdf), 1 << self.precision), np.uint16)
        for out, row, length in zip(rows, self.cdf, self.length, strict=True):
            out[:] = np.repeat(np.arange(length, dtype=np.uint16), np.diff(row[: length + 1]))
        return rows

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """All that a decoder's state asks of a slot, uint32 `[k 2^precision]`.

        The symbol's frequency - 1 in the upper 16 bits, the slot's distance from its start below.
        """
        steps = np.empty((len(self.cdf), 1 << self.precision), np.uint32)
        slots = np.arange(1 << self.precision, dtype=np.uint32)
        for out, row, length in zip(steps, self.cdf, self.length, strict=True):
            edges = row[: length + 1].astype(np.uint32)
            frequency = np.diff(edges)
            out[:] = slots + np.repeat((frequency - 1 << np.uint32(16)) - edges[:-1], frequency)
        return steps

    def rows(self, index: np.ndarray) -> np.ndarray:
        """`index` of any shape, one row of int32 in C order, of which each is a row's number."""
        index = int32("index", index).reshape(-1)
        if index.size and not 0 <= index.min() <= index.max() < len(self.cdf):
            raise ValueError(
                f"index={index.min()} … {index.max()} lies outside 0 … {len(self.cdf) - 1}"
            )
        return index

    def spans(self, symbols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start and frequency, uint32, of symbols `[n]` in `rows [n]`, as the method gives them."""
        symbols = int32("symbols", symbols)
        if symbols.shape != rows.shape:
            raise ValueError(f"{symbols.shape} symbols but {rows.shape} rows")
        bad = (symbols < 0) | (symbols >= self.length[rows])
        if bad.any():
            at = int(bad.argmax())
            count = self.length[rows[at]]
            raise ValueError(f"symbols[{at}]={symbols[at]}, but row {rows[at]} has {count} symbols")
        places = rows.astype(np.intp) * self.cdf.shape[1] + symbols
        cdf = self.cdf.reshape(-1).view(np.uint32)
        start = cdf.take(places)
        return start, cdf.take(places + 1) - start

    def bits(self, symbols: np.ndarray, rows: np.ndarray) -> float:
        """What an ideal coder would need for the symbols."""
        return float((self.precision - np.log2(self.spans(symbols, rows)[1])).sum())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint or an npz."""
        return {name: np.asarray(getattr(self, name), np.int32) for name in NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Tables":
        """From `to_arrays`, checked anew."""
        if missing := [name for name in NAMES if name not in arrays]:
            raise ValueError(f"tables without {', '.join(missing)}; they hold {sorted(arrays)}")
        return cls(**{name: arrays[name] for name in NAMES})


def stacked(rows: list[np.ndarray], offset: np.ndarray, precision: int) -> Tables:
    """Tables of cumulative rows of unequal lengths."""
    cdf = np.full((len(rows), max(map(len, rows), default=0)), 1 << precision, np.int32)
    for out, row in zip(cdf, rows, strict=True):
        out[: len(row)] = row
    return Tables(cdf, np.array([len(row) - 1 for row in rows]), np.asarray(offset), precision)


def int32(name: str, array: np.ndarray) -> np.ndarray:
    """A copy of an array of integers as int32; `name` is what an error calls it."""
    array = np.asarray(array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} of {array.dtype} is not integer")
    if array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ValueError(f"{name} has values outside int32")
    return array.astype(np.int32)
