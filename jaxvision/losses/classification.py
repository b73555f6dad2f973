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


def masked_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, ignore: int
) -> tuple[jax.Array, jax.Array]:
    """Cross entropy of `logits [* k]` and integer `labels [*]`, 0 where a label is `ignore`.

    Returns `[*]` float32, and which of them count, bool `[*]`. Other labels beyond k give NaN.
    """
    labels = labels.astype(jnp.int32)
    counted = labels != ignore
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    index = jnp.where(counted, labels, 0)[..., None]
    picked = jnp.take_along_axis(log_p, index, axis=-1, mode="fill", fill_value=jnp.nan)[..., 0]
    return jnp.where(counted, -picked, 0), counted
