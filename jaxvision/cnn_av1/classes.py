"""The ten partition types as the classes of three stages, and back: the one table of ids.

Stage 1 asks whether a block is partitioned at all, stage 2 into what: four quarters (SPLIT), even
stripes (RECT) or unequal parts (AB). Specialists then tell the RECT and the AB types apart. Stripes
are two or four: in libaom's own decisions the four-way types are as frequent as the two-way ones.
Without `four_way` they are left out, as in data that has none of them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.data.av1 import partitions
from jaxvision.data.av1.partitions import (
    HORZ,
    HORZ_4,
    HORZ_A,
    HORZ_B,
    NONE,
    SPLIT,
    VERT,
    VERT_4,
    VERT_A,
    VERT_B,
)

IGNORED = -1  # a block that a stage does not learn from
TYPES = partitions.NAMES
BINARY = ("NONE", "PARTITION")
MACRO = ("SPLIT", "RECT", "AB")
RECT_TYPES = (HORZ, VERT, HORZ_4, VERT_4)
AB_TYPES = (HORZ_A, HORZ_B, VERT_A, VERT_B)
RECT = tuple(TYPES[i] for i in RECT_TYPES)
AB = tuple(TYPES[i] for i in AB_TYPES)


def names(stage: str, *, four_way: bool = True) -> tuple[str, ...]:
    """The classes of `binary`, `macro`, `rect` or `ab`, in the order of their numbers."""
    known = {"binary": BINARY, "macro": MACRO, "rect": RECT if four_way else RECT[:2], "ab": AB}
    if stage not in known:
        raise ValueError(f"stage {stage!r} is none of {', '.join(known)}")
    return known[stage]


def stage_labels(types: np.ndarray, stage: str, *, four_way: bool = True) -> np.ndarray:
    """Partition types `[*]` as the class numbers of a stage, int32; IGNORED where it has no say.

    Raises:
      ValueError: for a type that is none of the ten.
    """
    types = np.asarray(types)
    if types.size and (types.min() < 0 or types.max() >= len(TYPES)):
        wrong = types[(types < 0) | (types >= len(TYPES))].flat[0]
        raise ValueError(f"partition type {wrong} is not from 0 to {len(TYPES) - 1}")
    return _table(stage, four_way)[types.astype(np.int64)]


def class_counts(types: np.ndarray, stage: str, *, four_way: bool = True) -> np.ndarray:
    """How many of the types `[*]` are of each class of a stage, `[k]`; others do not count."""
    labels = stage_labels(types, stage, four_way=four_way)
    return np.bincount(labels[labels != IGNORED], minlength=len(names(stage, four_way=four_way)))


def _table(stage: str, four_way: bool) -> np.ndarray:
    table = np.full(len(TYPES), IGNORED, np.int32)
    rect = RECT_TYPES if four_way else RECT_TYPES[:2]
    if stage == "binary":
        table[:] = 1
        table[NONE] = 0
    elif stage == "macro":
        table[SPLIT], table[list(rect)], table[list(AB_TYPES)] = 0, 1, 2
    elif stage in ("rect", "ab"):
        kinds = rect if stage == "rect" else AB_TYPES
        table[list(kinds)] = np.arange(len(kinds))
    else:
        names(stage)
    if not four_way:
        table[[HORZ_4, VERT_4]] = IGNORED
    return table


def assemble(partitioned: jax.Array, macro: jax.Array, rect: jax.Array, ab: jax.Array) -> jax.Array:
    """Probabilities of the ten types from those of the stages: the product along the tree.

    `partitioned [*]`, `macro [* 3]`, `rect [* 4]` or `[* 2]`, `ab [* 4]` -> `[* 10]`.
    """
    types = jnp.zeros((*partitioned.shape, len(TYPES)), jnp.float32)
    kinds = jnp.array(RECT_TYPES[: rect.shape[-1]])
    part = partitioned[..., None]
    types = types.at[..., NONE].set(1 - partitioned)
    types = types.at[..., SPLIT].set(partitioned * macro[..., 0])
    types = types.at[..., kinds].set(part * macro[..., 1:2] * rect)
    return types.at[..., jnp.array(AB_TYPES)].set(part * macro[..., 2:3] * ab)


def vote(logits: jax.Array) -> jax.Array:
    """The class that most members of an ensemble choose: `[members * k] -> [*]` int32.

    A tie goes to the class, of those tied, with the highest mean probability; then to the lowest.
    """
    logits = logits.astype(jnp.float32)
    votes = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1]).sum(0)
    tied = votes == votes.max(-1, keepdims=True)
    return jnp.where(tied, jax.nn.softmax(logits).mean(0), -1).argmax(-1).astype(jnp.int32)
