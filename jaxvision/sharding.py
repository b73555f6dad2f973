"""Where arrays live: one mesh, one rule for batches, one for parameters."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxvision.stage import check_regex, path_name

AXES = ("data", "fsdp", "seq", "tensor")
BATCH = P(("data", "fsdp"))
Rules = Sequence[tuple[str, P]]


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes a mesh over `AXES` of all devices; an axis of size -1 takes what the others leave."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = {axis: int(shape.get(axis, 1)) for axis in AXES}
    text = " × ".join(f"{axis}={size}" for axis, size in {**sizes, **shape}.items())
    if unknown := sorted(set(shape) - set(AXES)):
        raise ValueError(f"mesh {text}: no axis is named {unknown[0]!r}, only {', '.join(AXES)}")
    free = [axis for axis, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1 or fixed < 1 or min(sizes.values()) < -1:
        raise ValueError(f"mesh {text}: sizes are >= 1, and at most one is -1 (what is left)")
    if len(devices) % fixed or (not free and fixed != len(devices)):
        raise ValueError(
            f"mesh {text} does not multiply to the {len(devices)} device(s) there are: "
            "change the sizes, or set one to -1"
        )
    sizes |= {axis: len(devices) // fixed for axis in free}
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def infer(mesh: Mesh, tree: Any, rules: Rules = (), min_size: int = 2**16) -> Any:
    """Places each leaf: by the first rule whose regex its path matches, else by its size.

    Without a rule, leaves of at least `min_size` numbers are split over `fsdp` along their largest
    divisible dimension, the others are copied to every device. A rule is also for the optimizer's
    copies of a parameter; those of lower rank (factored moments) are placed by size.
    """
    for pattern, _ in rules:
        check_regex("sharding rule", pattern)
    idle = {pattern for pattern, _ in rules}

    def place(path, leaf):
        name = path_name(path)
        for pattern, spec in rules:
            if re.search(pattern, name):
                idle.discard(pattern)
                if len(spec) <= leaf.ndim:
                    return NamedSharding(mesh, _checked(mesh, name, leaf.shape, pattern, spec))
                if name.startswith("params/"):
                    raise ValueError(f"sharding rule {pattern!r}: {spec} is too long for {name}")
        return NamedSharding(mesh, _fsdp(mesh.shape["fsdp"], leaf.shape, min_size))

    placed = jax.tree_util.tree_map_with_path(place, tree)
    for pattern in sorted(idle):
        logging.warning("sharding rule %r matches no parameter", pattern)
    return placed


def idle_axes(mesh: Mesh, placed: Any) -> list[str]:
    """The axes of several devices that split neither batches nor any array placed by `infer`."""
    used = {axis for axes in BATCH for axis in axes}
    for place in jax.tree.leaves(placed):
        for axes in place.spec:
            used |= {axes} if isinstance(axes, str) else set(axes or ())
    return [axis for axis, size in mesh.shape.items() if size > 1 and axis not in used]


def _fsdp(ways: int, shape: tuple[int, ...], min_size: int) -> P:
    divisible = [axis for axis, size in enumerate(shape) if size % ways == 0]
    if ways == 1 or math.prod(shape) < min_size or not divisible:
        return P()
    largest = max(divisible, key=lambda axis: shape[axis])
    return P(*["fsdp" if axis == largest else None for axis in range(len(shape))])


def _checked(mesh: Mesh, name: str, shape: tuple[int, ...], pattern: str, spec: P) -> P:
    for size, axes in zip(shape, spec, strict=False):
        names = (axes,) if isinstance(axes, str) else axes or ()
        ways = math.prod(mesh.shape[axis] for axis in names)
        if size % ways:
            raise ValueError(
                f"sharding rule {pattern!r}: {name} {list(shape)} has a dimension of {size} that "
                f"{axes}={ways} does not divide"
            )
    return spec


def constrain(x: jax.Array, *spec: Any) -> jax.Array:
    """Asks for `x` to be laid out as `P(*spec)` on the mesh in use; does nothing without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, P(*spec))


def put(
    batch: Mapping[str, np.ndarray], mesh: Mesh, *, accumulate: int = 1
) -> dict[str, jax.Array]:
    """Makes global arrays of this process's rows `[b …]`, split over the `data` and `fsdp` axes."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"] * accumulate
    for name, value in batch.items():
        rows = np.shape(value)[0] * jax.process_count() if np.ndim(value) else 0
        if rows % ways or not rows:
            micro = f" × accumulate={accumulate}" if accumulate > 1 else ""
            raise ValueError(
                f"batch of {rows} rows ({name!r}) cannot be split over mesh "
                f"data={mesh.shape['data']} × fsdp={mesh.shape['fsdp']}{micro}: "
                f"use a batch that is a multiple of {ways}, or a smaller mesh"
            )
    sharding = NamedSharding(mesh, BATCH)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
