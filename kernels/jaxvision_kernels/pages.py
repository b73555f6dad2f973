"""States of many sequences in one array of slots, of which a batch uses some."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxvision_kernels import meshes
from jaxvision_kernels.operands import arrays


def read(states: jax.Array, indices: jax.Array | None, rows: int, name: str) -> jax.Array:
    """The states of a batch's `rows`, `[b …]`, from `[b …]` or by `indices` from `[slots …]`.

    A row of padding reads zeros: one whose index is negative, or traced and past the last slot.
    """
    if indices is None:
        if states.shape[:1] != (rows,):
            raise ValueError(f"{name} has shape {states.shape}; its first axis must be b = {rows}")
        return states
    if states.ndim == 0:
        raise ValueError(f"{name} has shape (); its first axis must be that of the slots")
    (indices,) = arrays(indices=indices)
    if indices.shape != (rows,) or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"indices is {indices.dtype} of shape {indices.shape}; it must be integers ({rows},)"
        )
    slots = states.shape[0]
    known = not isinstance(indices, jax.core.Tracer) and indices.is_fully_addressable
    if known and (np.asarray(indices) >= slots).any():
        raise ValueError(f"indices holds {np.asarray(indices).max()}; {name} has {slots} slots")

    def gather(states, indices):
        return (states.at[_slots(indices, states)].get(mode="fill", fill_value=0),)

    spec = jax.typeof(states).sharding.spec
    return meshes.run(gather, (states, indices), P(None, *spec[1:]))[0]


def write(y, rows, states, indices) -> tuple[jax.Array, jax.Array]:
    """Puts a batch's `rows` back among the states; zeros `y` in rows of padding."""
    rows = rows.astype(states.dtype)
    if indices is None:
        return y, rows

    def scatter(y, rows, states, indices):
        slots = _slots(indices, states)
        padding = (slots == states.shape[0]).reshape(-1, *(1,) * (y.ndim - 1))
        return jnp.where(padding, 0, y), states.at[slots].set(rows, mode="drop")

    specs = (jax.typeof(x).sharding.spec for x in (y, states))
    return meshes.run(scatter, (y, rows, states, jnp.asarray(indices)), *specs)


def _slots(indices, states):
    """Where rows lie; rows of padding one past the end, for jnp counts negatives from there."""
    slots = states.shape[0]
    indices = indices.astype(jnp.int32)  # narrower ones may not reach that far
    return jnp.where((indices < 0) | (indices >= slots), slots, indices)
