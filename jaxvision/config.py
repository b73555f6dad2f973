"""Configs: the fields every system shares, and what is made from them."""

import dataclasses
import difflib
import importlib.util
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import optax
from ml_collections import ConfigDict

from jaxvision.stage import path_name

NOTHING: Mapping[str, Any] = types.MappingProxyType({})

T = TypeVar("T")
OPTIMIZERS = ("adamw", "adam", "sgd", "lion")
SCHEDULES = ("cosine", "flat_cosine", "linear", "constant")


def base(*, system: str, preset: str) -> ConfigDict:
    """The fields that `jaxvision.launch` and the training loop read; a system adds its own."""
    config = ConfigDict()
    config.system, config.preset = system, preset
    config.run = ()  # stage names in order: a ConfigDict sorts its keys
    config.seed = 0
    config.device = "auto"  # auto, cpu, gpu, tpu
    config.log_every = 50
    config.mesh = dict(data=-1, fsdp=1, seq=1, tensor=1)
    config.loader = dict(workers=0, threads=2, buffer=4)
    config.profile = dict(start=0, steps=0)  # a trace of `steps` steps from `start`
    for name in ("data", "model", "loss", "sampler", "predict", "stages"):
        config[name] = ConfigDict()
    return config


def has_gpu() -> bool:
    """Whether a CUDA device will be found; asks the system, so that JAX's backends stay unstarted."""
    plugin = any(importlib.util.find_spec(f"jax_cuda{v}_plugin") for v in (12, 13))
    return plugin and os.path.exists("/dev/nvidiactl") and os.environ.get("JAX_PLATFORMS") != "cpu"


def nearest(name: str, known) -> str:
    """`; did you mean 'x'?` for a name close to a known one, else the known ones."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {sorted(known)}"


def fields_of(cls: type, values: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """All fields of a config dataclass with their defaults, some of them replaced by `values`.

    What a config holds can be overridden by a flag; so configs hold every field. A field that has no
    default and no value is left out: the system fills it in.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise ValueError(f"{cls.__name__} has no field {name!r}{nearest(name, fields)}")
    hints, out = typing.get_type_hints(cls), {}
    for name, field in fields.items():
        value = values.get(name, field.default)
        if dataclasses.is_dataclass(hints[name]):
            start = {} if field.default is dataclasses.MISSING else vars(field.default)
            value = fields_of(hints[name], {**start, **values.get(name, {})})
        if value is not dataclasses.MISSING:
            out[name] = value
    return out


def from_config(cls: type[T], config: Mapping[str, Any], *, path: str = "", **extra: Any) -> T:
    """A frozen dataclass from config fields; nested dataclasses from nested ones, lists as tuples.

    `extra` are fields the config does not hold. Raises `ValueError` for an unknown field, with the nearest
    one, and for a missing one.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = dict(extra)
    for name, value in config.items():
        if name not in fields:
            raise ValueError(
                f"{cls.__name__} has no field {path + name!r}{nearest(name, fields)}"
            )
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping | ConfigDict):
            value = from_config(hints[name], value, path=f"{path}{name}.")
        elif isinstance(value, list | tuple):
            value = _tuple(value)
        _check_type(path + name, value, hints[name])
        values[name] = value
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{cls.__name__} needs {', '.join(path + m for m in missing)}")
    return cls(**values)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list | tuple) else value


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Refuses a word for a number and the like: what a dotted override easily gets wrong."""
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = [c for c in choices if c in (int, float, str, bool)]
    if not plain or (value is None and types.NoneType in choices):
        return
    accepted = tuple(plain) + ((int,) if float in plain else ())
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in plain):
        wanted = " or ".join(c.__name__ for c in plain)
        raise ValueError(f"{name}={value!r} is not of type {wanted}")


def schedule(stage: ConfigDict) -> optax.Schedule:
    """Learning rate over the stage's steps: `warmup` steps up to `lr`, then the named decay to 1 % of it.

    "flat_cosine" stays at `lr` for half of the steps before it decays.
    """
    name = stage.get("schedule", "cosine")
    steps, peak = max(stage.steps, 1), float(stage.lr)
    warmup = min(stage.get("warmup", 0), steps - 1)
    rest, low = steps - warmup, 0.01 * peak
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown{nearest(name, SCHEDULES)}")
    if peak <= 0:
        raise ValueError(f"lr={peak} must be above 0")
    decays = {
        "cosine": lambda: [(optax.cosine_decay_schedule(peak, rest, 0.01), warmup)],
        "flat_cosine": lambda: [
            (optax.constant_schedule(peak), warmup),
            (optax.cosine_decay_schedule(peak, rest - rest // 2, 0.01), warmup + rest // 2),
        ],
        "linear": lambda: [(optax.linear_schedule(peak, low, rest), warmup)],
        "constant": lambda: [(optax.constant_schedule(peak), warmup)],
    }[name]()
    if not warmup:
        decays = [(f, max(start, 0)) for f, start in decays]
        parts, bounds = [f for f, _ in decays], [start for _, start in decays[1:]]
    else:
        parts = [optax.linear_schedule(peak / warmup, peak, warmup), *(f for f, _ in decays)]
        bounds = [start for _, start in decays]
    return optax.join_schedules(parts, bounds)


def optimizer(stage: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of a stage's fields: `optimizer`, `lr`, `schedule`, `warmup`, `steps`,
    `weight_decay` (of kernels only), `clip` (global norm of the parameters it owns; 0 = none),
    `b1`, `b2`, `eps`, `momentum`.
    """
    name = stage.get("optimizer", "adamw")
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r} is unknown{nearest(name, OPTIMIZERS)}")
    rate, decay = schedule(stage), stage.get("weight_decay", 0.0)
    b1, b2 = stage.get("b1", 0.9), stage.get("b2", 0.999)
    eps = stage.get("eps", 1e-8)
    make = {
        "adamw": lambda: optax.adamw(
            rate, b1=b1, b2=b2, eps=eps, weight_decay=decay, mask=_kernels
        ),
        "adam": lambda: optax.adam(rate, b1=b1, b2=b2, eps=eps),
        "sgd": lambda: optax.sgd(rate, momentum=stage.get("momentum", 0.0) or None),
        "lion": lambda: optax.lion(rate, b1=b1, b2=b2, weight_decay=decay, mask=_kernels),
    }[name]
    clip = stage.get("clip", 0.0)
    return optax.chain(optax.clip_by_global_norm(clip), make()) if clip else make()


def _kernels(params: Any) -> Any:
    """Weight decay is for kernels: not for biases, norms' scales, positions or decay rates."""
    return jax.tree_util.tree_map_with_path(lambda p, _: path_name(p).endswith("kernel"), params)
