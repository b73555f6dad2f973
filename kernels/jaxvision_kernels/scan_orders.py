"""Orders in which a sequence model visits the cells of an image, as index maps.

Several orders give a causal scan several directions to see from (VMamba, arXiv 2401.10166, fig. 3).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SCAN_ORDERS = (
    "row",  # left to right, then down
    "row_reversed",
    "column",  # top to bottom, then right
    "column_reversed",
    "snake",  # rows, every second one from right to left: consecutive cells are neighbours
    "snake_reversed",
)


@functools.lru_cache(maxsize=256)
def scan_order(name: str, height: int, width: int) -> np.ndarray:
    """Returns int32 `[height * width]`: the flat, row-major index of the cell seen at each step.

    The array is cached and read-only. `x[:, scan_order(…)]` brings `[b (h w) c]` into the order.
    """
    if name not in SCAN_ORDERS:
        raise ValueError(f"scan order {name!r} is none of {SCAN_ORDERS}")
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} cells has no scan order")
    grid = np.arange(height * width, dtype=np.int32).reshape(1, height, width, 1)
    return _frozen(to_sequence(grid, name).reshape(-1))


@functools.lru_cache(maxsize=256)
def inverse_order(name: str, height: int, width: int) -> np.ndarray:
    """Returns int32 `[height * width]`: the step that sees each cell; it undoes `scan_order`."""
    return _frozen(np.argsort(scan_order(name, height, width)).astype(np.int32))


def to_sequence(grid: jax.Array, name: str) -> jax.Array:
    """Lays `[b h w c]` out as `[b (h w) c]` in the order `name`.

    Equals indexing with `scan_order`, by transposes and flips, whose gradients are as cheap as they
    are; the gradient of an indexing is a scatter. `selective_scan(…, reverse=True)` spares the flip
    of a reversed order altogether.
    """
    base, flipped = _split(name)
    grid = grid.swapaxes(1, 2) if base == "column" else grid
    grid = _turn_odd_rows(grid) if base == "snake" else grid
    sequence = grid.reshape(grid.shape[0], -1, grid.shape[3])
    return sequence[:, ::-1] if flipped else sequence


def to_grid(sequence: jax.Array, name: str, height: int, width: int) -> jax.Array:
    """The inverse of `to_sequence`: `[b (h w) c]` in the order `name` -> `[b h w c]`."""
    base, flipped = _split(name)
    b, length, c = sequence.shape
    if length != height * width:
        raise ValueError(f"a sequence of {length} steps does not fill {height} x {width} cells")
    sequence = sequence[:, ::-1] if flipped else sequence
    if base == "column":
        return sequence.reshape(b, width, height, c).swapaxes(1, 2)
    grid = sequence.reshape(b, height, width, c)
    return _turn_odd_rows(grid) if base == "snake" else grid


def _split(name: str) -> tuple[str, bool]:
    if name not in SCAN_ORDERS:
        raise ValueError(f"scan order {name!r} is none of {SCAN_ORDERS}")
    return name.removesuffix("_reversed"), name.endswith("_reversed")


def _turn_odd_rows(grid):
    odd = (np.arange(grid.shape[1]) % 2 == 1)[:, None, None]
    where = np.where if isinstance(grid, np.ndarray) else jnp.where
    return where(odd, grid[:, :, ::-1], grid)


def _frozen(order: np.ndarray) -> np.ndarray:
    order.flags.writeable = False
    return order
