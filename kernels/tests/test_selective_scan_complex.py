"""A complex A: states that stand for themselves and their conjugates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrence
from jaxvision_kernels import selective_scan
from scan_cases import CHUNKED, quick_jit, relative

B, L, D, N = 2, 9, 6, 3
IDS = np.array([[0] * 4 + [1] * 5, [0] * 9])
FORMS = {  # of B and C, and whether they are complex
    "vary": (((B, L, N), True), ((B, L, 3, N), False)),
    "grouped": (((B, L, 2, N), False), ((B, L, N), True)),
    "constant": (((D, N), False), ((D, N), True)),
}


def draw(rng, shape, is_complex):
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if is_complex else x


def make(form):
    rng = np.random.default_rng(0)
    x = {"u": draw(rng, (B, L, D), False), "delta": rng.uniform(0.01, 1, (B, L, D))}
    x["A"] = -rng.uniform(0.2, 2, (D, N)) + 1j * rng.standard_normal((D, N))
    x |= {k: draw(rng, *spec) for k, spec in zip("BC", FORMS[form], strict=True)}
    x |= {"D": draw(rng, (D,), False), "h0": draw(rng, (B, D, N), True)}
    weights = draw(rng, (B, L, D), False), draw(rng, (B, D, N), True)
    return x, weights


def by_definition(x, reverse):
    """complex128, step by step."""
    Bs, Cs = (recurrence._full(x[k], (B, L, D, N)) for k in "BC")
    h, y = x["h0"], np.zeros((B, L, D))
    for t in range(L)[:: -1 if reverse else 1]:
        before = t + 1 if reverse else t - 1
        if 0 <= before < L:
            h = h * (IDS[:, t] == IDS[:, before])[:, None, None]
        h = np.exp(x["delta"][:, t, :, None] * x["A"]) * h
        h = h + (x["delta"] * x["u"])[:, t, :, None] * Bs[:, t]
        y[:, t] = 2 * (Cs[:, t] * h).sum(-1).real
    return y + x["D"] * x["u"], h


def loss(y, state, weights):
    return (y * weights[0]).sum() + (state * weights[1]).sum().real


@functools.cache
def outcome(form, backend, reverse):
    x, weights = make(form)
    single = {k: v.astype("c8" if np.iscomplexobj(v) else "f4") for k, v in x.items()}

    def f(x):
        y, state = selective_scan(
            **x,
            return_last_state=True,
            reverse=reverse,
            segment_ids=IDS,
            backend=backend,
            chunk=4 if backend in CHUNKED else None,
        )
        return loss(
            y, state, [w.astype(single["h0" if i else "u"].dtype) for i, w in enumerate(weights)]
        ), (y, state)

    (_, out), grads = quick_jit(jax.value_and_grad(f, has_aux=True))(single)
    assert out[0].dtype == jnp.float32 and out[1].dtype == jnp.complex64
    assert {k: g.dtype for k, g in grads.items()} == {k: v.dtype for k, v in single.items()}
    return out, grads


@pytest.mark.parametrize(
    "backend",
    [
        "xla",
        *(pytest.param(b, marks=pytest.mark.slow) for b in ("reference", "associative", "scan")),
    ],
)
@pytest.mark.parametrize(
    ("form", "reverse"), [("vary", False), ("grouped", True), ("constant", False)]
)
def test_values_and_gradients(form, reverse, backend):
    x, weights = make(form)
    (y, state), grads = outcome(form, backend, reverse)
    expected, last = by_definition(x, reverse)
    # About l + n roundings in each value, of at most a few times its size.
    assert relative(y, expected) < 32 * recurrence.EPS
    assert abs(state - last).max() < 32 * recurrence.EPS * abs(last).max()
    rng = np.random.default_rng(1)
    for name in x:
        v = draw(rng, x[name].shape, np.iscomplexobj(x[name]))
        step = 1e-6
        ahead, back = (
            loss(*by_definition({**x, name: x[name] + s * v}, reverse), weights)
            for s in (step, -step)
        )
        ours = (np.asarray(grads[name]) * v).sum().real
        # The central difference errs by 1e-12 of third derivatives and by 1e-16 / step.
        assert ours == pytest.approx((ahead - back) / (2 * step), rel=2e-5, abs=2e-5), name
