"""Modules for tests, made by one compiled function: eager, each operation compiles by itself."""

import jax
import numpy as np
from flax import nnx


def made(make):
    """`make()`, a module without random state of its own."""
    graphs = []

    def arrays():
        graph, state = nnx.split(make())
        graphs.append(graph)
        return nnx.as_pure(state)

    state = jax.jit(arrays)()
    return nnx.merge(graphs[0], state)


run = jax.jit(lambda module, *inputs: module(*inputs))


def perturbed(params):
    """`params` moved a little: many start at zero and would hide what they multiply."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.float32(x + 0.02 * rng.normal(size=x.shape)), params)
