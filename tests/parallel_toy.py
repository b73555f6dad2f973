"""One against eight simulated devices, in a process that has eight: a script for test_sharding."""

import dataclasses
import sys
from pathlib import Path

import jax
import toy

from jaxvision import loop, sharding

workdir = Path(sys.argv[1])
one = sharding.make_mesh({"data": 1}, jax.devices()[:1])
eight = sharding.make_mesh({"data": 4, "fsdp": 2})
rules = ((r"kernel$", sharding.P("fsdp")),)
stage = toy.PARALLEL

writer = toy.Recorder()

loop.fit(stage, workdir / "one", one)
state = loop.fit(stage, workdir / "eight", eight, rules=rules, writer=writer)
kernel = state.params["encoder"]["a"]["kernel"]
print("shard", kernel.addressable_shards[0].data.shape, len(kernel.sharding.device_set))
# The first half on one device, the second on eight.
half = lambda step, *_: step == 20  # noqa: E731
loop.fit(stage, workdir / "mixed", one, hooks=[half])
loop.fit(stage, workdir / "mixed", eight, rules=rules)
# Devices of an axis that splits nothing.
idle = sharding.make_mesh({"data": 2, "tensor": 4})
loop.fit(dataclasses.replace(toy.SSL, steps=0), workdir / "idle", idle, writer=writer)
print(*writer.said, sep="\n")
