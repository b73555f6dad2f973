"""One against eight simulated devices, in a process that has eight: a script for test_sharding."""

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

loop.fit(stage, workdir / "one", one)
state = loop.fit(stage, workdir / "eight", eight, rules=rules)
kernel = state.params["encoder"]["a"]["kernel"]
print("shard", kernel.addressable_shards[0].data.shape, len(kernel.sharding.device_set))
# The first half on one device, the second on eight.
half = lambda step, *_: step == 20  # noqa: E731
loop.fit(stage, workdir / "mixed", one, hooks=[half])
loop.fit(stage, workdir / "mixed", eight, rules=rules)
