"""From the stages' logits to probabilities of the ten types, and to one of them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.cnn_av1 import classes
from jaxvision.data.av1.partitions import NODE_SIZES, possible

NEVER = -1e9  # a logit of what cannot be; infinite ones make NaN of gradients


def _table(stage: str) -> np.ndarray:
    """Which classes of a stage a node of each level can have: bool `[4 k]`."""
    if stage == "types":
        return np.array([np.isin(range(len(classes.TYPES)), possible(p)) for p in NODE_SIZES])
    count = len(classes.names(stage))
    labels = [classes.stage_labels(np.array(possible(p)), stage) for p in NODE_SIZES]
    return np.array([np.isin(range(count), row) for row in labels])


TABLES = {stage: _table(stage) for stage in ("macro", "rect", "types")}


def allow(logits: jax.Array, stage: str, levels: jax.Array) -> jax.Array:
    """Logits `[b k]` of "macro", "rect" or "types", without the classes that a level lacks.

    Nodes of 8 pixels (level 3 of `levels [b]`) have no AB and no four-way types.
    """
    table = jnp.asarray(TABLES[stage][:, : logits.shape[-1]])
    return jnp.where(table[levels], logits, NEVER)


def decide(
    partitioned: jax.Array,
    macro: jax.Array,
    rect: jax.Array,
    ab: jax.Array,
    *,
    threshold: jax.Array | float = 0.5,
) -> jax.Array:
    """The type that the hierarchy chooses, `[b]` int32.

    NONE where the probability `partitioned [b]` is below the threshold; else what the largest of
    `macro [b 3]` says: SPLIT, or the largest of `rect [b 2]` or `[b 4]`, or the vote of the AB
    members' logits `ab [members b 4]`. `macro` and `rect` are probabilities or logits.
    """
    kinds = jnp.array([classes.TYPES.index(name) for name in classes.RECT])
    stripes = kinds[rect.argmax(-1)]
    parts = jnp.array(classes.AB_TYPES)[classes.vote(ab)]
    chosen = jnp.select([macro.argmax(-1) == i for i in range(2)], [classes.SPLIT, stripes], parts)
    return jnp.where(partitioned >= threshold, chosen, classes.NONE).astype(jnp.int32)


def probabilities(
    logits: Mapping[str, jax.Array], *, threshold: jax.Array | float = 0.5
) -> dict[str, jax.Array]:
    """Of the stages' logits "binary" `[b 2]`, "macro", "rect" and "ab" `[members b 4]`.

    Returns "binary" `[b]`, the probability of a partition, "macro" `[b 3]` and "rect" `[b k]`
    probabilities, "ab", the members' logits, "types" `[b 10]`, the product along the tree with the
    members' mean for AB, and "hard" `[b]`, what `decide` says.
    """
    partitioned = jax.nn.softmax(logits["binary"])[..., 1]
    macro, rect = jax.nn.softmax(logits["macro"]), jax.nn.softmax(logits["rect"])
    members = jax.nn.softmax(logits["ab"]).mean(0)
    return {
        "binary": partitioned,
        "macro": macro,
        "rect": rect,
        "ab": logits["ab"],
        "types": classes.assemble(partitioned, macro, rect, members),
        "hard": decide(partitioned, macro, rect, logits["ab"], threshold=threshold),
    }
