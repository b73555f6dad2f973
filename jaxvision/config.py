"""Configs: the fields every system shares, and what is made from them."""

import dataclasses
import importlib.util
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from jaxvision import sharding
from jaxvision.optimizers import optimizer, schedule
from jaxvision.spelling import nearest

__all__ = [
    "base",
    "fields_of",
    "from_config",
    "has_gpu",
    "mesh_from",
    "optimizer",
    "rules_from",
    "schedule",
]

NOTHING: Mapping[str, Any] = types.MappingProxyType({})
T = TypeVar("T")


def base(*, system: str, preset: str) -> ConfigDict:
    """The fields that `jaxvision.launch` reads; a system adds its own."""
    config = ConfigDict()
    config.system, config.preset = system, preset
    config.run = ()  # stage names in order: a ConfigDict sorts its keys
    config.seed = 0
    config.device = "auto"  # auto, cpu, gpu, tpu
    config.matmul_precision = "default"  # default, bfloat16, tensorfloat32, float32
    config.log_every = 50
    config.mesh = dict(data=-1, fsdp=1, seq=1, tensor=1)
    config.sharding = ()  # (regex of parameter paths, mesh axis or None per dimension) pairs
    config.loader = dict(workers=0)  # processes; 0 reads in threads of this one
    config.profile = dict(start=0, steps=0)  # a trace of `steps` steps from `start`
    config.onnx = ()  # "key=value" overrides for the conversion to ONNX, for what it cannot express
    for name in ("data", "model", "loss", "sampler", "predict", "stages"):
        config[name] = ConfigDict()
    return config


def has_gpu() -> bool:
    """Whether JAX will find an NVIDIA GPU; asks the system, and starts no backend of JAX."""
    platforms = os.environ.get("JAX_PLATFORMS", "").split(",")
    allowed = not {"", "cuda", "gpu"}.isdisjoint(platforms)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1")
    driver = any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg"))
    plugin = any(importlib.util.find_spec(f"jax_cuda{v}_plugin") for v in (12, 13))
    return allowed and visible and driver and plugin


def mesh_from(config: ConfigDict) -> Mesh:
    """The mesh of `config.mesh` over all devices."""
    return sharding.make_mesh(config.mesh.to_dict())


def rules_from(config: ConfigDict) -> sharding.Rules:
    """The sharding rules of `config.sharding`."""
    rules = []
    for rule in config.sharding:
        if not (isinstance(rule, tuple) and tuple(map(type, rule)) == (str, tuple)):
            raise ValueError(
                f"config.sharding: {rule!r} is not a pair like ('kernel$', (None, 'tensor'))"
            )
        for axis in rule[1]:
            if axis is not None and axis not in sharding.AXES:
                raise ValueError(f"config.sharding: no axis {axis!r}{nearest(axis, sharding.AXES)}")
        rules.append((rule[0], PartitionSpec(*rule[1])))
    return tuple(rules)


def fields_of(cls: type, values: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """All fields of a config dataclass with their defaults, some of them replaced by `values`.

    What a config holds can be overridden by a flag; so configs hold every field. A field that has
    no default and no value is left out: the system fills it in.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise ValueError(f"{cls.__name__} has no field {name!r}{nearest(name, fields)}")
    hints, out = typing.get_type_hints(cls), {}
    for name, field in fields.items():
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = values.get(name, default)
        if dataclasses.is_dataclass(hints[name]):
            start = {} if default is dataclasses.MISSING else vars(default)
            given = values.get(name, NOTHING)
            value = fields_of(hints[name], {**start, **_plain(given)})
        if value is not dataclasses.MISSING:
            out[name] = value
    return out


def from_config(cls: type[T], config: Mapping[str, Any], *, path: str = "", **extra: Any) -> T:
    """A frozen dataclass from config fields; nested dataclasses from nested ones, lists as tuples.

    `extra` are fields that the program sets and a config must not. Raises `ValueError` for a field
    that is unknown, with the nearest one, of another type, or missing.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = dict(extra)
    for name, value in config.items():
        if name not in fields:
            raise ValueError(f"{cls.__name__} has no field {path + name!r}{nearest(name, fields)}")
        if name in extra:
            raise ValueError(
                f"{cls.__name__}: {path + name} is set by the program, not by a config"
            )
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping | ConfigDict):
            value = from_config(hints[name], value, path=f"{path}{name}.")
        values[name] = _checked(path + name, _tuple(value), hints[name])
    missing = [
        path + name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{cls.__name__} needs {', '.join(missing)}")
    return cls(**values)


def _plain(value: Any) -> Mapping[str, Any]:
    return vars(value) if dataclasses.is_dataclass(value) else value


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list | tuple) else value


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Refuses a word for a number and the like, which a dotted override easily gets wrong."""
    choices = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and types.NoneType in choices:
        return value
    for choice in choices:
        inner = typing.get_args(choice)
        if typing.get_origin(choice) is tuple and isinstance(value, tuple):
            if inner[1:] == (...,):
                inner = inner[:1] * len(value)
            elif len(inner) != len(value):
                raise ValueError(f"{name}={value!r} must have {len(inner)} entries")
            pairs = zip(value, inner, strict=True)
            return tuple(_checked(f"{name}[{i}]", v, h) for i, (v, h) in enumerate(pairs))
    known = [c for c in (typing.get_origin(c) or c for c in choices) if c in CHECKED]
    if len(known) < len([c for c in choices if c is not types.NoneType]):
        return value  # some choice is of a type that is not checked here
    if float in known and int not in known and type(value) is int:
        return float(value)
    if type(value) not in known:
        raise ValueError(
            f"{name}={value!r} is not of type {' or '.join(c.__name__ for c in known)}"
        )
    return value


CHECKED = (bool, int, float, str, tuple)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)
