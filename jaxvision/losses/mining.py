"""Hard examples: which negatives of a batch are worth learning from."""

import jax
import jax.numpy as jnp


def hard_negatives(
    losses: jax.Array, labels: jax.Array, *, ratio: float = 3.0, least: int = 1
) -> jax.Array:
    """Weights `[b]` float32 of 1 for all positives and the hardest negatives, of 0 for the others.

    Negatives, of label 0, are ranked by `losses [b]`; the first `ratio` times as many as there are
    positives count, and `least` even without any (Shrivastava et al. 2016, OHEM, section 4; the
    ratio is that of Liu et al. 2016, SSD, section 2.2). Labels below 0 never count. Without
    gradient: multiply and divide by the weights' sum.
    """
    positive, negative = labels > 0, labels == 0
    most = jnp.maximum(jnp.round(ratio * positive.sum()), least)
    hardness = jnp.where(negative, losses, -jnp.inf)
    rank = jnp.argsort(jnp.argsort(-hardness, stable=True), stable=True)  # 0 is the hardest
    chosen = positive | (negative & (rank < most))
    return jax.lax.stop_gradient(chosen.astype(jnp.float32))
