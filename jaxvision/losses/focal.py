"""Focal losses: cross entropy that fades for examples already classified well.

Lin et al. 2017, eq. 5: `-alpha_t (1 - p_t)^gamma log p_t`; `gamma=0` is weighted cross entropy.
Labels below 0 are ignored: their loss and its gradient are 0.
"""

import jax
import jax.numpy as jnp


def focal_loss(
    logits: jax.Array, labels: jax.Array, *, gamma: float = 2.0, weights: jax.Array | None = None
) -> jax.Array:
    """`logits [*b k]`, integer `labels [*b]` -> `[*b]` float32; `weights [k]` are the alphas.

    Labels beyond k give NaN.
    """
    counted = labels >= 0
    index = jnp.where(counted, labels, 0).astype(jnp.int32)
    z = logits.astype(jnp.float32)
    own = jnp.arange(z.shape[-1]) == index[..., None]
    own_logit = jnp.where(index < z.shape[-1], jnp.where(own, z, 0).sum(-1), jnp.nan)
    loss = _focal(own_logit - jax.nn.logsumexp(jnp.where(own, -jnp.inf, z), axis=-1), gamma)
    loss = loss if weights is None else loss * jnp.asarray(weights, jnp.float32)[index]
    return jnp.where(counted, loss, 0)


def binary_focal_loss(
    logits: jax.Array, labels: jax.Array, *, gamma: float = 2.0, alpha: float | None = 0.25
) -> jax.Array:
    """One logit for class 1: `logits [*]`, `labels [*]` of 0, 1 -> `[*]` float32.

    `alpha` weighs class 1 and `1 - alpha` class 0; None weighs neither.
    """
    positive = labels > 0
    loss = _focal(jnp.where(positive, 1.0, -1.0) * logits.astype(jnp.float32), gamma)
    loss = loss if alpha is None else loss * jnp.where(positive, alpha, 1 - alpha)
    return jnp.where(labels >= 0, loss, 0)


def _focal(margin, gamma):
    """Of the log odds of the right class; `1 - p` would have no digits left where p is near 1."""
    return -jnp.exp(gamma * jax.nn.log_sigmoid(-margin)) * jax.nn.log_sigmoid(margin)
