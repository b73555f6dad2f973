from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrence
from jaxvision_kernels import ssd
from scan_cases import quick_jit, relative

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
HEADS, CHANNELS, STATES = 4, 3, 5
# Chunks of 4 steps, so that a few steps cross several.
BACKENDS = {"xla": dict(backend="xla", chunk=4), "reference": dict(backend="reference")}
CASES = {
    "plain": dict(length=8),
    "one_step": dict(length=1, extras=("h0",)),
    "shorter_than_a_chunk": dict(length=3, extras=("h0", "D")),
    "grouped": dict(length=11, B=2, C=4, extras=("D", "z", "h0")),
    "packed": dict(length=15, B=2, ids=True, extras=("h0",)),
    "all": dict(
        length=14, B=2, reverse=True, ids=True, softplus=True, extras=("D2", "z", "bias", "h0")
    ),
    "half": dict(length=9, dtype="bfloat16", softplus=True, extras=("z", "bias", "D")),
}


def make(*, length, B=1, C=1, extras=(), dtype="float32", **options):
    rng = np.random.default_rng(length)
    b, h, p, n = 2, HEADS, CHANNELS, STATES
    shapes = {"u": (b, length, h, p), "B": (b, length, B, n), "C": (b, length, C, n)}
    named = {"D": ("D", (h,)), "D2": ("D", (h, p)), "z": ("z", shapes["u"])}
    named |= {"bias": ("delta_bias", (h,)), "h0": ("h0", (b, h, p, n))}
    shapes |= dict(named[k] for k in extras)
    arrays = {k: rng.standard_normal(s) for k, s in shapes.items()}
    arrays["delta"] = rng.uniform(0.01, 1.0, (b, length, h))
    arrays["A"] = -rng.uniform(0.2, 4.0, h)
    wide = ("A", "D", "delta_bias", "h0")
    arrays = {k: jnp.asarray(x, "float32" if k in wide else dtype) for k, x in arrays.items()}
    if B == 1:
        arrays["B"] = arrays["B"][:, :, 0]
    ids = np.sort(rng.integers(0, 4, (b, length)), axis=1) if options.pop("ids", False) else None
    return arrays, {"softplus": False, "reverse": False, "ids": ids, **options}


def run(arrays, options, backend):
    return ssd(
        **arrays,
        delta_softplus=options["softplus"],
        reverse=options["reverse"],
        segment_ids=options["ids"],
        return_last_state=True,
        **BACKENDS[backend],
    )


