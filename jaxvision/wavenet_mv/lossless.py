"""Whole-number grids of a picture's levels as bytes: each cell by what is known around it.

A substream is a level. The coarsest holds the means: a byte, the table's scale, and the differences
from one mean to the next. Every other holds for each pass (`neighbours`) and colour a string: its
parameters (`fitted`), a varint of its bytes, and the values' errors (`entropy.stream`).
"""

import numpy as np

from jaxvision.entropy import stream
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.varint import read_varint, write_varint
from jaxvision.wavenet_mv import fitted, integers, neighbours
from jaxvision.wavenet_mv.logistic import EIGHTHS, ROWS, tables

LEVELS = 5
COLOURS = 3
FEW = 4096  # values whose parameters may cost more than they save
MOST = 1 << 12  # of a value's size: those of 8-bit pictures stay below


def sizes(height: int, width: int, levels: int = LEVELS) -> list[tuple[int, int]]:
    """Of the means and of the grids, coarse to fine."""
    found = [(height, width)]
    for _ in range(levels):
        height, width = -(-height // 2), -(-width // 2)
        found.append((height, width))
    return found[1:][::-1][:1] + found[:-1][::-1]


def encode(image: np.ndarray) -> tuple[list[bytes], list[np.ndarray]]:
    """The substreams of a picture uint8 `[h w 3]`, and the planes that each of them completes."""
    means, grids = integers.forward(integers.to_colours(image), LEVELS)
    streams, planes = [_write_means(means)], [means]
    sizes_before = np.zeros(means.shape, np.int64)
    for grid in grids:
        coder = _Writer(grid)
        sizes_before = _level(grid.shape[1:], planes[-1], sizes_before, coder)[1]
        streams.append(b"".join(coder.parts))
        planes.append(integers.inverse(grid))
    return streams, planes


class Decoder:
    """The levels of one picture, each from its substream and those before."""

    def __init__(self, height: int, width: int):
        self._sizes = iter(sizes(height, width))
        self.planes: np.ndarray | None = None

    def next(self, data: bytes) -> np.ndarray:
        """int32 `[3 h w]`, the planes of one level more."""
        size = next(self._sizes)
        if self.planes is None:
            self.planes = _read_means(data, size)
            self._errors = np.zeros(self.planes.shape, np.int64)
            return self.planes
        coder = _Reader(data)
        grid, self._errors = _level(size, self.planes, self._errors, coder)
        if coder.at != len(data):
            raise BitstreamError(f"{len(data) - coder.at} bytes follow the end of a level")
        self.planes = integers.inverse(grid.astype(np.int32))
        return self.planes


def _level(size, means, errors_before, coder):
    """Goes over a level's cells: the grid, and the sizes of the errors in eighths, `[3 h w]`.

    Both sides see what is known alone: the encoder's grid fills as the decoder's does.
    """
    grid, errors, rests = (np.zeros((COLOURS, *size), np.int64) for _ in range(3))
    grid[:, ::2, ::2], errors[:, ::2, ::2] = means, errors_before
    for one in neighbours.passes(*size):
        places = neighbours.cells(one, *size)
        for colour in range(COLOURS):
            around = neighbours.Around(grid[colour], places)
            even = around(one.even)
            others = [rests[c].reshape(-1)[places] for c in range(colour)]
            known = [x - even[0] for x in even[1:]] + around(one.others) + others
            steps = [8 * abs(even[0] - even[1])]
            if one.close == 4:
                steps += [8 * abs(even[0] - even[3]), 8 * abs(even[1] - even[2])]
            near = neighbours.Around(errors[colour], places)(one.even[: one.close] + one.others)
            around_it = near + [8 * abs(x) for x in others] + steps
            around_it.append(np.full(len(places), 8, np.int64))
            values, eighths = coder.string(
                colour, places, np.stack(known, axis=1), np.stack(around_it, axis=1)
            )
            error = 8 * values - eighths
            grid[colour].reshape(-1)[places] = values
            errors[colour].reshape(-1)[places] = abs(error)
            rests[colour].reshape(-1)[places] = (error + 4) >> 3
    return grid, errors


class _Writer:
    def __init__(self, grid):
        self._grid, self.parts = grid, []

    def string(self, colour, places, known, near):
        values = self._grid[colour].reshape(-1)[places].astype(np.int64)
        fits = [fitted.fitted(known, near, values)]
        if len(values) < FEW:
            fits.append(fitted.default(known.shape[1], near.shape[1]))
        tries = [self._coded(fit, values, known, near) for fit in fits]
        data, fit = min(tries, key=lambda x: len(x[0]))
        self.parts.append(data)
        return values, fit.predicted(known)

    def _coded(self, fit, values, known, near):
        whole, sign, rows = _rows(fit, known, near)
        data = stream.encode_values(sign * (values - whole), rows, tables())
        return fit.to_bytes() + write_varint(len(data)) + data, fit


class _Reader:
    def __init__(self, data):
        self._data, self.at = data, 0

    def string(self, colour, places, known, near):
        means, errors = known.shape[1], near.shape[1]
        fit, at = fitted.from_bytes(self._data, self.at, means=means, errors=errors)
        length, at = read_varint(self._data, at)
        self.at = at + length
        if self.at > len(self._data):
            raise BitstreamError(f"a string of {length} bytes is cut off at {len(self._data)}")
        whole, sign, rows = _rows(fit, known, near)
        rest = stream.decode_values(self._data[at : self.at], rows, tables()).astype(np.int64)
        values = sign * rest + whole
        _check(values)
        return values, fit.predicted(known)


def _rows(fit, known, near):
    """What is taken off the values, their signs, and their table rows."""
    whole, sign, part = fitted.centred(fit.predicted(known))
    return whole, sign, EIGHTHS * fit.scales[fit.classes(near)] + part


def _write_means(means: np.ndarray) -> bytes:
    steps = np.diff(means.reshape(-1), prepend=0)
    scale = int(fitted.cheapest(steps))
    return bytes([scale]) + stream.encode_values(
        steps, np.full(steps.shape, EIGHTHS * scale), tables()
    )


def _read_means(data: bytes, size: tuple[int, int]) -> np.ndarray:
    if not data or data[0] >= ROWS:
        raise BitstreamError(f"the means begin with their scale, not with {data[:1]!r}")
    count = COLOURS * size[0] * size[1]
    steps = stream.decode_values(data[1:], np.full(count, EIGHTHS * data[0]), tables())
    means = np.cumsum(steps, dtype=np.int64)
    _check(means)
    return means.astype(np.int32).reshape(COLOURS, *size)


def _check(values: np.ndarray) -> None:
    if values.size and max(values.max(), -values.min()) > MOST:
        raise BitstreamError(f"values {values.min()} … {values.max()} are those of no picture")
