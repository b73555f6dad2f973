"""States of many sequences in one array of slots, of which a batch uses some."""

import jax
import jax.numpy as jnp


def read(states: jax.Array, indices: jax.Array | None, rows: int, name: str) -> jax.Array:
    """The states of a batch's `rows`, `[b …]`, from `[b …]` or by `indices` from `[slots …]`.

    A row of padding, whose index is negative, reads zeros.
    """
    if indices is None:
        if states.shape[:1] != (rows,):
            raise ValueError(f"{name} has shape {states.shape}; its first axis must be b = {rows}")
        return states
    indices = jnp.asarray(indices)
    if indices.shape != (rows,) or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"indices is {indices.dtype} of shape {indices.shape}; it must be integers ({rows},)"
        )
    return states.at[_slots(indices, states)].get(mode="fill", fill_value=0)


def write(y, rows, states, indices) -> tuple[jax.Array, jax.Array]:
    """Puts a batch's `rows` back among the states; zeros `y` in rows of padding."""
    rows = rows.astype(states.dtype)
    if indices is None:
        return y, rows
    padding = (jnp.asarray(indices) < 0).reshape(-1, *(1,) * (y.ndim - 1))
    slots = _slots(jnp.asarray(indices), states)
    return jnp.where(padding, 0, y), states.at[slots].set(rows, mode="drop")


def _slots(indices, states):
    """Negative indices as one past the end, for jnp counts them from the end."""
    return jnp.where(indices < 0, states.shape[0], indices)
