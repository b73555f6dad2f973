"""Classification losses: float32, unreduced."""

import jax
import jax.numpy as jnp
import optax


def sigmoid_focal_loss(
    logits: jax.Array, targets: jax.Array, *, alpha: float = 0.25, gamma: float = 2.0
) -> jax.Array:
    """Binary cross entropy that fades for examples already classified well.

    Lin et al. 2017, eq. 5. `logits [*]`, `targets [*]` in {0, 1} -> `[*]`.
    """
    logits = logits.astype(jnp.float32)
    p = jax.nn.sigmoid(logits)
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return alpha_t * (1 - p_t) ** gamma * optax.sigmoid_binary_cross_entropy(logits, targets)


def quality_focal_loss(logits: jax.Array, quality: jax.Array, *, beta: float = 2.0) -> jax.Array:
    """Focal loss for soft targets such as the IoU of the box: `|q - p|^beta · BCE(p, q)`.

    Li et al. 2020 (Generalized Focal Loss), eq. 3. `logits [*]`, `quality [*]` in [0, 1] -> `[*]`.
    """
    logits = logits.astype(jnp.float32)
    weight = jnp.abs(quality - jax.nn.sigmoid(logits)) ** beta
    return weight * optax.sigmoid_binary_cross_entropy(logits, quality)
