"""Modules for tests, made by one compiled function: eager, each operation compiles by itself."""

import jax
from flax import nnx


def made(make):
    """`make()`, a module without random state of its own."""
    graph = nnx.graphdef(nnx.eval_shape(make))
    return nnx.merge(graph, jax.jit(lambda: nnx.as_pure(nnx.state(make())))())


run = jax.jit(lambda module, *inputs: module(*inputs))
