"""What the stages learn by."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.cnn_av1.classes import TYPES, names, stage_labels
from jaxvision.cnn_av1.stage_model import STAGES, StageModel
from jaxvision.cnn_av1.symmetry import KINDS, drawn, turned
from jaxvision.losses.balanced import class_balanced_weights
from jaxvision.losses.center import center_loss
from jaxvision.losses.focal import focal_loss
from jaxvision.losses.mining import hard_negatives
from jaxvision.losses.mixing import cutmix, mixed_loss, mixup
from jaxvision.losses.regret import regret_loss
from jaxvision.stage import Batch, LossFn
from jaxvision.step import INFERENCE

FORMS = ("cross_entropy", "focal", "balanced_focal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """How a stage's classes are learned.

    `form`: cross entropy; focal loss with `gamma`, and of two classes `alpha` for the second (0:
    both alike); or that with weights by the effective number of examples (`beta`). `mining`: the
    hardest blocks of class 0, so many to one of the others (0: all). `mixup`, `cutmix`: the alpha
    of their Beta distribution (0: not). `center`: the weight of the center loss. `symmetry`: which
    symmetries blocks are turned by at random. `regret`: the weight of what a choice costs the
    encoder more than its best.
    """

    form: str = "cross_entropy"
    gamma: float = 2.0
    alpha: float = 0.0
    beta: float = 0.9999
    mining: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    center: float = 0.0
    symmetry: str = "transpose"
    regret: float = 0.0

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"loss.form {self.form!r} is none of {', '.join(FORMS)}")
        if self.symmetry not in KINDS:
            raise ValueError(f"loss.symmetry {self.symmetry!r} is none of {', '.join(KINDS)}")
        for name in ("gamma", "mining", "mixup", "cutmix", "center", "regret"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss.{name}={getattr(self, name)} must be at least 0")
        if not 0 <= self.alpha < 1:
            raise ValueError(f"loss.alpha={self.alpha} must be from 0 to below 1")
        if self.mixup and self.cutmix:
            raise ValueError("loss.mixup and loss.cutmix are alternatives: set one of them to 0")


def stage_loss(stage: str, cfg: LossConfig, *, counts: np.ndarray, four_way: bool = True) -> LossFn:
    """The loss of a `StageModel`; `counts [k]` are its classes' numbers of training blocks."""
    table = jnp.asarray(stage_labels(np.arange(len(TYPES)), stage, four_way=four_way))
    weights = _weights(cfg, counts, len(names(stage, four_way=four_way)))

    def loss(model: StageModel, batch: Batch, rngs: nnx.Rngs):
        blocks, types, _ = _turned(batch, cfg, rngs)
        labels, others, share = table[types], None, None
        if cfg.mixup or cfg.cutmix:
            mix, alpha = (mixup, cfg.mixup) if cfg.mixup else (cutmix, cfg.cutmix)
            blocks, labels, others, share, _ = mix(rngs.sample(), blocks, labels, alpha=alpha)
        features = model.features(blocks, batch["qp"], rngs=rngs)
        embedding = model.head.embed(features, rngs=rngs)
        logits = model.head.classify(embedding)
        losses = _losses(logits, labels, cfg, weights)
        if others is not None:
            losses = mixed_loss(losses, _losses(logits, others, cfg, weights), share)
        counted = labels >= 0
        if cfg.mining:
            counted = hard_negatives(losses, labels, ratio=cfg.mining)
        value = _mean(losses, counted)
        if cfg.center:
            value += cfg.center * _mean(
                center_loss(embedding, labels, model.head.centers[...]), labels >= 0
            )
        return value, {"accuracy": _mean(logits.argmax(-1) == labels, labels >= 0)}

    return loss


def temperature_loss(stage: str, *, four_way: bool = True) -> LossFn:
    """The negative log likelihood of held-out blocks, for the temperature: Guo et al. 2017."""
    table = jnp.asarray(stage_labels(np.arange(len(TYPES)), stage, four_way=four_way))

    def loss(model: StageModel, batch: Batch, rngs: nnx.Rngs):
        labels = table[batch["type"]]
        logits = nnx.view(model, **INFERENCE)(batch["block"], batch["qp"])
        return _mean(focal_loss(logits, labels, gamma=0.0), labels >= 0), {}

    return loss


def multitask_loss(
    cfg: LossConfig, *, counts: Mapping[str, np.ndarray], four_way: bool = True
) -> LossFn:
    """All heads of a `MultiTask` at once, and with `cfg.regret` the regret of the flat one.

    `counts[stage] [k]` are the numbers of training blocks of each head's classes.
    """
    tables = {
        stage: jnp.asarray(stage_labels(np.arange(len(TYPES)), stage, four_way=four_way))
        for stage in STAGES
    }
    tables["types"] = jnp.arange(len(TYPES))
    weights = {stage: _weights(cfg, counts[stage], len(counts[stage])) for stage in tables}

    def loss(model, batch: Batch, rngs: nnx.Rngs):
        blocks, types, costs = _turned(batch, cfg, rngs)
        logits = model.logits(blocks, batch["qp"], batch["level"], rngs=rngs)
        logits = logits | {"ab": logits["ab"][0]}
        parts = {}
        for stage, table in tables.items():
            labels = table[types]
            losses = _losses(logits[stage], labels, cfg, weights[stage])
            parts[stage] = _mean(losses, labels >= 0)
        value = sum(parts.values())
        if cfg.regret:
            parts["regret"] = regret_loss(logits["types"], all_costs(costs, types)).mean()
            value += cfg.regret * parts["regret"]
        return value, parts | {"accuracy": jnp.mean(logits["types"].argmax(-1) == types)}

    return loss


def all_costs(costs: jax.Array, types: jax.Array) -> jax.Array:
    """Costs of the four basic types, in units of the best type's, as those of all ten.

    `[b 4]`, NaN where unknown, and the best types `[b]` -> `[b 10]`: the best one costs 1,
    whichever it is, and the other extended types are unknown.
    """
    rest = jnp.full((len(types), len(TYPES) - costs.shape[1]), jnp.nan)
    every = jnp.concatenate([costs, rest], axis=-1)
    known = jnp.isfinite(costs).any(-1, keepdims=True)
    return jnp.where(jax.nn.one_hot(types, len(TYPES), dtype=bool) & known, 1.0, every)


def _turned(batch: Batch, cfg: LossConfig, rngs: nnx.Rngs):
    numbers = drawn(rngs.sample(), len(batch["type"]), cfg.symmetry)
    return turned(batch["block"], batch["type"], batch["costs"], numbers)


def _weights(cfg: LossConfig, counts: np.ndarray, classes: int) -> jax.Array | None:
    """The alphas of the classes, `[k]`, mean about 1."""
    if len(counts) != classes:
        raise ValueError(f"{len(counts)} counts for {classes} classes")
    if cfg.form == "balanced_focal":
        return jnp.asarray(class_balanced_weights(counts, beta=cfg.beta))
    if cfg.form == "focal" and cfg.alpha:
        if classes != 2:
            raise ValueError(f"loss.alpha={cfg.alpha} is for two classes, not {classes}")
        return 2 * jnp.array([1 - cfg.alpha, cfg.alpha])
    return None


def _losses(logits, labels, cfg, weights):
    gamma = 0.0 if cfg.form == "cross_entropy" else cfg.gamma
    return focal_loss(logits, labels, gamma=gamma, weights=weights)


def _mean(values: jax.Array, counted: jax.Array) -> jax.Array:
    counted = counted.astype(jnp.float32)
    return (values * counted).sum() / jnp.maximum(counted.sum(), 1.0)
