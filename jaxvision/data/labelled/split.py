"""Splits by group: no clip is in both parts, every category in about the same share of each."""

import collections
from collections.abc import Sequence


def hold_out_groups(
    groups: Sequence[str], categories: Sequence[str], *, every: int
) -> frozenset[str]:
    """The groups to hold out: of each category every `every`-th in order of their names.

    `groups[i]` and `categories[i]` are of picture i; a group's category is the one that most of its
    pictures have. A category of fewer than `every // 2 + 1` groups is trained on alone.
    """
    if every < 2:
        raise ValueError(f"every={every}: 1 would hold all groups out")
    votes: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for group, category in zip(groups, categories, strict=True):
        votes[group][category] += 1
    members: dict[str, list[str]] = collections.defaultdict(list)
    for group in sorted(votes):
        counts = votes[group]
        members[min(counts, key=lambda name: (-counts[name], name))].append(group)
    return frozenset(g for names in members.values() for g in names[every // 2 :: every])
