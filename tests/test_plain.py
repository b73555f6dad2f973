"""Programs in plain operations compute what they did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxvision.plain import plain


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, ct: (2 * ct,))


def pooled(x):
    return (nnx.max_pool(x, (3, 3), strides=(1, 1), padding="SAME"),)


def pooled_in_twos(x):
    return (nnx.max_pool(x, (2, 2), strides=(2, 2)),)


def looped(x):
    step = lambda carry, row: (carry + doubled(nnx.gelu(row)), (carry, row * carry))  # noqa: E731
    carry, (before, _) = lax.scan(step, jnp.zeros(x.shape[1:]), x)
    return carry, before


def reversed_loop(x):
    return lax.scan(lambda c, row: (c * 0.5 + row, c), x[0], x, reverse=True)


def picked(x):
    return (lax.fori_loop(0, 3, lambda i, y: y + jax.vmap(lambda v: v[i])(x)[:, None], x),)


def noisy(x):
    return (x + jax.random.normal(jax.random.key(3), x.shape),)


def rematerialised(x):
    return (jax.checkpoint(lambda v: jnp.sin(v) @ v.T)(x[:, :, 0, 0]),)


FUNCTIONS = (pooled, pooled_in_twos, looped, reversed_loop, picked, noisy, rematerialised)


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from primitives(inner)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_plain_program_computes_the_same(function):
    x = np.random.default_rng(0).normal(size=(4, 6, 8, 3)).astype(np.float32)
    simple = plain(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    for found, expected in zip(simple(x), function(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_plain_program_holds_what_a_converter_knows(function):
    shape = jax.ShapeDtypeStruct((4, 6, 8, 3), np.float32)
    names = set(primitives(jax.make_jaxpr(plain(function, shape))(shape).jaxpr))
    called = {n for n in names if "custom" in n or "random" in n or "remat" in n or "window" in n}
    assert not called and "threefry2x32" not in names


def test_unused_results_are_dropped_within_loops():
    shape = jax.ShapeDtypeStruct((4, 6, 8, 3), np.float32)
    (loop,) = [
        e
        for e in jax.make_jaxpr(plain(looped, shape))(shape).jaxpr.eqns
        if e.primitive.name == "scan"
    ]
    assert len(loop.outvars) == 2  # not the third, which `looped` does not return


def test_dilated_pooling_is_refused():
    def dilated(x):
        return (lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID", window_dilation=(2,)),)

    with pytest.raises(NotImplementedError, match="dilated"):
        plain(dilated, jax.ShapeDtypeStruct((8,), np.float32))
