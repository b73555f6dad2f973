"""A model as one `.npz` file: what it is, its configuration, its parameters and other arrays.

A run's checkpoints hold what training needs; this is what a user takes along. None of it is code.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.stage import path_name
from jaxvision.written import whole_file


def save(path: Path, model: nnx.Module, *, kind: str, config: Mapping[str, Any]) -> None:
    """Writes `model` as of a `kind`, with the fields that `load`'s maker needs to build it."""
    _, state = nnx.split(model)
    arrays = {f"state/{name}": np.asarray(x) for name, x in _leaves(state).items()}
    about = np.array(json.dumps({"kind": kind, "config": dict(config)}))
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, about=about, **arrays)


def load(path: Path, make: Callable[[str, Mapping[str, Any]], nnx.Module]) -> nnx.Module:
    """The model of a file, built by `make(kind, config)` and filled.

    Raises:
      ValueError: for a file that is no model, or whose arrays are not those that `make` asks for.
      FileNotFoundError: if it is not there.
    """
    try:
        if not zipfile.is_zipfile(path):
            path.stat()  # FileNotFoundError
            raise ValueError("it is no .npz file, or is cut off")
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        about = json.loads(str(arrays.pop("about")))
        kind, config = about["kind"], about["config"]
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no model: {error}") from error
    try:
        graph, state = nnx.split(nnx.eval_shape(lambda: make(kind, config)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    wanted = _leaves(state)
    given = {name.removeprefix("state/"): x for name, x in arrays.items()}
    if {k: x.shape for k, x in given.items()} != {k: x.shape for k, x in wanted.items()}:
        raise ValueError(f"{path} holds other arrays than its configuration asks for")
    for name, x in given.items():
        if x.dtype != wanted[name].dtype or not np.isfinite(x).all():
            raise ValueError(f"{path}: {name} is not finite {wanted[name].dtype}: write it anew")
    filled = jax.tree_util.tree_map_with_path(
        lambda at, _: jnp.asarray(given[path_name(at)]), nnx.to_pure_dict(state)
    )
    nnx.replace_by_pure_dict(state, filled)
    return nnx.merge(graph, state)


def _leaves(state: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state))
    return {path_name(path): x for path, x in leaves}
