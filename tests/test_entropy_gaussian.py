"""The conditional Gaussian against CompressAI's numbers and against what it must be."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.entropy import gaussian
from jaxvision.entropy.gaussian import likelihood, lower_bound, scale_index, scale_table

GOLDEN = np.load(Path(__file__).parent / "golden" / "compressai_goldens.npz")


def test_likelihood_is_compressais():
    y, scale = GOLDEN["lik/y_hat"], GOLDEN["lik/scales"]
    # An edge of 3 roundings at z gives erfc a relative error of 2 z^2 * 1.5 eps; the floor of 1e-9
    # keeps z below 4.3: 6.6e-6, in theirs as in ours. Near 1 the last place of erfc counts.
    np.testing.assert_allclose(
        likelihood(y, scale, mean=GOLDEN["lik/means"]),
        GOLDEN["lik/likelihood"],
        rtol=1.4e-5,
        atol=np.finfo(np.float32).eps,
    )


def test_rounded_is_compressais():
    y, mean = GOLDEN["lik/y"], GOLDEN["lik/means"]
    np.testing.assert_array_equal(gaussian.rounded(y, mean), GOLDEN["lik/y_hat"])
    whole = gaussian.symbols(y, mean)
    assert whole.dtype == jnp.int32
    np.testing.assert_array_equal(whole + mean, GOLDEN["lik/y_hat"])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_scale_index_is_compressais(wrap):
    table = GOLDEN["scale_table"]
    index = wrap(lambda s: scale_index(s, table))(GOLDEN["idx/scales"])
    np.testing.assert_array_equal(index, GOLDEN["idx/indexes"])
    assert index.dtype == jnp.int32


def test_scale_table_is_compressais_up_to_float32():
    np.testing.assert_allclose(scale_table(), GOLDEN["scale_table"], rtol=1e-6)


def test_likelihoods_of_all_integers_add_up_to_one():
    y = jnp.arange(-2000.0, 2001.0)
    for scale in (0.11, 1.0, 30.0, 256.0):
        total = float(likelihood(y, scale, mean=0.3).sum(dtype=jnp.float32))
        # the floor adds 1e-9 for each of 4001 values, rounding an eps/2 of at most 1 for each edge
        assert abs(total - 1) < 4001 * 1e-9 + 3e-4


def test_likelihood_and_gradient_stay_finite_far_out():
    f = jax.grad(lambda y, s: gaussian.bits(likelihood(y, s)).sum(), argnums=(0, 1))
    grads = f(jnp.array([0.0, 1e3, -1e6, 1e20]), jnp.array([1e-9, 0.11, 1e3, 1e-3]))
    assert all(bool(jnp.isfinite(g).all()) for g in grads)


def test_lower_bound_lets_descent_raise_but_not_lower():
    x = jnp.array([0.05, 0.05, 0.5, 0.5])
    value, pull = jax.vjp(lambda x: lower_bound(x, 0.11), x)
    np.testing.assert_array_equal(value, jnp.maximum(x, 0.11))
    np.testing.assert_array_equal(pull(jnp.array([-1.0, 1.0, -1.0, 1.0]))[0], [-1, 0, -1, 1])


def test_a_scale_under_the_bound_learns_when_its_value_is_far_off():
    rate = jax.grad(lambda scale, y: gaussian.bits(likelihood(y, scale)))
    assert rate(0.05, 0.7) < 0  # too narrow: descent widens it
    assert rate(0.05, 0.0) == 0  # nothing to gain


def test_quantisers_agree_in_gradient_and_range():
    y = jnp.linspace(-3.0, 3.0, 1001)
    noise = gaussian.noisy(y, jax.random.key(0)) - y
    assert -0.5 <= noise.min() < -0.45 and 0.45 < noise.max() <= 0.5
    slope = jax.grad(lambda y: (gaussian.rounded(y, 0.25) * 3).sum())(y)
    np.testing.assert_array_equal(slope, jnp.full_like(y, 3))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: scale_table(0.0, 1.0), "low=0.0"),
        (lambda: scale_table(levels=1), "levels=1"),
        (lambda: scale_index(1.0, np.array([2.0, 1.0])), "ascending"),
    ],
)
def test_wrong_arguments_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()
