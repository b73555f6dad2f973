"""Shards of batch and channels under `jax.jit`: each device runs the kernel on its own.

The partitioner of XLA knows nothing of a Pallas kernel, and would gather its operands; of a loop
whose steps sum over sharded channels it would make one all-reduce a step. Hence a rule: batch and
channels stay sharded as those of u are, all else is whole, and sums over them are added up once.
"""

import math
import string
from collections.abc import Callable, Sequence

import jax
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AbstractMesh, NamedSharding, use_abstract_mesh
from jax.sharding import PartitionSpec as P

GROUPS = "gk"  # axes of groups of channels: of B and of C
MAPPED = frozenset(string.ascii_uppercase)
NO_MESH = AbstractMesh((), ())


def partitioned(function: Callable, inputs: Sequence[str], outputs: Sequence[str]) -> Callable:
    """`function` of arrays, without defaults, run by shards.

    Axes are letters: b batch, d channels, g, k groups of channels, capitals what `jax.vmap` maps;
    others stay whole. The first input is u, `bld`, and says how axes are sharded. An output without
    b or without d and groups is a sum over what it lacks.
    """
    letters = dict.fromkeys("".join((*inputs, *outputs)))  # each once, in order of appearance
    sharded = {*MAPPED.intersection(inputs[0]), *"bd", *GROUPS}
    whole = [x for x in letters if x not in sharded]
    rule = ", ".join(map(" ".join, inputs)) + " -> " + ", ".join(map(" ".join, outputs))
    run = custom_partitioning(function)

    def shardings(mesh, axes, arrays):
        return tuple(NamedSharding(mesh, P(*map(axes.get, letters))) for letters in arrays)

    def infer(mesh, arguments, results):
        return shardings(mesh, _axes(mesh, arguments, inputs), outputs)

    def partition(mesh, arguments, results):
        axes = _axes(mesh, arguments, inputs)

        def shard(*arrays):
            with use_abstract_mesh(NO_MESH):  # one set by `jax.set_mesh` would shard once more
                out = zip(function(*arrays), outputs, strict=True)
                return tuple(_add(x, letters, axes) for x, letters in out)

        return mesh, shard, shardings(mesh, axes, outputs), shardings(mesh, axes, inputs)

    run.def_partition(
        partition=partition,
        infer_sharding_from_operands=infer,  # where the Shardy partitioner is off
        sharding_rule=rule,
        need_replication_factors=tuple(whole),
    )
    mapped = custom_vmap(lambda *arrays: run(*arrays))

    @mapped.def_vmap
    def rule_of_vmap(size, in_batched, *arrays):
        new = min(MAPPED.difference(letters))
        many = jax.vmap(function, in_axes=[0 if x else None for x in in_batched])
        into = [new + x if batched else x for x, batched in zip(inputs, in_batched, strict=True)]
        out = partitioned(many, into, [new + x for x in outputs])(*arrays)
        return out, (True,) * len(outputs)

    return mapped


def _axes(mesh, arguments, inputs):
    """The mesh axes that shard each letter."""
    sharding = arguments[0].sharding
    if not isinstance(sharding, NamedSharding):
        return {}
    axes = {x: a for x, a in zip(inputs[0], sharding.spec, strict=True) if x != "l"}
    channels = axes["d"]
    names = (channels,) if isinstance(channels, str) else channels or ()
    shards = math.prod(mesh.shape[x] for x in names)
    for argument, letters in zip(arguments, inputs, strict=True):
        for size, letter in zip(argument.shape, letters, strict=True):
            if letter in GROUPS and size > 1:
                if size % shards:
                    axes.pop("d")  # a shard would hold part of a group
                    return {x: a for x, a in axes.items() if x not in GROUPS}
                axes[letter] = channels
    return axes


def _add(x, letters, axes):
    lacks = [] if "b" in letters else [axes.get("b")]
    if "d" not in letters and not any(axes.get(k) for k in letters if k in GROUPS):
        lacks.append(axes.get("d"))
    names = [n for a in lacks if a for n in ((a,) if isinstance(a, str) else a)]
    return lax.psum(x, tuple(names)) if names else x
