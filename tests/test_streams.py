import jax
import numpy as np
import pytest
from flax import nnx

from jaxvision.streams import streams


def drawn(rngs):
    keys = [rngs.params(), rngs(), rngs.fork().dropout(), rngs.params()]
    return jax.numpy.stack([jax.random.key_data(key) for key in keys])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "traced"])
def test_keys_are_those_of_flax(wrap):
    expected = wrap(lambda key: drawn(nnx.Rngs(key)))(jax.random.key(3))
    np.testing.assert_array_equal(
        wrap(lambda key: drawn(streams(key)))(jax.random.key(3)), expected
    )
    assert len(np.unique(expected, axis=0)) == 4


def test_a_key_adds_nothing_to_a_trace_but_itself():
    """A traced count would be added to, and asked for its sharding, which JAX 0.10 looks up."""

    def keys(key):
        rngs = streams(key)
        return [rngs.params() for _ in range(9)]

    called = [e.primitive.name for e in jax.make_jaxpr(keys)(jax.random.key(0)).eqns]
    assert "add" not in called
