"""Weights of the PyTorch originals, into our mixers and back, without PyTorch.

    mixer = MambaMixer(768, MambaConfig(), rngs=nnx.Rngs(0))
    load_torch_weights(mixer, read_weights("model.safetensors"), "backbone.layers.0.mixer.")

Names are those of mamba_ssm, Vim, MambaVision and Hydra. Linear kernels are transposed, and taps
of convolutions lie `[w d]`, not `[d 1 w]`.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx

# A path of ours to a name of theirs.
NAMES = (
    (r"^ssm\.", ""),
    (r"^ssm_b\.A_log$", "A_b_log"),
    (r"^ssm_b\.(\w+)\.", r"\1_b."),
    (r"\.(kernel|scale)$", ".weight"),
)


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a `.safetensors` or `.npz` file, by name; `ValueError` for others and broken ones."""
    path = Path(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as data:
                return {k: data[k] for k in data.files}
        except FileNotFoundError:
            raise
        except (ValueError, OSError, TypeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path} is no readable .npz file: {error}") from error
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.flax import load_file

        try:
            return {k: np.asarray(x) for k, x in load_file(path).items()}
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is no readable .safetensors file: {error}") from error
    raise ValueError(
        f"{path} is neither .safetensors nor .npz; save a state dict with "
        "`safetensors.torch.save_file(model.state_dict(), path)`"
    )


def load_torch_weights(module: nnx.Module, weights: Mapping, prefix: str = "") -> None:
    """Puts the weights under `prefix` into a mixer; all of them must find their place.

    Raises:
      ValueError: naming what is missing, left over, or of another shape.
    """
    theirs = {k.removeprefix(prefix): x for k, x in weights.items() if k.startswith(prefix)}
    if not theirs:
        raise ValueError(f"no weight begins with {prefix!r}; there are {_some(weights)}")
    paths = {torch_name(path): path for path, _ in _params(module)}
    if missing := set(paths) - set(theirs):
        raise ValueError(f"weights under {prefix!r} lack {_some(missing)}")
    if unused := set(theirs) - set(paths):
        raise ValueError(f"{type(module).__name__} has no place for {_some(unused)}")
    found = []
    for path, variable in _params(module):
        name = torch_name(path)
        ours = variable[...]
        value = _turned(path, np.asarray(theirs[name]))
        if value.shape != ours.shape:
            raise ValueError(
                f"{prefix}{name} has shape {theirs[name].shape}; {type(module).__name__} as it is "
                f"configured wants {_turned(path, ours, back=True).shape}"
            )
        found.append((variable, value.astype(ours.dtype)))
    for variable, value in found:  # once all are known to fit
        variable[...] = value


def torch_weights(module: nnx.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """A mixer's weights by the names and in the layout of PyTorch: undoes `load_torch_weights`."""
    return {
        prefix + torch_name(path): _turned(path, np.asarray(variable[...]), back=True)
        for path, variable in _params(module)
    }


def torch_name(path: str) -> str:
    """Their name of a parameter of ours: `ssm.x_proj.kernel` -> `x_proj.weight`."""
    for pattern, replacement in NAMES:
        path = re.sub(pattern, replacement, path)
    return path


def _params(module):
    for path, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Param):
            yield ".".join(map(str, path)), node


def _turned(path, x, back=False):
    """Transposes what lies otherwise in PyTorch."""
    if path.endswith(".kernel"):
        return x.T
    if re.search(r"(^|\.)conv1d\w*\.weight$", path):
        return x.T[:, None] if back else x[:, 0].T if x.ndim == 3 else x.T
    return x


def _some(names, shown: int = 6) -> str:
    names = sorted(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