def exact(arrays, options):
    """As a selective scan of h p channels, in float64: y, the state and their error bounds."""
    x = {k: np.asarray(v, np.float64) for k, v in arrays.items()}
    b, length, h, p = x["u"].shape
    flat = {"u": x["u"].reshape(b, length, -1), "delta": np.repeat(x["delta"], p, axis=2)}
    flat["A"] = np.tile(np.repeat(x["A"], p)[:, None], STATES)
    flat |= {k: x[k] for k in "BC"}
    if "z" in x:
        flat["z"] = x["z"].reshape(b, length, -1)
    if "h0" in x:
        flat["h0"] = x["h0"].reshape(b, -1, STATES)
    if "delta_bias" in x:
        flat["delta_bias"] = np.repeat(x["delta_bias"], p)
    if "D" in x:
        flat["D"] = np.broadcast_to(x["D"].reshape(h, -1), (h, p)).reshape(-1)
    y, state, *bounds = recurrence.selective_scan(**flat, **options)
    shapes = x["u"].shape, (b, h, p, STATES)
    return [a.reshape(s) for a, s in zip((y, state, *bounds), shapes * 2, strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_values_stay_within_the_rounding_bound(case, backend):
    arrays, options = make(**CASES[case])
    y, state = quick_jit(lambda x: run(x, options, backend))(arrays)
    expected, last, bound, last_bound = exact(arrays, options)
    assert y.dtype == arrays["u"].dtype and state.dtype == jnp.float32
    eps = float(jnp.finfo(y.dtype).eps)
    if y.dtype != jnp.float32:  # narrow products: of C and B, of their sum and u, of state and C
        bound = bound + 4 * eps * (abs(expected).max() + abs(last).max())
        last_bound = last_bound + 4 * eps * abs(last).max()
    bound = bound + eps * abs(expected)
    assert (abs(np.asarray(y, np.float64) - expected) <= bound).all()
    assert (abs(state - last) <= last_bound).all()


@pytest.mark.parametrize("case", [k for k in CASES if k != "half"])
def test_gradients_match_the_reference(case):
    arrays, options = make(**CASES[case])
    rng = np.random.default_rng(0)
    wy = rng.standard_normal(arrays["u"].shape).astype("f4")
    wh = rng.standard_normal((2, HEADS, CHANNELS, STATES)).astype("f4")

    def gradients(backend):
        def loss(x):
            y, state = run(x, options, backend)
            return (y * wy).sum() + (state * wh).sum()

        return quick_jit(jax.grad(loss))(arrays)

    expected = gradients("reference")
    for k, g in gradients("xla").items():
        assert relative(g, np.asarray(expected[k])) < 64 * recurrence.EPS, k


@pytest.mark.parametrize("options", [{}, {"chunk": 8}, {"backend": "reference"}], ids=str)
def test_golden_vectors(options):
    """PyTorch's float64 values and gradients."""
    data = np.load(GOLDEN / "ssd_scan.npz")
    names = {"u": "x", "delta": "dt", "A": "A", "B": "B", "C": "C"}
    inputs = {ours: data[f"in/{theirs}"] for ours, theirs in names.items()}

    def loss(inputs):
        y = ssd(**inputs, **options)
        return (y * data["ct"]).sum(), y

    (_, y), grads = quick_jit(jax.value_and_grad(loss, has_aux=True))(inputs)
    assert relative(y, data["out/y"]) < 1e-6
    for ours, theirs in names.items():
        assert relative(grads[ours], data[f"grad/{theirs}"]) < 1e-6, ours


def test_decays_keep_their_precision_deep_in_a_long_chunk():
    """Between steps whose sums of 10^4 differ by little, float32 sums alone would lose 4 digits."""
    length = 64
    delta = np.full((1, length, 1), 1e-3, "f4")
    delta[:, ::8] = 1.0
    A = np.array([-2000.0], "f4")
    u = np.ones((1, length, 1, 1), "f4")
    ones = np.ones((1, length, 1), "f4")
    y = quick_jit(lambda *x: ssd(*x, chunk=length))(u, delta, A, ones, ones)
    h, expected = 0.0, []
    for dt in delta[0, :, 0].astype("f8"):
        h = np.exp(dt * -2000.0) * h + dt
        expected.append(h)
    assert relative(y[0, :, 0, 0], np.array(expected)) < 4 * recurrence.EPS


def test_a_scan_in_two_pieces_is_the_whole_scan():
    arrays, options = make(length=12, extras=("h0",))
    scan = quick_jit(lambda x: run(x, options, "xla"))
    y, state = scan(arrays)
    timed = ("u", "delta", "B", "C")
    first = {k: x[:, :5] if k in timed else x for k, x in arrays.items()}
    second = {k: x[:, 5:] if k in timed else x for k, x in arrays.items()}
    y1, middle = scan(first)
    y2, end = scan({**second, "h0": middle})
    np.testing.assert_allclose(jnp.concatenate([y1, y2], axis=1), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(end, state, rtol=1e-5, atol=1e-5)


def test_segments_of_the_reference_are_blind_to_what_is_not_finite_beside_them():
    arrays, options = make(length=7)
    options = {**options, "ids": np.array([[7] * 3 + [3] * 4] * 2)}
    poisoned = arrays | {"u": arrays["u"].at[:, :3].set(jnp.nan)}

    def f(arrays):
        y = run(arrays, options, "reference")[0][:, 3:]
        return (y**2).sum(), y

    g = quick_jit(jax.value_and_grad(f, has_aux=True))
    ((_, y), grads), ((_, expected), exact) = g(poisoned), g(arrays)
    np.testing.assert_array_equal(y, expected)
    for k in ("u", "delta", "B", "C"):
        np.testing.assert_array_equal(grads[k][:, 3:], exact[k][:, 3:])


BAD = {
    "backend='pallas' is none of": dict(backend="pallas"),
    "chunk=8 has no meaning": dict(chunk=8, backend="reference"),
    "chunk=0 must be": dict(chunk=0),
    r"u has shape \(2, 3, 4\)": dict(u=np.ones((2, 3, 4), "f4")),
    r"A has shape \(4, 5\)": dict(A=np.ones((4, 5), "f4")),
    r"delta has shape \(2, 3, 12\)": dict(delta=np.ones((2, 3, 12), "f4")),
    r"u has shape \(0, 3, 4, 3\)": dict(u=np.ones((0, 3, 4, 3), "f4")),
    r"B has shape \(\); it must be \[b l n\]": dict(B=np.float32(1)),
    r"B has shape \(2, 3, 0\); a state has n = 1 or more": dict(
        B=np.ones((2, 3, 0), "f4"), C=np.ones((2, 3, 0), "f4")
    ),
    "C is None": dict(C=None),
    "B has 3 groups": dict(B=np.ones((2, 3, 3, 5), "f4")),
    r"C has shape \(2, 3, 6\)": dict(C=np.ones((2, 3, 6), "f4")),
    r"D has shape \(12,\)": dict(D=np.ones(12, "f4")),
    r"h0 has shape \(2, 12, 5\)": dict(h0=np.ones((2, 12, 5), "f4")),
    "u is int32; cast it": dict(u=np.ones((2, 3, 4, 3), "i4")),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(message):
    shapes = dict(u=(2, 3, 4, 3), delta=(2, 3, 4), A=(4,), B=(2, 3, 5), C=(2, 3, 5))
    with pytest.raises(ValueError, match=message):
        ssd(**{k: np.ones(s, "f4") for k, s in shapes.items()} | BAD[message])
