"""Checks that COFNet in PyTorch and in jaxvision are one function, and learn by one rule."""

from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from flax import nnx
from torch_cofnet import COFNet as TorchCOFNet
from torch_cofnet import convert
from torch_cofnet_loss import Draws, detection_loss, mask_of, starting_boxes
from torch_step import as_tensors

from jaxvision.cofnet import loss as ours
from jaxvision.cofnet.loss import LossConfig
from jaxvision.cofnet.model import COFNet, CofnetConfig
from jaxvision.cofnet.slots import attention_mask

LIMITS = {"gradients": 1e-3, "update": 1e-3}  # of the largest value
FORWARD = 1e-4


class Reference(NamedTuple):
    """What jaxvision computes: parameters, gradients and updates by PyTorch's names."""

    params: dict[str, torch.Tensor]
    head: dict[str, jax.Array]
    state: dict[str, jax.Array]
    refined: Any
    loss: jax.Array
    gradients: dict[str, torch.Tensor]
    updates: dict[str, torch.Tensor]


def reference(cfg: CofnetConfig, loss: LossConfig, params, batch, optimizer) -> Reference:
    """Runs jaxvision's model on parameters near `params`.

    Many parameters start at zero and would hide what they multiply: all are moved first.
    """
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + np.float32(0.02) * rng.normal(size=x.shape), params)
    params = jax.tree.map(lambda x: x.astype(np.float32), params)
    graph = nnx.graphdef(nnx.eval_shape(lambda: COFNet(cfg, rngs=nnx.Rngs(0))))

    def outputs(params, batch):
        model = nnx.merge(graph, params, {})
        fields = model.encode(batch["image"])
        key = nnx.Rngs(7).slots()  # as detection_loss draws it
        state, rows = ours.starting_boxes(model, fields, batch, key, loss.slots)
        return (
            fields.dense,
            state | {"rows": rows},
            model.denoise(fields, state["x"], state["t"], attention_mask(loss.slots)),
        )

    def loss_of(params, batch):
        return ours.detection_loss(nnx.merge(graph, params, {}), batch, nnx.Rngs(7), cfg=loss)[0]

    value, gradients = jax.jit(jax.value_and_grad(loss_of))(params, batch)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    named, gradients, updates = map(convert, (params, gradients, updates))
    return Reference(named, *jax.jit(outputs)(params, batch), value, gradients, updates)


def differences(
    expected: Reference, model: TorchCOFNet, loss: LossConfig, batch, update
) -> dict[str, float]:
    """Largest differences of PyTorch's model, by quantity, relative to the largest value of each.

    The model gets jaxvision's parameters, times, placeholder boxes and noise, and `update`, its
    optimizer's step, jaxvision's gradients.
    """
    model.load_state_dict(expected.params)
    batch = as_tensors(batch)
    x0, noise, t = (torch.tensor(np.asarray(expected.state[k])) for k in ("x0", "noise", "t"))
    first = loss.slots.n_aligned + loss.slots.n_learned
    rows = torch.tensor(np.asarray(expected.state["rows"]))
    number = batch["valid"].sum(1, keepdim=True).clamp(min=1)
    begin = (rows[:, :1] + 0.5) / number  # valid rows come first
    draws = Draws(t.long(), begin, (x0[:, first:] / model.cfg.signal + 1) / 2, noise)
    levels, head = model.encode(batch["image"])
    slots = starting_boxes(model, head, batch, draws, loss.slots)
    boxes, logits = model.denoise(levels, slots.x, slots.t, mask_of(loss.slots))
    value, _ = detection_loss(model, batch, draws, loss)
    value.backward()
    named = dict(model.named_parameters())
    # Some gradients are nothing but rounding, as of the bias of attention's keys: hence a floor.
    floor = 1e-5 * max(float(g.abs().max()) for g in expected.gradients.values())
    gradients = [difference(p.grad, expected.gradients[k], floor) for k, p in named.items()]
    before = {k: p.detach().clone() for k, p in named.items()}
    for k, p in named.items():
        p.grad.copy_(expected.gradients[k])
    update()
    floor = max(float(u.abs().max()) for u in expected.updates.values())
    updates = [difference(p - before[k], expected.updates[k], floor) for k, p in named.items()]
    return {
        "dense logits": difference(head["logits"], expected.head["logits"]),
        "dense boxes": difference(head["boxes"], expected.head["boxes"]),
        "noised slots": difference(slots.x, expected.state["x"]),
        "refined boxes": max(map(difference, boxes, expected.refined.boxes)),
        "refined logits": max(map(difference, logits, expected.refined.logits)),
        "loss": difference(value, expected.loss),
        "gradients": max(gradients),
        "update": max(updates),
    }


def difference(a, b, floor: float = 1e-12) -> float:
    a, b = (np.asarray(x.detach() if hasattr(x, "detach") else x, np.float64) for x in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    return float(abs(a - b).max() / max(abs(b).max(), floor))


def refuse(differences: dict[str, float]) -> None:
    """Ends the program if they are not one function."""
    for name, value in differences.items():
        if not value <= LIMITS.get(name, FORWARD):
            raise SystemExit(
                f"error: {name} differ by {value:.1e} of the largest value: not the same model, "
                "no use in timing it"
            )
