from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrence
from jaxvision_kernels import BACKENDS, selective_scan, xla
from jaxvision_kernels.operands import chunk_length
from jaxvision_kernels.pallas_scan import Tiling
from scan_cases import (
    BY_BACKEND,
    CASES,
    doubles,
    interpreted,
    make,
    outcome,
    quick_jit,
    relative,
    users_jit,
    weights_of_loss,
)

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"


@pytest.mark.parametrize(("case", "backend"), BY_BACKEND)
def test_values_stay_within_the_rounding_bound(case, backend):
    arrays, options = make(**CASES[case])
    y, state, _ = outcome(case, backend)
    exact, exact_state, bound, state_bound = recurrence.selective_scan(**doubles(arrays), **options)
    bound = bound + float(jnp.finfo(arrays["u"].dtype).eps) * abs(exact)  # the cast to u's dtype
    assert (abs(y - exact) <= bound).all(), (abs(y - exact) / bound).max()
    assert (abs(state - exact_state) <= state_bound).all()


@pytest.mark.parametrize(("case", "backend"), BY_BACKEND)
def test_gradients_match_complex_steps(case, backend):
    """`Im f(x + i s v) / s` is the derivative along v, exact in float64 for tiny s."""
    arrays, options = make(**CASES[case])
    grads, exact = outcome(case, backend)[2], doubles(arrays)
    wy, wh = weights_of_loss(arrays)
    rng = np.random.default_rng(1)
    for name in arrays:
        v = rng.standard_normal(exact[name].shape)
        stepped = {**exact, name: exact[name] + 1e-30j * v}
        y, state, *_ = recurrence.selective_scan(**stepped, **options)
        expected = ((y * wy).sum() + (state * wh).sum()).imag / 1e-30
        # An entry is a sum of products of at most about l + n roundings each, cast to its own
        # dtype; the cotangent of y passes through u's.
        eps = max(float(jnp.finfo(arrays[k].dtype).eps) for k in (name, "u"))
        tolerance = 64 * eps * abs(grads[name] * v).sum()
        assert abs((grads[name] * v).sum() - expected) <= tolerance, name


@pytest.mark.parametrize(("case", "backend"), [x for x in BY_BACKEND if x.values[1] != "reference"])
def test_gradients_match_the_reference_entry_by_entry(case, backend):
    arrays, _ = make(**CASES[case])
    expected, grads = outcome(case, "reference")[2], outcome(case, backend)[2]
    for name, x in arrays.items():
        atol = 64 * float(jnp.finfo(x.dtype).eps) * abs(expected[name]).max()
        np.testing.assert_allclose(grads[name], expected[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("case", ["packed", "all"])
def test_gradients_by_blocks_of_the_batch_are_those_of_the_whole(case, monkeypatch):
    monkeypatch.setattr(xla, "CACHED", 1)  # bytes: a row at a time
    arrays, expected = make(**CASES[case])[0], outcome(case, "reference")[2]
    for name, g in outcome.__wrapped__(case, "xla")[2].items():
        atol = 64 * float(jnp.finfo(arrays[name].dtype).eps) * abs(expected[name]).max()
        np.testing.assert_allclose(g, expected[name], rtol=0, atol=atol, err_msg=name)


NAMES = ("full", "lti", "grouped", "stiff")
SLOW = [  # seconds to interpret; CASES hold such forms
    *(("pallas", name) for name in NAMES[1:]),
    *(("mosaic", name) for name in NAMES),
]


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(name, backend, marks=pytest.mark.slow if (backend, name) in SLOW else ())
        for name in NAMES
        for backend in BACKENDS
    ],
)
def test_golden_vectors(name, backend, request):
    """PyTorch's float64, channels first: values to 1e-5, gradients to 1e-4 of the largest."""
    data = np.load(GOLDEN / f"selective_scan_{name}.npz")

    def channels_last(x):  # [b … l] -> [b l …]
        return np.moveaxis(x, -1, 1) if x.ndim > 2 else x

    arrays = {k[3:]: channels_last(data[k]) for k in data.files if k.startswith("in/")}
    ct = channels_last(data["ct"])

    def loss(arrays):
        y, state = selective_scan(
            **arrays, delta_softplus=name != "lti", return_last_state=True, backend=backend
        )
        return (y * ct).sum(), (y, state)

    if backend == "xla":
        request.getfixturevalue("optimised")
    jit = users_jit if backend == "xla" else quick_jit
    with interpreted(Tiling(channels=4, inner=4, outer=16)):
        (_, (y, state)), grads = jit(jax.value_and_grad(loss, has_aux=True))(arrays)
    assert relative(y, channels_last(data["out/y"])) < 1e-5
    assert relative(state, data["out/extra"]) < 1e-5
    for k, g in grads.items():
        assert relative(g, channels_last(data[f"grad/{k}"])) < 1e-4, k


