"""The training step in PyTorch: gradients, clipping, AdamW, moving average."""

import torch
from ml_collections import ConfigDict
from torch_cofnet_loss import detection_loss, draw

from jaxvision.cofnet.loss import LossConfig

NOT_DECAYED = ("position", "log_decay")  # besides vectors


def as_tensors(batch) -> dict[str, torch.Tensor]:
    """A NumPy batch as tensors that share its memory; labels as PyTorch's index type."""
    tensors = {k: torch.from_numpy(x) for k, x in batch.items()}
    return tensors | {"labels": tensors["labels"].long()}


def torch_updater(model, stage: ConfigDict):
    """A function that clips the gradients and takes AdamW's step, at a constant rate."""
    if stage.optimizer != "adamw":
        raise ValueError(f"optimizer {stage.optimizer!r}: this benchmark knows only 'adamw'")
    named = dict(model.named_parameters())
    bare = [k for k, p in named.items() if p.ndim == 1 or k.endswith(NOT_DECAYED)]
    groups = [
        {"params": [p for k, p in named.items() if k not in bare]},
        {"params": [named[k] for k in bare], "weight_decay": 0.0},
    ]
    decay = stage.weight_decay
    adamw = torch.optim.AdamW(groups, lr=stage.lr, weight_decay=decay, fused=True)

    def update():
        torch.nn.utils.clip_grad_norm_(named.values(), stage.clip)
        adamw.step()

    return update


def torch_trainer(model, stage: ConfigDict, loss: LossConfig, batch, forward=detection_loss):
    """A training step from a NumPy batch, with the parameters' moving average."""
    weights = list(model.parameters())
    averages = [p.detach().clone() for p in weights]
    update = torch_updater(model, stage)

    def train():
        for p in weights:
            p.grad = None
        value, _ = forward(model, as_tensors(batch), draw(loss, len(batch["image"])), loss)
        value.backward()
        update()
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - stage.ema)

    return train
