"""The hash that first parameters are drawn with: keys apart, numbers even, and few operations."""

import jax
import numpy as np
import pytest

from jaxvision.streams import streams


def drawn(rngs):
    keys = [rngs.params(), rngs(), rngs.fork().dropout(), rngs.params(), rngs.params()]
    return jax.numpy.stack([jax.random.key_data(key) for key in keys])


def test_keys_differ_and_depend_on_the_seed_alone():
    eager = np.asarray(drawn(streams(3)))
    traced = jax.jit(lambda key: drawn(streams(key)))(jax.random.key(3))
    np.testing.assert_array_equal(eager, traced)
    others = np.concatenate([eager, drawn(streams(4)), drawn(streams(3 << 20))])
    assert len(np.unique(others, axis=0)) == 15


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_numbers_are_even_and_unrelated(seed):
    """Moments of a normal's 100,000 draws within five deviations, and no row like another."""
    rngs = streams(seed)
    x = np.stack([jax.random.normal(rngs.params(), (20_000,)) for _ in range(5)])
    n = x.size
    for power, moment, spread in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((x**power).mean() - moment) < 5 * spread / n**0.5
    alike = np.corrcoef(np.concatenate([x, x[:, ::-1], np.roll(x, 1, axis=1)]))
    assert abs(alike - np.eye(15)).max() < 5 / 20_000**0.5
    bits = np.asarray(jax.random.bits(rngs.params(), (40_000,), "uint32"))
    each = (bits[:, None] >> np.arange(32) & 1).mean(0)
    assert abs(each - 0.5).max() < 5 * 0.5 / 40_000**0.5
    halves = jax.random.split(rngs.params(), 4)
    assert len(np.unique(jax.random.key_data(halves), axis=0)) == 4


def test_a_key_adds_no_loop_to_a_trace():
    """A Threefry is one, and a traced count would be asked for its sharding."""

    def numbers(key):
        rngs = streams(key)
        return [jax.random.uniform(rngs.params(), (3,)) for _ in range(9)]

    text = jax.jit(numbers).lower(jax.random.key(0)).as_text()
    assert "while" not in text and "threefry" not in text
