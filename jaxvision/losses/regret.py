"""Expected regret: what choosing by the network costs more than choosing right."""

import jax
import jax.numpy as jnp


def regret_loss(logits: jax.Array, costs: jax.Array) -> jax.Array:
    """`sum_k p_k (cost_k / min cost - 1)`: `logits [*b k]`, `costs [*b k]` -> `[*b]` float32.

    Costs are rate-distortion costs, above 0, of each choice; those that are not finite are unknown,
    and `p` is the softmax over the others. A row of which fewer than two are known has no loss. An
    error between choices that cost nearly the same is nearly free, as it is in the encoder
    (cost-sensitive learning: Elkan 2001, eq. 1).

    Raises:
      ValueError: for costs of another shape than the logits.
    """
    if logits.shape != costs.shape:
        raise ValueError(
            f"costs of shape {costs.shape} for logits of shape {logits.shape}: give NaN for "
            "choices whose cost is not known"
        )
    known = jnp.isfinite(costs)
    costs = jnp.where(known, costs, jnp.inf).astype(jnp.float32)
    least = costs.min(-1, keepdims=True)
    counted = known.sum(-1) > 1
    least = jnp.where(counted[..., None], least, 1)
    regret = jnp.where(known, costs / least - 1, 0)
    z = jnp.where(known, logits.astype(jnp.float32), -jnp.inf)
    z = jnp.where(counted[..., None], z, 0)
    return jnp.where(counted, (jax.nn.softmax(z) * regret).sum(-1), 0)
