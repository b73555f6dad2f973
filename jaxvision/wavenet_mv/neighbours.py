"""What is known around a cell of a level's grid when its turn comes, and in which order that is.

The even cells, which are the coarser levels' picture, come first; then the diagonal cells, those to
the right, those below, each in two halves like the colours of a chess board, so that the second
half is surrounded by the first. Small grids take each at once: their parameters cost more.
"""

import dataclasses

import numpy as np

REACH = 3  # cells
HALVED = 1 << 14  # cells of a grid from which on there are halves

Offsets = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Pass:
    """Cells of one phase, by the even cells and by the others that are known around them.

    The first `close` of `even` are the nearest: what the cell was predicted from.
    """

    phase: tuple[int, int]
    half: int | None
    even: Offsets
    others: Offsets
    close: int


def _cross(rows: tuple[int, ...], columns: tuple[int, ...]) -> Offsets:
    return tuple((y, x) for y in rows for x in columns)


def _turned(offsets: Offsets) -> Offsets:
    return tuple((x, y) for y, x in offsets)


_SIGNS = (-1, 1)
_CORNERS = _cross(_SIGNS, _SIGNS)
_AROUND = (*_CORNERS, *_cross(_SIGNS, (-3, 3)), *_cross((-3, 3), _SIGNS))
_ALONG = ((0, -1), (0, 1), (0, -3), (0, 3), *_cross((-2, 2), _SIGNS))
_ACROSS = ((-1, 0), (1, 0), *_cross(_SIGNS, (-2, 2)))
_SAME = ((0, -2), (0, 2), (-2, 0), (2, 0))  # of the other half
_PHASES = (
    ((1, 1), _AROUND, (), 4),
    ((0, 1), _ALONG, _ACROSS, 2),
    ((1, 0), _turned(_ALONG), (*_turned(_ACROSS), *_CORNERS), 2),
)


def passes(height: int, width: int) -> list[Pass]:
    """The passes over a grid of this size that have cells, in order."""
    halves = (0, 1) if height * width >= HALVED else (None,)
    found = []
    for phase, even, others, close in _PHASES:
        for half in halves:
            more = _SAME if half else ()
            found.append(Pass(phase, half, even, others + more, close))
    return [one for one in found if len(cells(one, height, width))]


def cells(one: Pass, height: int, width: int) -> np.ndarray:
    """Places in the flat grid, int64 `[n]`, row by row."""
    rows = np.arange(one.phase[0], height, 2)[:, None]
    columns = np.arange(one.phase[1], width, 2)[None, :]
    places = rows * width + columns
    if one.half is None:
        return places.reshape(-1)
    return places[(rows // 2 + columns // 2) % 2 == one.half]


class Around:
    """Values at offsets from some cells of a plane `[h w]`; beyond its edges it is mirrored.

    Where a mirror shows a cell that is not known yet there is the 0 that encoder and decoder have.
    """

    def __init__(self, plane: np.ndarray, places: np.ndarray):
        width = plane.shape[1]
        self._flat = np.pad(plane, REACH, mode="reflect").reshape(-1)
        self._width = width + 2 * REACH
        self._at = (places // width + REACH) * self._width + places % width + REACH

    def __call__(self, offsets: Offsets) -> list[np.ndarray]:
        return [self._flat.take(self._at + y * self._width + x) for y, x in offsets]
