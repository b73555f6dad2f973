"""Mixtures of two examples: mixup and CutMix, on blocks `[b p p]`, and their loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betaincinv

QUANTILES = 4096  # of the Beta distribution: shares are drawn from among them


class Mixed(NamedTuple):
    """Blocks `[b p p]` float32, of which the share `lam [b]` is the row's and the rest another's.

    `labels [b]` are the rows' own, `others [b]` those of rows `order [b]`, which is also for what
    else goes with a block, such as its quantiser.
    """

    blocks: jax.Array
    labels: jax.Array
    others: jax.Array
    lam: jax.Array
    order: jax.Array


def mixup(key: jax.Array, blocks: jax.Array, labels: jax.Array, *, alpha: float = 0.2) -> Mixed:
    """Weighted sums of each block and another one of the batch, `lam` from Beta(alpha, alpha).

    Zhang et al. 2018, section 2, with a draw for every row.

    Raises:
      ValueError: for an alpha that is not above 0, or unequal numbers of blocks and labels.
    """
    order, lam = _draw(key, blocks, labels, alpha)
    blocks, labels = jnp.asarray(blocks, jnp.float32), jnp.asarray(labels)
    share = lam[:, None, None]
    mixed = share * blocks + (1 - share) * blocks[order]
    return Mixed(mixed, labels, labels[order], lam, order)


def cutmix(key: jax.Array, blocks: jax.Array, labels: jax.Array, *, alpha: float = 1.0) -> Mixed:
    """Blocks with a square of another one of the batch pasted into them, at the same place.

    Yun et al. 2019, section 3.1: the square's area is `1 - lam` of the block's before it is cut off
    at the edges; `lam` is what is left of the row's own pixels, exactly.

    Raises:
      ValueError: for an alpha that is not above 0, or unequal numbers of blocks and labels.
    """
    key, at = jax.random.split(key)
    order, lam = _draw(key, blocks, labels, alpha)
    side = blocks.shape[1]
    reach = side * jnp.sqrt(1 - lam) / 2
    centre = jax.random.uniform(at, (2, len(labels)), maxval=side)
    place = jnp.arange(side) + 0.5
    rows, columns = (jnp.abs(place - c[:, None]) < reach[:, None] for c in centre)  # [b p]
    inside = rows[:, :, None] & columns[:, None]
    blocks, labels = jnp.asarray(blocks, jnp.float32), jnp.asarray(labels)
    mixed = jnp.where(inside, blocks[order], blocks)
    return Mixed(mixed, labels, labels[order], 1 - inside.mean((1, 2)), order)


def mixed_loss(own: jax.Array, others: jax.Array, lam: jax.Array) -> jax.Array:
    """The losses against both labels `[b]`, by their shares: Zhang et al. 2018, section 2."""
    return lam * own + (1 - lam) * others


def _draw(key, blocks, labels, alpha):
    if not alpha > 0:
        raise ValueError(f"alpha={alpha} must be above 0")
    if blocks.ndim != 3 or len(blocks) != len(labels):
        raise ValueError(f"blocks {blocks.shape} are not [b p p] with {len(labels)} labels")
    # By a shift and a table: sorting and drawing from a Beta distribution compile for 30 s.
    shift_key, lam_key = jax.random.split(key)
    n = len(labels)
    order = (jnp.arange(n) + jax.random.randint(shift_key, (), 1, max(n, 2))) % n
    quantiles = betaincinv(alpha, alpha, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    drawn = jax.random.randint(lam_key, (n,), 0, QUANTILES)
    return order, jnp.asarray(quantiles, jnp.float32)[drawn]