@pytest.mark.parametrize("length", [1, 2, 3, 31, 197, 784, 1600, 4096, 25600])
def test_default_chunks_are_near_the_root_and_pad_little(length):
    chunk = chunk_length(length, None)
    assert 1 <= chunk <= length
    assert chunk == 1 or length / 8 <= chunk**2 <= 4 * length
    assert -length % chunk <= max(1, length // 50)


BAD = {
    "backend='cuda' is none of": dict(backend="cuda"),
    "chunk=8 has no meaning for backend='pallas'": dict(backend="pallas", chunk=8),
    "backend='pallas' has no complex A": dict(backend="pallas", A=np.ones((4, 2), "c8")),
    "backend='mosaic' has no complex A": dict(backend="mosaic", A=np.ones((4, 2), "c8")),
    "A has 33 states; backend='mosaic' keeps": dict(
        backend="mosaic", **{k: np.ones((4, 33), "f4") for k in "ABC"}
    ),
    "B is complex64 and A is float32": dict(B=np.ones((2, 3, 2), "c8")),
    "chunk=8 has no meaning for backend='reference'": dict(backend="reference", chunk=8),
    "chunk=0 must be": dict(chunk=0),
    "chunk=2.5 must be": dict(chunk=2.5),
    r"u has shape \(3, 4\)": dict(u=np.ones((3, 4), "f4")),
    r"u has shape \(2, 0, 4\)": dict(u=np.ones((2, 0, 4), "f4")),
    r"u has shape \(0, 3, 4\)": dict(u=np.ones((0, 3, 4), "f4")),
    "B is None; it must be an array": dict(B=None),
    "z is no array": dict(z=[[1.0, 2.0], [1.0]]),
    r"delta has shape \(2, 4, 3\); it must be \[b l d\]": dict(delta=np.ones((2, 4, 3), "f4")),
    r"A has shape \(5, 2\)": dict(A=np.ones((5, 2), "f4")),
    r"B has shape \(2, 2, 3\)": dict(B=np.ones((2, 2, 3), "f4")),  # channels first
    "C has 3 groups, which do not divide u's 4 channels": dict(C=np.ones((2, 3, 3, 2), "f4")),
    r"D has shape \(3,\)": dict(D=np.ones(3, "f4")),
    r"delta_bias has shape \(1,\)": dict(delta_bias=np.ones(1, "f4")),
    r"z has shape \(2, 3\)": dict(z=np.ones((2, 3), "f4")),
    r"h0 has shape \(2, 2, 4\); it must be \[b d n\]": dict(h0=np.ones((2, 2, 4), "f4")),
    "u is int32; cast it": dict(u=np.ones((2, 3, 4), "i4")),
    r"segment_ids has shape \(3,\)": dict(segment_ids=np.zeros(3, "i4")),
    "segment_ids is float32; it must hold integers": dict(segment_ids=np.zeros((2, 3), "f4")),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(message):
    good = dict(u=(2, 3, 4), delta=(2, 3, 4), A=(4, 2), B=(2, 3, 2), C=(2, 3, 2))
    with pytest.raises(ValueError, match=message):
        selective_scan(**{k: np.ones(s, "f4") for k, s in good.items()} | BAD[message])
