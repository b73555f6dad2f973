"""Packed sequences: several segments one after another in a row of a batch."""

import jax
import jax.numpy as jnp

from jaxvision_kernels.operands import expect


def check(segment_ids: jax.Array | None, shape: tuple[int, int]) -> None:
    """Raises `ValueError` for ids that are not integers `[b l]`."""
    expect("segment_ids", segment_ids, {"[b l]": shape})
    if segment_ids is not None and not jnp.issubdtype(segment_ids.dtype, jnp.integer):
        raise ValueError(f"segment_ids is {segment_ids.dtype}; it must hold integers")


def kept(segment_ids: jax.Array | None, reverse: bool) -> jax.Array | None:
    """`[b l]` float32: 0 where the state is cleared, before a segment's first step, else 1."""
    if segment_ids is None:
        return None
    ids = segment_ids
    same = (ids[:, 1:] == ids[:, :-1]).astype(jnp.float32)
    edge = jnp.ones((ids.shape[0], 1), jnp.float32)
    return jnp.concatenate([same, edge] if reverse else [edge, same], axis=1)


def numbers(segment_ids: jax.Array) -> jax.Array:
    """`[b l]`: how many times the id has changed, which tells segments of one id apart."""
    changed = segment_ids[:, 1:] != segment_ids[:, :-1]
    return jnp.cumsum(jnp.pad(changed, ((0, 0), (1, 0))), axis=1)


def same(number: jax.Array, offset: int) -> jax.Array:
    """`[b l]` bool: whether steps t and t + offset lie in one segment, by their `numbers`.

    Steps before the first and after the last count to the first and the last segment.
    """
    length = number.shape[1]
    there = jnp.clip(jnp.arange(length) + offset, 0, length - 1)
    return number == number[:, there]
