"""Orders in which a scan walks over an image, and their inverses.

A causal model sees an image from one side only; two-dimensional state-space models scan it in
several orders and merge the results (Vim, arXiv 2401.09417; VMamba, arXiv 2401.10166; PlainMamba,
arXiv 2403.17695, for the snake; LocalMamba, arXiv 2403.09338, for windows; Hilbert 1891 for his
curve). Every order also exists `_reversed`.
"""

import functools
import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from jaxvision_kernels.operands import arrays

BASES = (
    "row",
    "column",
    "snake",  # row by row, odd rows backwards: consecutive cells are neighbours
    "hilbert",  # neighbours stay near one another on a square of 2^k cells a side
    "local_<window>",  # windows of that many cells a side, row by row, and so within each
)
SCAN_ORDERS = tuple(name + end for name in BASES for end in ("", "_reversed"))


def check_order(name: str) -> None:
    """Raises `ValueError` for what is no name of an order."""
    base = name.removesuffix("_reversed") if isinstance(name, str) else ""
    if base not in BASES[:4] and not re.fullmatch("local_[1-9][0-9]*", base):
        raise ValueError(f"scan order {name!r} is none of {SCAN_ORDERS}")


def scan_order(name: str, height: int, width: int) -> np.ndarray:
    """Returns int32 `[height * width]`: the flat, row-major index of the cell seen at each step.

    The array is cached and read-only. `x[:, scan_order(…)]` brings `[b (h w) c]` into the order.
    """
    check_order(name)
    return _order(name, *_sizes(height, width))


@functools.lru_cache(maxsize=256)
def _order(name, height, width):
    cells = np.arange(height * width, dtype=np.int32).reshape(height, width)
    base = name.removesuffix("_reversed")
    if base == "column":
        order = cells.T.reshape(-1)
    elif base == "snake":
        order = _turn_odd_rows(cells[None, :, :, None]).reshape(-1)
    elif base == "hilbert":
        row, column = _hilbert(max(height, width))
        inside = (row < height) & (column < width)
        order = cells[row[inside], column[inside]]
    elif base.startswith("local_"):
        window = int(base.removeprefix("local_"))
        row, column = np.divmod(cells.reshape(-1), width)
        keys = (column % window, row % window, column // window, row // window)
        order = np.lexsort(keys).astype(np.int32)
    else:
        order = cells.reshape(-1)
    return _frozen(order[::-1] if name.endswith("_reversed") else order)


def inverse_order(name: str, height: int, width: int) -> np.ndarray:
    """Returns int32 `[height * width]`: the step that sees each cell; it undoes `scan_order`."""
    check_order(name)
    return _inverse(name, *_sizes(height, width))


@functools.lru_cache(maxsize=256)
def _inverse(name, height, width):
    return _frozen(np.argsort(_order(name, height, width)).astype(np.int32))


def _sizes(height, width) -> tuple[int, int]:
    """Whole numbers, 1 or more; sizes that `jax.export` leaves open pass."""
    try:
        sizes = [n if is_symbolic_dim(n) else operator.index(n) for n in (height, width)]
    except TypeError:
        sizes = [0]
    if not all(is_symbolic_dim(n) or n > 0 for n in sizes):
        raise ValueError(f"an image of {height!r} x {width!r} cells has no scan order")
    return tuple(sizes)


def to_sequence(grid: jax.Array, name: str) -> jax.Array:
    """Lays `[b h w c]` out as `[b (h w) c]` in the order `name`.

    Equals indexing with `scan_order`. Rows, columns and snakes go by transposes and flips, whose
    gradients are as cheap as they are; the gradient of an indexing, by which the others go, is a
    scatter. `selective_scan(…, reverse=True)` spares the flip of a reversed order altogether.
    """
    check_order(name)
    base, flipped = name.removesuffix("_reversed"), name.endswith("_reversed")
    (grid,) = arrays(grid=grid)
    if grid.ndim != 4:
        raise ValueError(f"grid has shape {grid.shape}; it must be [b h w c]")
    b, h, w, c = grid.shape
    if base == "column":
        sequence = grid.swapaxes(1, 2).reshape(b, h * w, c)
    elif base == "snake":
        sequence = _turn_odd_rows(grid).reshape(b, h * w, c)
    else:
        sequence = grid.reshape(b, h * w, c)
        sequence = sequence if base == "row" else _take(sequence, scan_order(base, h, w))
    return sequence[:, ::-1] if flipped else sequence


def to_grid(sequence: jax.Array, name: str, height: int, width: int) -> jax.Array:
    """The inverse of `to_sequence`: `[b (h w) c]` in the order `name` -> `[b h w c]`."""
    check_order(name)
    base, flipped = name.removesuffix("_reversed"), name.endswith("_reversed")
    (sequence,) = arrays(sequence=sequence)
    if sequence.ndim != 3:
        raise ValueError(f"sequence has shape {sequence.shape}; it must be [b (h w) c]")
    b, length, c = sequence.shape
    height, width = _sizes(height, width)
    if length != height * width:
        raise ValueError(f"a sequence of {length} steps does not fill {height} x {width} cells")
    sequence = sequence[:, ::-1] if flipped else sequence
    if base == "column":
        return sequence.reshape(b, width, height, c).swapaxes(1, 2)
    if base not in ("row", "snake"):
        sequence = _take(sequence, inverse_order(base, height, width))
    grid = sequence.reshape(b, height, width, c)
    return _turn_odd_rows(grid) if base == "snake" else grid


def _hilbert(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of Hilbert's curve over the least square of 2^k cells that holds `side`.

    It leads from the first to the last cell of the top row: down the left half, up the right one.
    """
    row, column, s = np.zeros(1, np.int32), np.zeros(1, np.int32), 1
    while s < side:
        row, column = (
            np.concatenate([column, row + s, row + s, s - 1 - column]),
            np.concatenate([row, column, column + s, 2 * s - 1 - row]),
        )
        s *= 2
    return row, column


def _take(x, order):
    # Unique, in-bounds indices: neither the gather nor its gradient's scatter checks or adds.
    return x.at[:, order].get(unique_indices=True, mode="promise_in_bounds")


def _turn_odd_rows(grid):
    odd = (np.arange(grid.shape[1]) % 2 == 1)[:, None, None]
    where = np.where if isinstance(grid, np.ndarray) else jnp.where
    return where(odd, grid[:, :, ::-1], grid)


def _frozen(order: np.ndarray) -> np.ndarray:
    order = np.ascontiguousarray(order)
    order.flags.writeable = False
    return order
