"""Modules for tests, made by one compiled function: eager, each operation compiles by itself."""

import jax
import numpy as np
from flax import nnx


def made(make):
    """`make()`, a module without random state of its own."""
    graph = nnx.graphdef(nnx.eval_shape(make))
    return nnx.merge(graph, jax.jit(lambda: nnx.as_pure(nnx.state(make())))())


run = jax.jit(lambda module, *inputs: module(*inputs))


def perturbed(params):
    """`params` moved a little: many start at zero and would hide what they multiply."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.float32(x + 0.02 * rng.normal(size=x.shape)), params)
