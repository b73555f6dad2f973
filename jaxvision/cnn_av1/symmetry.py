"""The eight symmetries of a square, of pixels and of partition types together.

A transposed block has the transposed partition: AV1's intra prediction treats what is above as it
treats what is left. Flips keep the partition only as far as the block itself decides it, since what
is known of its surroundings lies above and left.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.data.av1.partitions import HORZ_A, HORZ_B, VERT_A, VERT_B

KINDS = ("none", "transpose", "all")
TRANSPOSED = np.array([0, 2, 1, 3, 6, 7, 4, 5, 9, 8])  # type -> type


def _swapped(a: int, b: int) -> np.ndarray:
    table = np.arange(10)
    table[[a, b]] = b, a
    return table


UPSIDE_DOWN = _swapped(HORZ_A, HORZ_B)
MIRRORED = _swapped(VERT_A, VERT_B)


def _tables() -> np.ndarray:
    """`[8 10]`: types after the symmetry of each number (its bits: transpose, rows, columns)."""
    rows = []
    for number in range(8):
        table = TRANSPOSED if number & 1 else np.arange(10)
        table = UPSIDE_DOWN[table] if number & 2 else table
        rows.append(MIRRORED[table] if number & 4 else table)
    return np.stack(rows)


TABLES = _tables()


def turned(
    blocks: jax.Array, types: jax.Array, costs: jax.Array, numbers: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Applies symmetry `numbers [b]`, 0 … 7, to blocks `[b p p *]`, types `[b]`, costs `[b 4]`.

    `costs` are of NONE, HORZ, VERT and SPLIT. First the transpose, then the flips.
    """
    transposed = (numbers & 1).astype(bool)[:, None]
    costs = jnp.where(transposed, costs[:, jnp.array([0, 2, 1, 3])], costs)
    return turned_blocks(blocks, numbers), jnp.asarray(TABLES)[numbers, types], costs


def turned_blocks(blocks: jax.Array, numbers: jax.Array) -> jax.Array:
    """The blocks alone: what was of type t is of type `TABLES[number, t]` then."""
    shape = (-1, *[1] * (blocks.ndim - 1))
    transposed, rows, columns = (((numbers >> k) & 1).astype(bool).reshape(shape) for k in range(3))
    blocks = jnp.where(transposed, blocks.swapaxes(1, 2), blocks)
    blocks = jnp.where(rows, blocks[:, ::-1], blocks)
    return jnp.where(columns, blocks[:, :, ::-1], blocks)


def drawn(key: jax.Array, count: int, kind: str) -> jax.Array:
    """Numbers of `count` symmetries: of no, of the transpose alone, or of all eight."""
    if kind not in KINDS:
        raise ValueError(f"symmetries {kind!r} are none of {', '.join(KINDS)}")
    most = {"none": 1, "transpose": 2, "all": 8}[kind]
    return jax.random.randint(key, (count,), 0, most)
