"""Networks of whole numbers in float32: the bits of an int32 network, however it is run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.entropy.exact import (
    EXACT,
    check_budget,
    exact_conv,
    floor_through,
    power_of_two,
    quantize_bias,
    quantize_weight,
    rescale,
    round_through,
)

OPTIMISED = True  # exactness must survive every pass of the compiler
# What conftest.py turned off, where XLA knows it.
EMITTERS = {"xla_cpu_use_fusion_emitters": True} if jax.__version__.startswith("0.10.") else {}
jit = functools.partial(jax.jit, compiler_options=EMITTERS)
WIDTHS, SHIFTS = (16, 32, 24, 8), (7, 8, 9)


@pytest.fixture(scope="module")
def layers():
    """Whole weights of 8 bits, biases of 12, and the shift after each layer."""
    rng = np.random.default_rng(0)
    sizes = zip(WIDTHS[:-1], WIDTHS[1:], SHIFTS, strict=True)
    return [
        (
            rng.integers(-127, 128, (3, 3, i, o)).astype(np.float32),
            rng.integers(-4095, 4096, o).astype(np.float32),
            shift,
        )
        for i, o, shift in sizes
    ]


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).integers(-127, 128, (2, 9, 7, 16)).astype(np.float32)


def network(x, layers, dtype=jnp.float32):
    for weight, bias, shift in layers:
        y = exact_conv(jnp.asarray(x, dtype), jnp.asarray(weight, dtype), bias)
        x = rescale(y, shift, low=0, high=127)
    return y, x


def network_int32(x, layers):
    x = x.astype(np.int32)
    for weight, bias, shift in layers:
        b, h, w, _ = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = np.broadcast_to(bias.astype(np.int32), (b, h, w, len(bias))).copy()
        for i in range(3):
            for j in range(3):
                y += padded[:, i : i + h, j : j + w] @ weight[i, j].astype(np.int32)
        x = np.clip(y >> shift, 0, 127)
    return y, x


def test_it_is_the_int32_network(x, layers):
    for (weight, bias, _), most in zip(layers, (127, 127, 127), strict=True):
        assert 0.01 < check_budget(weight, bias, most=most) < 1
    expected = network_int32(x, layers)
    assert len(np.unique(expected[1])) > 50  # not all clipped
    compiled = jit(lambda x: network(x, layers))
    runs = {
        "eager": network(x, layers),
        "compiled": compiled(x),
        "one by one": jax.tree.map(
            lambda *parts: jnp.concatenate(parts), compiled(x[:1]), compiled(x[1:])
        ),
        "bfloat16 operands": jit(lambda x: network(x, layers, jnp.bfloat16))(x),
    }
    for name, run in runs.items():
        for ours, theirs in zip(run, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_other_sizes_of_kernel():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(exact_conv(x, jnp.full((1, 1, 1, 1), 3.0)), 3 * x)
    wide = exact_conv(x, jnp.ones((1, 3, 1, 1)))[0, :, :, 0]
    np.testing.assert_array_equal(wide[0], [1, 3, 6, 5])


def test_rescale_floors_towards_minus_infinity():
    y = rescale(jnp.array([-17.0, -16.0, -1.0, 15.0, 16.0, 1e7]), 4, low=-1, high=127)
    np.testing.assert_array_equal(y, [-1, -1, -1, 0, 1, 127])


def test_powers_of_two_are_exact():
    exponents = np.arange(-126, 128)
    powers = jit(power_of_two)(exponents)
    np.testing.assert_array_equal(powers, np.ldexp(np.float32(1), exponents))
    with pytest.raises(ValueError, match="exponent=128"):
        power_of_two(128)


@pytest.mark.parametrize("bits", [2, 4, 8, 9])
@pytest.mark.parametrize("size", [1.0, 127 / 128, 127.0, 3e-4, 63.5, 0.0])
def test_quantised_weights_fill_their_bits(bits, size):
    weight = jnp.linspace(-size, size, 31)
    whole, shift = quantize_weight(weight, bits)
    most = 2 ** (bits - 1) - 1
    assert abs(whole).max() <= most and (size == 0 or abs(whole).max() >= most // 2)
    np.testing.assert_array_equal(whole, np.rint(whole))
    assert abs(whole * power_of_two(-shift) - weight).max() <= 2.0 ** -(int(shift) + 1)
    step = jax.grad(lambda w: (quantize_weight(w, bits)[0] * power_of_two(-shift)).sum())(weight)
    np.testing.assert_array_equal(step, jnp.ones_like(weight))


def test_gradients_pass_through_rounding_but_not_through_clips():
    x = jnp.array([-2.6, 0.4, 5.5])
    for through, forward in ((floor_through, jnp.floor), (round_through, jnp.round)):
        value, slope = jax.value_and_grad(lambda x, f=through: f(x).sum())(x)
        assert value == forward(x).sum()
        np.testing.assert_array_equal(slope, [1, 1, 1])
    slope = jax.grad(lambda x: rescale(x, 1, low=0, high=2).sum())(x)
    np.testing.assert_array_equal(slope, [0, 0.5, 0])


def test_a_trained_layer_follows_the_real_one():
    """Up to its steps the whole layer is the real one, so the same code trains and exports."""
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(size=(3, 3, 8, 4)) * 0.2, rng.normal(size=4)
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    x = rng.integers(0, 128, (1, 8, 8, 8)).astype(np.float32)  # stands for x / 2^5
    whole, shift = quantize_weight(weight)
    bias_whole = quantize_bias(bias, shift + 5)
    assert check_budget(whole, bias_whole, most=127) < 1
    sums = exact_conv(x, whole, bias_whole) * power_of_two(-shift - 5)
    real = exact_conv(x / 32, weight, bias)
    # 72 products, each off by at most half a step of the weight times 127 / 32, and the bias's step
    assert abs(sums - real).max() < (72 * 127 / 32 + 1) * 2.0 ** -(int(shift) + 1)


def test_the_budget_is_kept():
    weight = np.full((3, 3, 64, 2), 127.0)
    weight[..., 0] = 1
    assert check_budget(weight, most=127) == 127 * 127 * 9 * 64 / EXACT
    with pytest.raises(ValueError, match="channel 1 can reach 18580608"):
        check_budget(weight, most=254)
    with pytest.raises(ValueError, match="channel 0"):
        check_budget(weight, np.array([2.0**24, 0]), most=1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: check_budget(np.full((1, 1), 0.5), most=1), "weight holds 0.5"),
        (lambda: check_budget(np.ones((1, 1)), np.array([np.nan]), most=1), "bias holds nan"),
        (lambda: check_budget(np.ones((1, 1)), most=-1), "most=-1"),
        (lambda: quantize_weight(np.ones(3), bits=10), "bits=10"),
        (lambda: exact_conv(np.ones((1, 4, 4, 3)), np.ones((3, 3, 4, 2))), "4, 3"),
        (lambda: exact_conv(np.ones((1, 4, 4, 3)), np.ones((2, 3, 3, 2))), "even"),
    ],
)
def test_wrong_arguments_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()
