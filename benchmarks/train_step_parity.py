"""Checks that COFNet in PyTorch and in jaxvision are one function, and train by one rule."""

import functools

import jax
import numpy as np
import optax
import torch
from flax import nnx
from torch_cofnet import COFNet as TorchCOFNet
from torch_cofnet import convert
from torch_cofnet_loss import Draws, detection_loss, starting_boxes

from jaxvision.cofnet import loss as ours
from jaxvision.cofnet.loss import LossConfig
from jaxvision.cofnet.model import COFNet, CofnetConfig

FORWARD = 1e-4  # of the largest value: float32 rounding through some twenty layers
GRADIENT = 1e-3  # the same through as many again
UPDATE = 1e-5


def compare(
    cfg: CofnetConfig, loss: LossConfig, params, batch, *, optimizer, scan, layout, updater
) -> dict[str, float]:
    """Largest relative differences between the two, by quantity.

    Parameters are moved off their start first, since many start at zero and would hide what they
    multiply. JAX's times, placeholder boxes and noise are passed to PyTorch; `updater(model)` is
    PyTorch's optimizer step, given JAX's gradients.
    """
    rng = np.random.default_rng(1)
    shift = lambda x: np.asarray(x) + 0.02 * rng.standard_normal(x.shape).astype("float32")  # noqa: E731
    params = jax.tree.map(shift, params)
    graph = nnx.graphdef(nnx.eval_shape(lambda: COFNet(cfg, rngs=nnx.Rngs(0))))

    @jax.jit
    def outputs(params):
        model = nnx.merge(graph, params, {})
        fields = model.encode(batch["image"])
        key = nnx.Rngs(7).slots()
        state, _ = ours.starting_boxes(model, fields, batch, key, loss.slots)
        out = model.denoise(fields, state["x"], state["t"])
        return fields.dense, state, {"boxes": out.boxes, "logits": out.logits}

    @functools.partial(jax.value_and_grad)
    def loss_of(params):
        return ours.detection_loss(nnx.merge(graph, params, {}), batch, nnx.Rngs(7), cfg=loss)[0]

    head, state, refined = outputs(params)
    value, gradients = jax.jit(loss_of)(params)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    updated = convert(optax.apply_updates(params, updates))
    gradients = convert(gradients)

    model = TorchCOFNet(cfg, scan=scan, layout=layout)
    model.load_state_dict(convert(params))
    tensors = as_tensors(batch)
    rest = loss.slots.count - loss.slots.n_aligned - loss.slots.n_learned
    x0, noise, t = (torch.tensor(np.asarray(state[k])) for k in ("x0", "noise", "t"))
    placeholders = (x0[:, loss.slots.count - rest :] / cfg.signal + 1) / 2
    draws = Draws(t.long(), placeholders, noise)
    levels, peer_head = model.encode(tensors["image"])
    slots = starting_boxes(model, peer_head, tensors, draws, loss.slots)
    boxes, logits = model.denoise(levels, slots.x, slots.t)
    peer_value, _ = detection_loss(model, tensors, draws, loss)
    peer_value.backward()
    named = dict(model.named_parameters())
    by_gradient = {k: difference(p.grad, gradients[k]) for k, p in named.items()}
    for k, p in named.items():
        p.grad.copy_(gradients[k])
    before = {k: p.detach().clone() for k, p in named.items()}
    updater(model)
    by_update = [difference(p - before[k], updated[k] - before[k]) for k, p in named.items()]
    return {
        "dense logits": difference(peer_head["logits"], head["logits"]),
        "dense boxes": difference(peer_head["boxes"], head["boxes"]),
        "noised slots": difference(slots.x, state["x"]),
        "refined boxes": max(map(difference, boxes, refined["boxes"])),
        "refined logits": max(map(difference, logits, refined["logits"])),
        "loss": difference(peer_value, value),
        "gradients": max(by_gradient.values()),
        "update": max(by_update),
    }


def as_tensors(batch) -> dict[str, torch.Tensor]:
    """A NumPy batch as tensors that share its memory; labels as PyTorch's index type."""
    tensors = {k: torch.from_numpy(x) for k, x in batch.items()}
    return tensors | {"labels": tensors["labels"].long()}


def difference(a, b) -> float:
    a, b = (np.asarray(x.detach() if hasattr(x, "detach") else x, np.float64) for x in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    return float(abs(a - b).max() / max(abs(b).max(), 1e-12))


def refuse(differences: dict[str, float]) -> None:
    """Ends the program if they are not one function."""
    limits = {"gradients": GRADIENT, "update": UPDATE}
    for name, value in differences.items():
        if not value <= limits.get(name, FORWARD):
            raise SystemExit(
                f"error: {name} differ by {value:.1e} of the largest value: not the same model, "
                "no use in timing it"
            )
