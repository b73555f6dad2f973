"""Center loss: embeddings of a class lie close together (Wen et al. 2016)."""

import jax
import jax.numpy as jnp


def center_loss(embeddings: jax.Array, labels: jax.Array, centers: jax.Array) -> jax.Array:
    """Half the squared distance to the center of one's class: `[b d], [b], [k d] -> [b]` float32.

    Wen et al. 2016, eq. 2. Its gradient moves embeddings and centers alike: those are learned with
    the rest, where the paper averages them by hand (eq. 4). Labels below 0 are ignored.
    """
    counted = labels >= 0
    own = centers.astype(jnp.float32)[jnp.where(counted, labels, 0)]
    distance = ((embeddings.astype(jnp.float32) - own) ** 2).sum(-1)
    return jnp.where(counted, distance / 2, 0)
