"""Trains a toy stage in a process of its own: a script that tests start, and end."""

import argparse
import dataclasses
import time
from pathlib import Path

import jax
import toy

from jaxvision import loop, sharding


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--save-every", type=int, default=4)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds to sleep after each step")
    parser.add_argument("--fsdp", type=int, default=1)
    parser.add_argument("--parallel", action="store_true")
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()

    if options.process is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{options.port}", 2, options.process)
    stage = toy.PARALLEL if options.parallel else toy.SSL
    stage = dataclasses.replace(stage, steps=options.steps, save_every=options.save_every)
    mesh = sharding.make_mesh({"data": -1, "fsdp": options.fsdp})
    rules = ((r"kernel$", sharding.P("fsdp")),) if options.fsdp > 1 else ()

    def hook(step, state, metrics):
        print("step", step, flush=True)
        time.sleep(options.slow)
        return False

    loop.fit(stage, options.workdir, mesh, rules=rules, hooks=[hook], log_every=1)
    print("ended", flush=True)


if __name__ == "__main__":
    main()
