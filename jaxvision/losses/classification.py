"""Classification losses: float32, unreduced."""

import jax
import jax.numpy as jnp
import optax


def quality_focal_loss(logits: jax.Array, quality: jax.Array, *, beta: float = 2.0) -> jax.Array:
    """Focal loss for soft targets such as the IoU of the box: `|q - p|^beta · BCE(p, q)`.

    Li et al. 2020 (Generalized Focal Loss), eq. 3. `logits [*]`, `quality [*]` in [0, 1] -> `[*]`.
    """
    logits = logits.astype(jnp.float32)
    weight = jnp.abs(quality - jax.nn.sigmoid(logits)) ** beta
    return weight * optax.sigmoid_binary_cross_entropy(logits, quality)
