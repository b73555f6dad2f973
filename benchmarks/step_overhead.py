"""Host time of one training step whose arithmetic is next to nothing: what the framework costs.

    python benchmarks/step_overhead.py [--output results.json]

A chain of 75 tiny linear layers (150 parameter arrays, 450 with Adam's moments) is trained by
this project's step as `fit` runs it (batch placed, step dispatched, logs followed), and by
`nnx.jit` with `nnx.Optimizer` and by `nnx.cached_partial`, in the same process. Each figure is the
median over rounds that alternate between them, of the whole time of a step: on a CPU the arithmetic
is inside, so the figure is an upper bound of the overhead. `bare` is a jitted update of the same
arrays as one flat list: what JAX itself takes.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxvision import sharding
from jaxvision.loop import compiled
from jaxvision.stage import Objective, Stage
from jaxvision.step import build
from jaxvision.watch import Watch
from jaxvision.writer import Silent

LAYERS = 75
STEPS = 50
ROUNDS = 7


class Chain(nnx.Module):
    def __init__(self, *, rngs):
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(LAYERS)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def loss_fn(model, batch, rngs):
    return jnp.mean(model(batch["x"]) ** 2), {}


def ours(batch):
    mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
    stage = Stage(
        name="chain",
        model=lambda rngs: Chain(rngs=rngs),
        data=lambda split: None,
        objectives={"l2": Objective(loss=loss_fn, optimizer=optax.adam(1e-3))},
        steps=10**6,
    )
    program = build(stage)
    placed = sharding.infer(mesh, jax.eval_shape(program.init, jax.random.key(0)))
    state = jax.jit(program.init, out_shardings=placed)(jax.random.key(0))
    step, key = compiled(stage, program, mesh, placed)
    watch = Watch(Silent(), stage.steps, log_every=50, last_good=str)
    done = 0

    def train():
        nonlocal state, done
        with jax.set_mesh(mesh):
            for _ in range(STEPS):
                state, logs = step(state, sharding.put(batch, mesh), key)
                done += 1
                watch.push(done, logs, 4)
            watch.settle(done, state)

    return train, len(jax.tree.leaves(state.params)), len(jax.tree.leaves(state))


def nnx_default(batch):
    model = Chain(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    def update(model, optimizer, batch):
        loss, gradients = nnx.value_and_grad(lambda m: loss_fn(m, batch, None)[0])(model)
        optimizer.update(model, gradients)
        return loss

    jitted = nnx.jit(update)

    def train():
        for _ in range(STEPS):
            loss = jitted(model, optimizer, batch)
        jax.block_until_ready(loss)

    return train


def nnx_cached(batch):
    model = Chain(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, batch):
        loss, gradients = nnx.value_and_grad(lambda m: loss_fn(m, batch, None)[0])(model)
        optimizer.update(model, gradients)
        return loss

    cached = nnx.cached_partial(update, model, optimizer)

    def train():
        for _ in range(STEPS):
            loss = cached(batch)
        jax.block_until_ready(loss)

    return train


def bare(batch):
    arrays = [jnp.zeros((4, 4)) for _ in range(6 * LAYERS + 2)]
    step = jax.jit(lambda xs, b: [x + b["x"][0, 0] for x in xs], donate_argnums=0)

    def train():
        nonlocal arrays
        for _ in range(STEPS):
            arrays = step(arrays, batch)
        jax.block_until_ready(arrays)

    return train


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    batch = {"x": np.ones((4, 4), np.float32)}
    train, params, leaves = ours(batch)
    programs = {
        "jaxvision": train,
        "nnx.jit + nnx.Optimizer": nnx_default(batch),
        "nnx.cached_partial": nnx_cached(batch),
        "bare jax.jit": bare(batch),
    }
    times = {name: [] for name in programs}
    for round_ in range(ROUNDS + 1):
        for name, program in programs.items():
            begun = time.perf_counter()
            program()
            if round_:  # the first compiles
                times[name].append((time.perf_counter() - begun) / STEPS * 1e3)
    result = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "jax": jax.__version__,
        "parameter_arrays": params,
        "state_arrays": leaves,
        "ms_per_step": {
            name: {"median": statistics.median(ts), "min": min(ts)} for name, ts in times.items()
        },
    }
    print(f"{params} parameter arrays, {leaves} in the state, {result['device']}")
    for name, ms in result["ms_per_step"].items():
        print(f"{name:<26}{ms['median']:8.2f} ms a step (least {ms['min']:.2f})")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
