"""Losses balanced by the effective number of a class's samples (Cui et al. 2019)."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxvision.losses.focal import focal_loss


def class_balanced_weights(counts: Sequence[int], *, beta: float = 0.9999) -> np.ndarray:
    """Weights `[k]` float32 of classes with `counts [k]` samples, `(1 - beta) / (1 - beta^n)`.

    Cui et al. 2019, eq. 12 and section 4: scaled to sum to the number of classes. A class of which
    there is no sample weighs nothing, and is not among those summed. `beta=0` weighs all alike.

    Raises:
      ValueError: for a beta outside [0, 1), a negative count, or no sample at all.
    """
    counts = np.asarray(counts, np.float64)
    if not 0 <= beta < 1:
        raise ValueError(f"beta={beta} must be from 0 to below 1")
    if counts.ndim != 1 or not (counts >= 0).all() or not counts.any():
        raise ValueError(f"counts {counts.tolist()} must be a row of 0 or more, one above 0")
    present = counts > 0
    effective = 1 - beta ** np.where(present, counts, 1)
    weights = np.where(present, (1 - beta) / effective, 0)
    return (weights * present.sum() / weights.sum()).astype(np.float32)


def class_balanced_focal_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    counts: Sequence[int],
    beta: float = 0.9999,
    gamma: float = 2.0,
) -> jax.Array:
    """Focal loss with those weights: `logits [*b k]`, `labels [*b]` -> `[*b]` float32.

    Cui et al. 2019, eq. 13, by softmax. Labels below 0 are ignored.
    """
    weights = class_balanced_weights(counts, beta=beta)
    if len(weights) != logits.shape[-1]:
        raise ValueError(f"{len(weights)} counts for logits of {logits.shape[-1]} classes")
    return focal_loss(logits, labels, gamma=gamma, weights=weights)
