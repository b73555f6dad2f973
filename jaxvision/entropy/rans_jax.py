"""Interleaved rANS compiled by JAX: the bytes of `rans`, one row of lanes a step of a scan.

It pays where lanes are few, and where symbols and index lie on an accelerator. It compiles anew for
each number of symbols.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.lanes import LOW, check_end, dealt, joined, parted
from jaxvision.entropy.tables import Tables


def encode(
    symbols: np.ndarray, index: np.ndarray, tables: Tables, *, lanes: int, begin: int = LOW
) -> bytes:
    """As `rans.encode`."""
    start, frequency = dealt(symbols, tables.rows(index), tables, lanes)
    first = np.full(lanes, begin, np.uint32)
    states, low, full = map(np.asarray, _encode(first, start, frequency, tables.precision))
    return joined(states, low[full])


def decode(
    data: bytes, index: np.ndarray, tables: Tables, *, lanes: int, begin: int = LOW
) -> np.ndarray:
    """As `rans.decode`."""
    rows = tables.rows(index)
    states, words = parted(data, lanes)
    count = len(rows)
    if len(words) > count:  # a symbol takes a word at most
        raise BitstreamError(f"{len(words)} words for {count} symbols")
    padded = np.zeros(-(-count // lanes) * lanes, np.int32)
    padded[:count] = rows
    room = np.zeros(1 << len(words).bit_length(), np.uint16)  # few sizes, few compilations
    room[: len(words)] = words
    steps = jnp.asarray(tables.steps)
    states, used, slots = _decode(states, room, padded.reshape(-1, lanes), count, steps)
    check_end(np.asarray(states), len(words) - int(used), begin)
    slots = np.asarray(slots).reshape(-1)[:count]
    return tables.lookup[rows, slots].astype(np.int32)


@functools.partial(jax.jit, static_argnums=3)
def _encode(x, start, frequency, precision):
    """x `[lanes]`, start, frequency `[rows lanes]` -> states; words and whether each is written."""

    def row(x, span):
        start, frequency = span
        full = x >> (32 - precision) >= frequency
        low = x.astype(jnp.uint16)
        x = jnp.where(full, x >> 16, x)
        return x + x // frequency * ((1 << precision) - frequency) + start, (low, full)

    x, (low, full) = lax.scan(row, x, (start, frequency), reverse=True)
    return x, low, full


@jax.jit
def _decode(x, words, index, count, steps):
    """x `[lanes]`, index `[rows lanes]` -> states, words taken, slots `[rows lanes]`."""
    lanes = len(x)
    width = steps.shape[1]

    def row(carry, of_row):
        x, used = carry
        index, first = of_row
        slot = x % width
        step = steps[index, slot]
        state = ((step >> 16) + 1) * (x // width) + (step & 0xFFFF)
        inside = first + jnp.arange(lanes) < count
        hungry = inside & (state < LOW)
        place = used + jnp.cumsum(hungry) - 1
        fed = state << 16 | words[place]  # a place beyond the end reads the last; told at the end
        x = jnp.where(hungry, fed, jnp.where(inside, state, x))
        return (x, place[-1] + 1), slot.astype(jnp.uint16)

    firsts = jnp.arange(len(index)) * lanes
    (x, used), slots = lax.scan(row, (x, jnp.int32(0)), (index, firsts))
    return x, used, slots
