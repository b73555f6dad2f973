"""Optimizers and learning rates from a stage's config."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxvision.spelling import nearest
from jaxvision.stage import check_regex, path_name

OPTIMIZERS = ("adamw", "adam", "sgd", "lion", "muon")
SCHEDULES = ("cosine", "flat_cosine", "linear", "constant")
FLOOR = 0.01  # of the peak, where a decaying rate ends
FLAT = 0.5  # of the steps after the warmup, before flat_cosine decays


def schedule(stage: ConfigDict) -> optax.Schedule:
    """Learning rate by step: `warmup` steps up to `lr`, then the named decay to 1 % of it.

    Fields: `steps`, `lr`, `warmup` (0), `schedule` ("cosine"). "flat_cosine" stays at `lr` for half
    of the steps before it decays; "constant" stays.
    """
    name, steps, peak = stage.get("schedule", "cosine"), stage.steps, float(stage.lr)
    warmup = stage.get("warmup", 0)
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown{nearest(name, SCHEDULES)}")
    if not peak > 0:
        raise ValueError(f"lr={peak} must be above 0")
    if warmup < 0:
        raise ValueError(f"warmup={warmup} must be >= 0")
    start = warmup + (FLAT * (steps - warmup) if name == "flat_cosine" else 0)
    span = max(steps - start, 1)

    def rate(step):
        done = jnp.clip((step - start) / span, 0.0, 1.0)
        rise = jnp.minimum((step + 1) / warmup, 1.0) if warmup else 1.0
        if name == "constant":
            return peak * rise * jnp.ones_like(done)
        fall = 1 - done if name == "linear" else (1 + jnp.cos(jnp.pi * done)) / 2
        return peak * rise * (FLOOR + (1 - FLOOR) * fall)

    return rate


def optimizer(stage: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of a stage's fields, for one objective; its state holds the learning rate.

    Fields: those of `schedule`, `optimizer` ("adamw"), `weight_decay` (0; of kernels alone), `clip`
    (0: none; the largest global norm of the gradient of the parameters it owns), `b1`, `b2`, `eps`
    (1e-8), `momentum` (of sgd and muon). Muon is for matrices: it leaves the rest to Adam.
    `lr_scale` ((): none) holds (regex, factor) pairs: parameters whose path matches, the first of
    them counts, learn at `factor` times the rate (Howard & Ruder 2018, ULMFiT, section 3.2).
    """
    name = stage.get("optimizer", "adamw")
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r} is unknown{nearest(name, OPTIMIZERS)}")
    decay, clip = stage.get("weight_decay", 0.0), stage.get("clip", 0.0) or 0.0
    if decay < 0 or clip < 0:
        raise ValueError(f"weight_decay={decay} and clip={clip} must be >= 0")
    if decay and name == "adam":
        raise ValueError("optimizer 'adam' has no weight decay: set weight_decay=0 or use 'adamw'")
    b1 = stage.get("b1", 0.9)
    b2 = stage.get("b2", 0.99 if name == "lion" else 0.999)
    scales = _scales(stage.get("lr_scale", ()))
    eps, momentum = stage.get("eps", 1e-8), stage.get("momentum", 0.95 if name == "muon" else 0.0)

    def make(learning_rate):
        rule = {
            "adamw": lambda: optax.adamw(
                learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=decay, mask=kernels
            ),
            "adam": lambda: optax.adam(learning_rate, b1=b1, b2=b2, eps=eps),
            "sgd": lambda: optax.chain(
                optax.add_decayed_weights(decay, mask=kernels),
                optax.sgd(learning_rate, momentum=momentum or None),
            ),
            "lion": lambda: optax.lion(
                learning_rate, b1=b1, b2=b2, weight_decay=decay, mask=kernels
            ),
            "muon": lambda: optax.contrib.muon(
                learning_rate,
                beta=momentum,
                weight_decay=decay,
                weight_decay_mask=kernels,
                adam_b1=b1,
                adam_b2=b2,
                eps=eps,
            ),
        }[name]()
        parts = [optax.clip_by_global_norm(clip)] if clip else []
        return optax.chain(*parts, rule, *([scaled_by_path(scales)] if scales else []))

    return optax.inject_hyperparams(make)(learning_rate=schedule(stage))


def scaled_by_path(scales: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Multiplies updates by the factor of the first (regex, factor) that their path matches."""

    def factor(path, update):
        name = path_name(path)
        return update * next((f for pattern, f in scales if re.search(pattern, name)), 1.0)

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(factor, updates))


def _scales(given: Any) -> tuple[tuple[str, float], ...]:
    for pair in given:
        whole = len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int | float)
        if not whole or not pair[1] >= 0:
            raise ValueError(f"lr_scale: {pair!r} is not a pair like ('^backbone/', 0.1)")
        check_regex("lr_scale:", pair[0])
    return tuple((pattern, float(f)) for pattern, f in given)


def kernels(params: Any) -> Any:
    """Marks what weight decay is for: kernels, not biases, scales, positions or decay rates."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: path_name(path).endswith("kernel") and jnp.ndim(x) > 1, params
    )
