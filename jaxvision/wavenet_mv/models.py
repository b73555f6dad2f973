"""A codec's model as one file: configuration, parameters, tables; and the hash of all three."""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.config import from_config
from jaxvision.entropy.tables import Tables
from jaxvision.stage import path_name
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.written import whole_file

DEMO = Path("demo")  # stands for the model that comes with the library
ENCODERS = ("dead_zone", "thrift")  # of the compressor: what a decoder need not know
_DEMO = Path(__file__).parent / "demo" / "model.npz"


def save(path: Path, cfg: WavenetMvConfig, state: nnx.State, tables: Tables) -> None:
    arrays = {f"param/{k}": np.asarray(x) for k, x in _parameters(state).items()}
    arrays |= {f"table/{k}": x for k, x in tables.to_arrays().items()}
    arrays["config"] = np.array(json.dumps(dataclasses.asdict(cfg)))
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path) -> tuple[WavenetMV, Tables]:
    """`DEMO` is what comes along. ValueError for a file that is no model; FileNotFoundError."""
    path = _DEMO if path == DEMO else path
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {k: data[k] for k in data.files}
        cfg = from_config(WavenetMvConfig, dict(json.loads(str(arrays["config"]))))
        tables = Tables.from_arrays(_below(arrays, "table/"))
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is no model of wavenet_mv: {error}") from error
    model = nnx.eval_shape(lambda: WavenetMV(cfg, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    given, wanted = _below(arrays, "param/"), _parameters(state)
    if set(given) != set(wanted) or any(given[k].shape != x.shape for k, x in wanted.items()):
        raise ValueError(f"{path} holds other parameters than its configuration asks for")
    for name, x in given.items():
        if x.dtype != np.float32 or not np.isfinite(x).all():
            raise ValueError(f"{path}: {name} is not finite float32: train or fetch it anew")
    filled = jax.tree_util.tree_map_with_path(
        lambda at, _: jnp.asarray(given[path_name(at)]), nnx.to_pure_dict(state)
    )
    nnx.replace_by_pure_dict(state, filled)
    return nnx.merge(graph, state), tables


def _below(arrays, prefix):
    return {k.removeprefix(prefix): x for k, x in arrays.items() if k.startswith(prefix)}


def _parameters(state) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state))
    return {path_name(path): x for path, x in leaves}


def digest(cfg, state, tables) -> bytes:
    """SHA-256 of all that a decoder must have in common with the encoder."""
    fields = dataclasses.asdict(cfg)
    for name in ENCODERS:
        del fields["compressor"][name]
    sha = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name, x in sorted(_parameters(state).items()):
        sha.update(name.encode() + np.asarray(x, "<f4").tobytes())
    sha.update(tables.digest)
    return sha.digest()
