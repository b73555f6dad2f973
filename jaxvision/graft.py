"""Copies parameters by name from one model into another, and says what became of each."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxvision.names import flatten

SHOWN = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraftReport:
    """What became of every array, by path; printed as a table."""

    title: str
    loaded: tuple[str, ...]
    cast: tuple[str, ...]  # those loaded that had another dtype
    reshaped: tuple[str, ...]  # the same path with another shape: left as initialised
    absent: tuple[str, ...]  # not in the source: left as initialised
    unused: tuple[str, ...]  # only in the source, by their renamed path

    def __str__(self) -> str:
        rows = {k: getattr(self, k) for k in ("loaded", "cast", "reshaped", "absent", "unused")}
        return "\n".join(
            [f"{self.title}:"]
            + [
                f"  {fate:<9}{len(names):>5}  {_list(_together(names))}".rstrip()
                for fate, names in rows.items()
                if names or fate != "cast"
            ]
        )


def graft(
    target: Any,
    source: Any,
    rename: Sequence[tuple[str, str]] = (),
    *,
    title: str = "graft",
) -> tuple[Any, GraftReport]:
    """Replaces the leaves of `target` that `source` has under the same (renamed) path and shape.

    Each pair of `rename` is a regex and its replacement, applied to the paths of `source` in order.
    New leaves take the dtype and the placement of those they replace.
    """
    donors: dict[str, np.ndarray] = {}
    for path, leaf in flatten(source).items():
        name = path
        for pattern, replacement in rename:
            name = re.sub(pattern, replacement, name)
        if name in donors:
            raise ValueError(f"{title}: two source paths are renamed to {name!r}, one is {path!r}")
        donors[name] = leaf

    fates: dict[str, list[str]] = {"loaded": [], "reshaped": [], "absent": [], "cast": []}
    leaves = flatten(target)
    grafted = []
    for name, leaf in leaves.items():
        donor = donors.get(name)
        if donor is None:
            fates["absent"].append(name)
        elif donor.shape != leaf.shape:
            fates["reshaped"].append(f"{name} {list(donor.shape)} -> {list(leaf.shape)}")
        else:
            fates["loaded"].append(name)
            if donor.dtype != leaf.dtype:
                fates["cast"].append(name)
            leaf = _place(donor, leaf)
        grafted.append(leaf)
    if not fates["loaded"]:
        raise ValueError(
            f"{title}: nothing matches; the source has {sorted(donors)[:4]}, the model has "
            f"{list(leaves)[:4]}: mend the graft's rename"
            + (f"; of other shapes: {_list(fates['reshaped'])}" if fates["reshaped"] else "")
        )
    report = GraftReport(
        title=title,
        unused=tuple(sorted(donors.keys() - leaves.keys())),
        **{fate: tuple(names) for fate, names in fates.items()},
    )
    return jax.tree.unflatten(jax.tree.structure(target), grafted), report


def _place(donor: np.ndarray, leaf: Any) -> Any:
    values = np.asarray(donor).astype(leaf.dtype)
    if not isinstance(leaf, jax.Array):
        return values
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: values[index])


def _together(names: Sequence[str]) -> list[str]:
    """A long list by its folders: `encoder/a/kernel`, `encoder/a/bias` -> `encoder/a (2)`."""
    for depth in (3, 2, 1):
        if len(names) <= SHOWN:
            break
        folders = collections.Counter("/".join(name.split("/")[:depth]) for name in names)
        if len(folders) <= SHOWN or depth == 1:
            return [f"{name} ({count})" if count > 1 else name for name, count in folders.items()]
    return list(names)


def _list(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
