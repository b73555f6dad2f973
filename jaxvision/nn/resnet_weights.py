"""Weights of torchvision's ResNet-18, for a trunk of one channel or three, without PyTorch.

    trunk = ResNet(ResNetConfig(), rngs=nnx.Rngs(0))
    load_resnet18(trunk, read_weights("resnet18.safetensors"))

A folded trunk takes luma in [0, 1] less LUMA_MEAN, over LUMA_STD.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.nn.resnet import ConvNorm, ResNet

MEAN = np.array([0.485, 0.456, 0.406])  # ImageNet's, of RGB in [0, 1]: torchvision's convention
STD = np.array([0.229, 0.224, 0.225])
LUMA_MEAN, LUMA_STD = 0.449, 0.226  # their means, near the statistics of ImageNet in grey
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
LEFT_OUT = ("fc.weight", "fc.bias")


def load_resnet18(trunk: ResNet, weights: Mapping[str, np.ndarray], *, fold: bool = True) -> None:
    """Puts a state dict of torchvision's `resnet18`, names and layout as there, into a trunk.

    With `fold` the first convolution's three channels become one, `fold_rgb`; a trunk of more has
    zeros for its others, so that it starts as if it had the one. Without, it wants three channels.
    The classifier is left out.

    Raises:
      ValueError: naming what is missing, left over, or of another shape; nothing is changed then.
    """
    if trunk.cfg.norm != "batch" or trunk.cfg.stem != "imagenet":
        raise ValueError(
            f"resnet.norm {trunk.cfg.norm!r} and stem {trunk.cfg.stem!r} have no place for "
            "torchvision's weights: use norm 'batch' and stem 'imagenet'"
        )
    wanted = _variables(trunk)
    counters = {k for k in weights if k.endswith(".num_batches_tracked")}
    if missing := sorted(set(wanted) - set(weights)):
        raise ValueError(f"the weights lack {_some(missing)}")
    if unused := sorted(set(weights) - set(wanted) - counters - set(LEFT_OUT)):
        raise ValueError(f"a trunk of blocks {trunk.cfg.blocks} has no place for {_some(unused)}")
    found = []
    for name, variable in wanted.items():
        value = np.asarray(weights[name], np.float32)
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        if fold and name == "conv1.weight" and value.shape[2:3] == (3,):
            others = np.zeros((*value.shape[:2], trunk.cfg.channels - 1, value.shape[3]))
            value = np.concatenate([fold_rgb(value), others], axis=2).astype(np.float32)
        if value.shape != variable.shape:
            raise ValueError(
                f"{name} of shape {np.shape(weights[name])} gives {value.shape}; this trunk of "
                f"width {trunk.cfg.width} and {trunk.cfg.channels} channels wants {variable.shape}"
            )
        found.append((variable, value))
    for variable, value in found:  # once all are known to fit
        variable.set_value(jnp.asarray(value))


def fold_rgb(kernel: np.ndarray) -> np.ndarray:
    """A kernel `[h w 3 o]` for RGB, normalised by MEAN and STD, as one for luma `[h w 1 o]`.

    On a grey picture each normalised channel is LUMA_STD / STD times the normalised luma, but for
    an offset of at most 0.19; this is left out, for zero padding would no longer be neutral.
    """
    return (kernel * (LUMA_STD / STD)[:, None]).sum(2, keepdims=True)


def _variables(trunk: ResNet) -> dict[str, nnx.Variable]:
    """Parameters and statistics, by torchvision's names."""
    found = _conv_norm(trunk.stem, "conv1", "bn1")
    for i, stage in enumerate(trunk.stages):
        for j, block in enumerate(stage):
            start = f"layer{i + 1}.{j}."
            found |= _conv_norm(block.first, start + "conv1", start + "bn1")
            found |= _conv_norm(block.second, start + "conv2", start + "bn2")
            if block.shortcut is not None:
                start += "downsample."
                found |= _conv_norm(block.shortcut, start + "0", start + "1")
    return found


def _conv_norm(module: ConvNorm, conv: str, norm: str) -> dict[str, nnx.Variable]:
    return {f"{conv}.weight": module.conv.kernel} | {
        f"{norm}.{theirs}": getattr(module.norm, ours) for ours, theirs in NORM.items()
    }


def _some(names: list[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
