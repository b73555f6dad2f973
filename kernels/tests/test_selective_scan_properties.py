"""The option matrix, drawn at random, against the recurrence in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxvision_kernels import BACKENDS
from scan_cases import doubles, make, quick_jit, run, weights_of_loss

FORMS = ("vary", "constant", "grouped 1", "grouped 2", "grouped 3", "grouped 6")
cases = st.fixed_dictionaries(
    {
        "length": st.integers(1, 13),
        "n": st.sampled_from([1, 2, 3, 8]),
        "B": st.sampled_from(FORMS),
        "C": st.sampled_from(FORMS),
        "extras": st.sets(st.sampled_from(["D", "z", "delta_bias", "h0"])).map(sorted),
        "low": st.booleans(),
        "softplus": st.booleans(),
        "reverse": st.booleans(),
        "ids": st.booleans(),
    }
)
draws = dict(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def check(case, backend):
    """Values within the rounding bound, and the derivative along all inputs by a complex step."""
    if not case["softplus"]:  # a bias alone would make steps negative, and states explode
        case = case | {"extras": [k for k in case["extras"] if k != "delta_bias"]}
    arrays, options = make(**case)
    wy, wh = weights_of_loss(arrays)
    rng = np.random.default_rng(1)
    v = {k: rng.standard_normal(x.shape) for k, x in arrays.items()}

    def loss(arrays):
        y, state = run(arrays, options, backend)
        return (y.astype(jnp.float32) * wy).sum() + (state * wh).sum(), (y, state)

    (_, (y, state)), grads = quick_jit(jax.value_and_grad(loss, has_aux=True))(arrays)
    exact = doubles(arrays)
    expected, last, bound, last_bound = recurrence.selective_scan(**exact, **options)
    eps = {k: float(jnp.finfo(x.dtype).eps) for k, x in arrays.items()}
    bound = bound + eps["u"] * abs(expected)  # the cast to u's dtype
    assert (abs(np.asarray(y, np.float64) - expected) <= bound).all()
    assert (abs(np.asarray(state, np.float64) - last) <= last_bound).all()

    stepped = {k: x + 1e-30j * v[k] for k, x in exact.items()}
    y, state, *_ = recurrence.selective_scan(**stepped, **options)
    along = ((y * wy).sum() + (state * wh).sum()).imag / 1e-30
    shares = {k: np.asarray(g, np.float64) * v[k] for k, g in grads.items()}
    # An entry is a sum of products of about l + n roundings each, cast to its own dtype; the
    # cotangent of y passes through u's.
    tolerance = sum(64 * max(eps[k], eps["u"]) * abs(x).sum() for k, x in shares.items())
    assert abs(sum(x.sum() for x in shares.values()) - along) <= tolerance + 1e-30


@settings(max_examples=6, **draws)
@given(case=cases)
def test_xla_over_the_option_matrix(case):
    check(case, "xla")


@pytest.mark.slow
@pytest.mark.parametrize("backend", [k for k in BACKENDS if k != "mosaic"])
@settings(max_examples=100, **draws)
@given(case=cases)
def test_backends_over_the_option_matrix(case, backend):
    check(case, backend)


@pytest.mark.slow
@settings(max_examples=25, **draws)  # seconds each, in its interpreter
@given(case=cases)
def test_mosaic_over_the_option_matrix(case):
    check(case, "mosaic")
