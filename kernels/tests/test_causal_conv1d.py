from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxvision_kernels import causal_conv1d, causal_conv1d_update
from scan_cases import quick_jit, relative

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
EPS = float(jnp.finfo(jnp.float32).eps)


def by_definition(x, weight, bias, *, padding, activation, state, ids):
    """Float64, one tap at a time; `sum |weight x|` beside it, which scales rounding errors."""
    b, length, _ = x.shape
    width = len(weight)
    y, size = np.zeros(x.shape), np.zeros(x.shape)
    number = np.zeros((b, length), int)
    if ids is not None:
        number[:, 1:] = np.cumsum(ids[:, 1:] != ids[:, :-1], axis=1)
    for row in range(b):
        for t in range(length):
            for k in range(width):
                back = {"causal": width - 1 - k, "anticausal": k - (width - 1)}
                s = t - back.get(padding, (width - 1) // 2 - k)
                if 0 <= s < length:
                    value = x[row, s] * (number[row, s] == number[row, t])
                elif state is None:
                    continue
                elif padding == "causal":
                    value = state[row, width - 1 + s] * (number[row, t] == number[row, 0])
                else:  # the farthest of the steps after the last comes first
                    value = state[row, length + width - 2 - s]
                    value = value * (number[row, t] == number[row, -1])
                y[row, t] += weight[k] * value
                size[row, t] += abs(weight[k] * value)
    if bias is not None:
        y, size = y + bias, size + abs(bias)
    return (y / (1 + np.exp(-y)) if activation else y), size


def arrays(length, width, *, state, bias=True, dtype="float32"):
    rng = np.random.default_rng(width * length)
    shapes = {"x": (2, length, 3), "weight": (width, 3)}
    shapes |= {"bias": (3,)} if bias else {}
    shapes |= {"initial_state": (2, width - 1, 3)} if state else {}
    return {k: jnp.asarray(rng.standard_normal(s), dtype) for k, s in shapes.items()}


IDS = np.array([[4, 4, 4, 4, 9, 9, 4, 4, 4, 4, 4, 4], [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]])
CASES = [
    *(dict(padding="causal", width=w, length=12, state=True) for w in (2, 3, 4, 5, 6, 7)),
    *(dict(padding="anticausal", width=w, length=12, state=True) for w in (2, 7)),
    *(dict(padding="centred", width=w, length=12, state=False) for w in (2, 3, 4, 7)),
    *(dict(padding=p, width=4, length=12, state=p != "centred", ids=IDS)
      for p in ("causal", "anticausal", "centred")),
    dict(padding="causal", width=1, length=3, state=False),
    dict(padding="causal", width=7, length=2, state=True),  # shorter than the window
    dict(padding="causal", width=4, length=5, state=False, bias=False, activation=None),
    dict(padding="anticausal", width=3, length=1, state=True, dtype="bfloat16"),
    dict(padding="causal", width=4, length=9, state=True, dtype="float16"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_match_the_definition(case):
    case = dict(case)
    padding, ids, activation = (
        case.pop("padding"),
        case.pop("ids", None),
        case.pop("activation", "silu"),
    )
    x = arrays(**case)
    options = dict(padding=padding, activation=activation, segment_ids=ids)
    y = causal_conv1d(**x, **options)
    exact = {k: np.asarray(v, np.float64) for k, v in x.items()}
    expected, size = by_definition(
        exact["x"],
        exact["weight"],
        exact.get("bias"),
        padding=padding,
        activation=activation,
        state=exact.get("initial_state"),
        ids=ids,
    )
    assert y.dtype == x["x"].dtype
    # A product and a sum a tap, the slope of silu under 1.1, silu's own roundings; then the cast.
    bound = EPS * (2 * len(x["weight"]) + 8) * size + float(jnp.finfo(y.dtype).eps) * abs(expected)
    assert (abs(np.asarray(y, np.float64) - expected) <= bound).all()


@pytest.mark.parametrize("padding", ["causal", "anticausal"])
@pytest.mark.parametrize("cut", [1, 2, 5, 11])
def test_two_pieces_are_the_whole(padding, cut):
    x = arrays(12, 4, state=True)
    options = dict(padding=padding, activation="silu", return_final_state=True)
    y, end = causal_conv1d(**x, **options)
    pieces = [x["x"][:, :cut], x["x"][:, cut:]]
    first, second = pieces if padding == "causal" else pieces[::-1]
    y1, middle = causal_conv1d(**x | {"x": first}, **options)
    y2, state = causal_conv1d(**x | {"x": second, "initial_state": middle}, **options)
    joined = jnp.concatenate([y1, y2] if padding == "causal" else [y2, y1], axis=1)
    np.testing.assert_array_equal(joined, y)
    np.testing.assert_array_equal(state, end)


@pytest.mark.parametrize("padding", ["causal", "anticausal"])
@pytest.mark.parametrize("cut", [1, 3, 6, 8])
def test_two_packed_pieces_are_the_whole(padding, cut):
    x = arrays(12, 4, state=True)
    options = dict(padding=padding, return_final_state=True)
    y, _ = causal_conv1d(**x, **options, segment_ids=IDS)
    parts = [(x["x"][:, s], IDS[:, s]) for s in (np.s_[:cut], np.s_[cut:])]
    (first, ids1), (second, ids2) = parts if padding == "causal" else parts[::-1]
    y1, middle = causal_conv1d(**x | {"x": first}, **options, segment_ids=ids1)
    if padding == "causal":  # a segment that begins with the second piece knows nothing before
        joins = (ids1[:, -1] == ids2[:, 0])[:, None, None]
    else:
        joins = (ids1[:, 0] == ids2[:, -1])[:, None, None]
    rest = x | {"x": second, "initial_state": middle * joins}
    y2, _ = causal_conv1d(**rest, **options, segment_ids=ids2)
    joined = jnp.concatenate([y1, y2] if padding == "causal" else [y2, y1], axis=1)
    np.testing.assert_allclose(joined, y, rtol=1e-6, atol=1e-6)


def test_anticausal_is_causal_on_the_flipped_sequence():
    x = arrays(9, 4, state=True)
    y, state = causal_conv1d(**x, padding="anticausal", return_final_state=True)
    flipped = causal_conv1d(**x | {"x": x["x"][:, ::-1]}, return_final_state=True)
    np.testing.assert_allclose(y, flipped[0][:, ::-1], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(state, flipped[1])


@pytest.mark.parametrize("name", ["w2", "w3", "w4", "plain"])
def test_golden_vectors(name):
    data = np.load(GOLDEN / f"causal_conv1d_{name}.npz")

    def channels_last(k, x):
        return x.T if k == "weight" else np.moveaxis(x, -1, 1) if x.ndim == 3 else x

    inputs = {k[3:]: channels_last(k[3:], data[k]) for k in data.files if k.startswith("in/")}
    names = {"initial_states": "initial_state"}
    inputs = {names.get(k, k): v for k, v in inputs.items()}
    activation = None if name == "plain" else "silu"

    def loss(inputs):
        y, state = causal_conv1d(**inputs, activation=activation, return_final_state=True)
        return (y * channels_last("ct", data["ct"])).sum(), (y, state)

    (_, (y, state)), grads = quick_jit(jax.value_and_grad(loss, has_aux=True))(inputs)
    assert relative(y, channels_last("y", data["out/y"])) < 1e-6
    assert relative(state, channels_last("extra", data["out/extra"])) < 1e-6
    for k in (k for k in data.files if k.startswith("grad/")):
        ours = grads[names.get(k[5:], k[5:])]
        assert relative(ours, channels_last(k[5:], data[k])) < 1e-6, k


def test_updates_carry_on_where_the_sequence_ended():
    x = arrays(9, 4, state=True)
    whole = causal_conv1d(**x, activation="silu")
    y, state = causal_conv1d(**x | {"x": x["x"][:, :5]}, activation="silu", return_final_state=True)
    tail = [y]
    for steps in (x["x"][:, 5], x["x"][:, 6:8], x["x"][:, 8]):
        y, state = causal_conv1d_update(steps, state, x["weight"], x["bias"], activation="silu")
        assert y.shape == steps.shape
        tail.append(y if y.ndim == 3 else y[:, None])
    np.testing.assert_allclose(jnp.concatenate(tail, axis=1), whole, rtol=1e-6, atol=1e-6)


def test_updates_by_slot_leave_the_others_alone():
    x = arrays(5, 3, state=True)
    slots = jnp.arange(5 * 2 * 3.0).reshape(5, 2, 3)
    indices = jnp.array([3, -1])
    y, states = causal_conv1d_update(x["x"][:, 0], slots, x["weight"], indices=indices)
    alone, row = causal_conv1d_update(x["x"][:1, 0], slots[3:4], x["weight"])
    np.testing.assert_array_equal(y[0], alone[0])
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(states, slots.at[3].set(row[0]))


def test_packed_sequences_are_blind_to_nan_beside_them():
    x = arrays(10, 4, state=False)
    poisoned = x["x"].at[:, :4].set(jnp.nan)
    ids = np.array([[0] * 4 + [1] * 6] * 2)
    y = causal_conv1d(**x | {"x": poisoned}, segment_ids=ids)
    np.testing.assert_array_equal(y[:, 4:], causal_conv1d(**x | {"x": x["x"][:, 4:]}))


def test_forward_mode():
    x = arrays(6, 3, state=True)
    rng = np.random.default_rng(0)
    v = {k: jnp.asarray(rng.standard_normal(a.shape), "float32") for k, a in x.items()}

    def f(x):
        return causal_conv1d(**x, activation="silu")

    y, dy = jax.jvp(f, (x,), (v,))
    w = jnp.asarray(rng.standard_normal(y.shape), "float32")
    grads = jax.grad(lambda x: (f(x) * w).sum())(x)
    expected = sum(float((grads[k] * v[k]).sum()) for k in x)
    assert float((dy * w).sum()) == pytest.approx(expected, rel=1e-5)


BAD = {
    "padding='same' is none of": dict(padding="same"),
    "activation='relu' is none of": dict(activation="relu"),
    "x is no array": dict(x="steps"),
    "weight is None": dict(weight=None),
    r"x has shape \(3, 4\)": dict(x=np.ones((3, 4), "f4")),
    r"x has shape \(2, 0, 4\)": dict(x=np.ones((2, 0, 4), "f4")),
    r"weight has shape \(4, 3\)": dict(weight=np.ones((4, 3), "f4")),
    r"bias has shape \(3,\)": dict(bias=np.ones(3, "f4")),
    "a centred convolution has no state": dict(padding="centred", return_final_state=True),
    r"initial_state has shape \(2, 3, 4\); it must be \[b w-1 d\]": dict(
        initial_state=np.ones((2, 3, 4), "f4")
    ),
    "weight is int32; cast it": dict(weight=np.ones((3, 4), "i4")),
    "segment_ids is float32": dict(segment_ids=np.zeros((2, 5), "f4")),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(message):
    good = dict(x=np.ones((2, 5, 4), "f4"), weight=np.ones((3, 4), "f4"))
    with pytest.raises(ValueError, match=message):
        causal_conv1d(**good | BAD[message])


def test_bad_updates_are_named():
    x, state, weight = np.ones((2, 4), "f4"), np.ones((5, 2, 4), "f4"), np.ones((3, 4), "f4")
    with pytest.raises(ValueError, match=r"x has shape \(4,\)"):
        causal_conv1d_update(x[0], state, weight)
    with pytest.raises(ValueError, match="first axis must be b = 2"):
        causal_conv1d_update(x, state, weight)
    with pytest.raises(ValueError, match="indices holds 5; state has 5 slots"):
        causal_conv1d_update(x, state, weight, indices=[0, 5])
    with pytest.raises(ValueError, match="indices is float32"):
        causal_conv1d_update(x, state, weight, indices=np.ones(2, "f4"))
