"""Trees of arrays as flat mappings, by the names of their leaves."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxvision.stage import path_name


def flatten(tree: Any) -> dict[str, Any]:
    """`{"blocks": {0: {"kernel": x}}}` -> `{"blocks/0/kernel": x}`, in the order of its leaves."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe_difference(there: Mapping[str, str], here: Mapping[str, str], count: int = 4) -> str:
    """Names the first entries in which two `{path: type}` differ."""
    names = [k for k in {**here, **there} if there.get(k) != here.get(k)]
    shown = [
        f"{k} is {there.get(k, 'absent')} there, {here.get(k, 'absent')} here"
        for k in names[:count]
    ]
    return "; ".join(shown) + (f"; and {len(names) - count} more" if len(names) > count else "")


def types(arrays: Mapping[str, Any]) -> dict[str, str]:
    """`{path: "float32[8, 16]"}`."""
    return {k: f"{x.dtype}{list(x.shape)}" for k, x in arrays.items()}
