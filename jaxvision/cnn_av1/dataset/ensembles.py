"""Three drawings of one training set, for three specialists that should differ.

An ensemble gains by what its members do not share (Breiman 1996, "Bagging predictors", Machine
Learning 24). Blocks of one picture are alike, so what is drawn with replacement are sources, not
blocks: resampling within them would make three sets of the same pictures (Field & Welsh 2007,
"Bootstrapping clustered data", J. R. Statist. Soc. B 69, 3). About 37 % of the sources are missing
from each member. With fewer than `FEWEST` sources that would leave a member next to none: blocks
are drawn then. Classes keep their shares: the sampler balances them.
"""

import itertools

import numpy as np

MEMBERS = 3
FEWEST = 4


def bootstrap(source: np.ndarray, labels: np.ndarray, *, seed: int, member: int) -> np.ndarray:
    """Indices of a member's examples, some twice or more, in the order of the set.

    `source [n]`, the source of each example as a number; `labels [n]`. Draws that lack a class that
    the whole has are drawn again: of at most four classes, one in ten draws or more has all.
    """
    if not len(labels):
        return np.zeros(0, np.int64)
    groups = [np.flatnonzero(source == one) for one in np.unique(source)]
    if len(groups) < FEWEST:
        groups = list(np.arange(len(labels))[:, None])
    classes = len(np.unique(labels))
    for attempt in itertools.count():
        rng = np.random.default_rng((seed, member, attempt))
        drawn = rng.integers(len(groups), size=len(groups))
        chosen = np.sort(np.concatenate([groups[i] for i in drawn]))
        if len(np.unique(labels[chosen])) == classes:
            return chosen
