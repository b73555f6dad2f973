"""The random keys that a model is made from."""

import jax
from flax import nnx


class _Counted(nnx.RngStream):
    """A stream of the same keys as its parent's, whose count is a number of Python's."""

    drawn = 0

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key


def streams(key: jax.Array | int) -> nnx.Rngs:
    """`nnx.Rngs(key)`, which gives the same keys, and is fast under a trace.

    A traced count is asked for its sharding at each key, and JAX 0.10 answers with a message that
    it searches the whole trace for: four fifths of the time that tracing a large model takes.
    """
    rngs = nnx.Rngs(key)
    rngs.default = _Counted(key, tag="default")
    return rngs
