import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrence
from jaxvision_kernels import BACKENDS, selective_scan
from scan_cases import (
    CASES,
    CHUNKED,
    TIMED,
    doubles,
    make,
    outcome,
    quick_jit,
    relative,
    run,
    weights_of_loss,
)


@pytest.mark.parametrize("backend", CHUNKED)
def test_vmap_equals_a_loop(backend):
    arrays, options = make(length=7, extras=("h0",))
    many = {k: jnp.stack([x, 0.5 * x, -x]) for k, x in arrays.items() if k in ("u", "C", "h0")}
    shared = {k: x for k, x in arrays.items() if k not in many}

    def loss(mapped, shared):
        y, state = run({**mapped, **shared}, options, backend)
        return (y**2).sum() + state.sum()

    f = jax.value_and_grad(loss, argnums=(0, 1))
    mapped = quick_jit(jax.vmap(f, in_axes=(0, None)))(many, shared)
    single = quick_jit(f)
    loop = [single(jax.tree.map(lambda x, i=i: x[i], many), shared) for i in range(3)]
    expected = jax.tree.map(lambda *x: jnp.stack(x), *loop)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
    jax.tree.map(close, mapped, expected)


def test_checkpoint_changes_no_gradient():
    arrays, options = make(**CASES["packed"])

    def loss(arrays):
        y, state = jax.checkpoint(functools.partial(run, options=options, backend="xla"))(arrays)
        wy, wh = weights_of_loss(arrays)
        return (y * wy).sum() + (state * wh).sum()

    expected = outcome("packed", "xla")[2]
    for k, g in quick_jit(jax.grad(loss))(arrays).items():
        np.testing.assert_allclose(g, expected[k], rtol=1e-5, atol=1e-6)


def test_forward_mode_of_scan():
    arrays, options = make(**CASES["all"])
    rng = np.random.default_rng(2)
    v = {k: jnp.asarray(rng.standard_normal(x.shape), "float32") for k, x in arrays.items()}
    jvp = quick_jit(lambda x, v: jax.jvp(lambda x: run(x, options, "scan"), (x,), (v,))[1])
    dy, dstate = jvp(arrays, v)
    stepped = {k: x + 1e-30j * np.asarray(v[k]) for k, x in doubles(arrays).items()}
    y, state, *_ = recurrence.selective_scan(**stepped, **options)
    assert relative(dy, y.imag / 1e-30) < 1e-5  # 64 eps, as for the gradients
    assert relative(dstate, state.imag / 1e-30) < 1e-5


def test_second_derivatives_of_scan():
    arrays, options = make(length=5, extras=("h0",))

    def hessian_times_ones(backend):
        gradient = jax.grad(lambda x: (run(x, options, backend)[0] ** 2).sum())
        ones = jax.tree.map(jnp.ones_like, arrays)
        return quick_jit(lambda x: jax.jvp(gradient, (x,), (ones,))[1])(arrays)

    expected = hessian_times_ones("reference")
    for k, x in hessian_times_ones("scan").items():
        assert relative(x, np.asarray(expected[k])) < 1e-5, k


def test_xla_refuses_forward_mode():
    arrays, options = make(length=3)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: run(x, options, "xla"), (arrays,), (arrays,))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_in_two_pieces_is_the_whole_scan(reverse):
    arrays, options = make(length=12, reverse=reverse, extras=("h0",))
    scan = quick_jit(functools.partial(run, options=options, backend="xla"))
    y, state = scan(arrays)
    halves = (np.s_[:5], np.s_[5:])
    pieces = [{k: x[:, s] if k in TIMED else x for k, x in arrays.items()} for s in halves]
    first, second = pieces[::-1] if reverse else pieces
    y1, middle = scan(first)
    y2, end = scan({**second, "h0": middle})
    joined = jnp.concatenate([y2, y1] if reverse else [y1, y2], axis=1)
    np.testing.assert_allclose(joined, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(end, state, rtol=1e-5, atol=1e-6)


def test_packed_sequences_do_not_see_one_another():
    arrays, options = make(length=10)
    packed = run(arrays, {**options, "ids": np.array([[7] * 4 + [3] * 6] * 2)}, "xla")[0]
    alone = {k: x[:, 4:] if k in TIMED else x for k, x in arrays.items()}
    y = run(alone, options, "xla")[0]
    np.testing.assert_allclose(packed[:, 4:], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(b, marks=() if b in ("xla", "associative") else pytest.mark.slow)
        for b in BACKENDS
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_are_blind_to_what_is_not_finite_beside_them(backend, reverse):
    arrays, options = make(length=10, extras=("D",))
    ids = np.array([[7] * 4 + [3] * 6] * 2)
    options = {**options, "ids": ids, "reverse": reverse}
    bad, good = (np.s_[:4], np.s_[4:]) if not reverse else (np.s_[4:], np.s_[:4])
    poisoned = arrays | {"u": arrays["u"].at[:, bad].set(jnp.inf)}

    def f(arrays):
        y = run(arrays, options, backend)[0][:, good]
        return (y**2).sum(), y

    g = quick_jit(jax.value_and_grad(f, has_aux=True))
    ((_, y), grads), ((_, expected), exact) = g(poisoned), g(arrays)
    np.testing.assert_array_equal(y, expected)
    for k in TIMED:
        np.testing.assert_array_equal(grads[k][:, good], exact[k][:, good])


def test_gradient_memory_does_not_grow_with_the_number_of_states(optimised):
    b, length, d, n = 1, 512, 32, 16
    shapes = {"u": (b, length, d), "delta": (b, length, d), "A": (d, n)}
    shapes |= {"B": (b, length, n), "C": (b, length, n)}
    x = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in shapes.items()}
    grad = jax.grad(lambda x: selective_scan(**x, backend="xla").sum())
    temporary = jax.jit(grad).lower(x).compile().memory_analysis().temp_size_in_bytes
    # dt, y and their cotangents [l d], two weights' [l n], and the 2 sqrt(l) states [d n] of chunks
    linear = 4 * (4 * length * d + 2 * length * n + 2 * length**0.5 * d * n)
    assert temporary < linear < 4 * length * d * n / 2
