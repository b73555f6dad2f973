"""Shards of batch and channels under `jax.jit`: each device runs the kernel on its own.

The partitioner of XLA knows nothing of a Pallas kernel, and would gather its operands; of a loop
whose steps sum over sharded channels it would make one all-reduce a step. Hence a rule: batch and
channels stay sharded as those of u are, all else is whole, and sums over them are added up once.
"""

import math
from collections.abc import Callable, Sequence

import jax
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

GROUPS = "gk"  # axes of groups of channels: of B and of C


def partitioned(function: Callable, inputs: Sequence[str], outputs: Sequence[str]) -> Callable:
    """`function` of arrays, without defaults, run by shards; `jax.vmap` maps it unpartitioned.

    Axes are letters: b batch, d channels, g, k groups of channels; others stay whole. The first
    input is u, `bld`. An output without b or without d and groups is a sum over what it lacks.
    """
    letters = dict.fromkeys("".join((*inputs, *outputs)))  # each once, in order of appearance
    whole = [x for x in letters if x not in "bd" + GROUPS]
    rule = ", ".join(map(" ".join, inputs)) + " -> " + ", ".join(map(" ".join, outputs))
    run = custom_partitioning(function)

    def partition(mesh, arguments, results):
        axes = _axes(mesh, arguments, inputs)

        def sharding(letters):
            return NamedSharding(mesh, P(*(axes.get(x) for x in letters)))

        def shard(*arrays):
            out = function(*arrays)
            return tuple(_add(x, letters, axes) for x, letters in zip(out, outputs, strict=True))

        arguments = tuple(map(sharding, inputs))
        return mesh, shard, tuple(map(sharding, outputs)), arguments

    run.def_partition(
        partition=partition, sharding_rule=rule, need_replication_factors=tuple(whole)
    )
    mapped = custom_vmap(lambda *arrays: run(*arrays))

    @mapped.def_vmap
    def rule_of_vmap(size, in_batched, *arrays):
        out = jax.vmap(function, in_axes=[0 if x else None for x in in_batched])(*arrays)
        return out, (True,) * len(outputs)

    return mapped


def _axes(mesh, arguments, inputs):
    """The mesh axes that shard each letter."""
    sharding = arguments[0].sharding
    if not isinstance(sharding, NamedSharding):
        return {}
    batch, _, channels = sharding.spec
    axes = {"b": batch, "d": channels}
    names = (channels,) if isinstance(channels, str) else channels or ()
    shards = math.prod(mesh.shape[x] for x in names)
    for argument, letters in zip(arguments, inputs, strict=True):
        for size, letter in zip(argument.shape, letters, strict=True):
            if letter in GROUPS and size > 1:
                if size % shards:
                    return {"b": batch}  # a shard would hold part of a group
                axes[letter] = channels
    return axes


def _add(x, letters, axes):
    lacks = [] if "b" in letters else [axes.get("b")]
    if "d" not in letters and not any(axes.get(k) for k in letters if k in GROUPS):
        lacks.append(axes.get("d"))
    names = [n for a in lacks if a for n in ((a,) if isinstance(a, str) else a)]
    return lax.psum(x, tuple(names)) if names else x
