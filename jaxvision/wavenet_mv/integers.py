"""Pictures to whole numbers and back without loss: colour transform and CDF 5/3 lifting, in NumPy.

Integer additions and shifts alone, so that every machine finds the same numbers. A level is kept as
a grid `[3 h w]` of its own size, whose even cells are the next level's picture and whose other
cells are differences from what their even neighbours predict: nothing is moved, sides may be odd.
"""

import numpy as np


def to_colours(image: np.ndarray) -> np.ndarray:
    """uint8 `[h w 3]` -> int32 `[3 h w]`: luminance, blue - green, red - green.

    The reversible transform of JPEG 2000 (ISO 15444-1, annex G.2).
    """
    red, green, blue = np.moveaxis(image.astype(np.int32), -1, 0)
    return np.stack([(red + 2 * green + blue) >> 2, blue - green, red - green])


def to_image(planes: np.ndarray) -> np.ndarray:
    """The inverse of `to_colours`; a level's means may lie outside 0 … 255: clipped."""
    light, blue, red = planes
    green = light - ((blue + red) >> 2)
    image = np.stack([red + green, green, blue + green], axis=-1)
    return np.clip(image, 0, 255).astype(np.uint8)


def forward(planes: np.ndarray, levels: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Planes `[3 h w]` -> the coarsest means, and the grids of the levels, coarse to fine."""
    grids = []
    for _ in range(levels):
        grid = planes.copy()
        even, right, below, diagonal = phases(grid)
        for part, guess in zip((right, below, diagonal), _predicted(even, grid), strict=True):
            part -= guess
        even += _updated(grid)
        grids.append(grid)
        planes = even.copy()
    return planes, grids[::-1]


def inverse(grid: np.ndarray) -> np.ndarray:
    """A level's grid -> its planes, which are the even cells of the next."""
    grid = grid.copy()
    even, right, below, diagonal = phases(grid)
    even -= _updated(grid)
    for part, guess in zip((right, below, diagonal), _predicted(even, grid), strict=True):
        part += guess
    return grid


def phases(grid: np.ndarray) -> tuple[np.ndarray, ...]:
    """Views of a grid's even cells and of those right, below and diagonal of them."""
    return grid[:, ::2, ::2], grid[:, ::2, 1::2], grid[:, 1::2, ::2], grid[:, 1::2, 1::2]


def _predicted(even, grid):
    """Means of the neighbouring even cells; at the far edges the last one stands for the next."""
    height, width = grid.shape[1] // 2, grid.shape[2] // 2
    near = np.pad(even, ((0, 0), (0, 1), (0, 1)), mode="edge")
    rows = near[:, :-1, :width] + near[:, :-1, 1 : width + 1]
    columns = near[:, :height, :-1] + near[:, 1 : height + 1, :-1]
    corners = rows[:, :height] + near[:, 1 : height + 1, :width]
    corners = corners + near[:, 1 : height + 1, 1 : width + 1]
    return (rows + 1) >> 1, (columns + 1) >> 1, (corners + 2) >> 2


def _updated(grid):
    """What keeps the even cells' mean; beyond the edges differences are 0."""
    _, right, below, diagonal = phases(grid)
    odd_rows, odd_columns = grid.shape[1] % 2, grid.shape[2] % 2
    right = np.pad(right, ((0, 0), (0, 0), (1, odd_columns)))
    below = np.pad(below, ((0, 0), (1, odd_rows), (0, 0)))
    diagonal = np.pad(diagonal, ((0, 0), (1, odd_rows), (1, odd_columns)))
    sides = right[:, :, 1:] + right[:, :, :-1] + below[:, 1:] + below[:, :-1]
    corners = diagonal[:, 1:, 1:] + diagonal[:, 1:, :-1]
    corners = corners + diagonal[:, :-1, 1:] + diagonal[:, :-1, :-1]
    return (2 * sides + corners + 8) >> 4
