import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxvision_kernels import bidirectional_scan, quasiseparable_scan, selective_scan, shift
from scan_cases import make, quick_jit, relative

IDS = np.array([[0] * 3 + [1] * 6, [5] * 8 + [6]])


def operands(**options):
    arrays, _ = make(length=9, extras=("D", "z", "delta_bias"), **options)
    other, _ = make(length=9, B="grouped 3", C="constant", **options)
    return arrays, {k: 0.5 * other[k] for k in ("delta", "A", "B", "C")}


def directions(arrays, backward, ids):
    """Both scans in float32, without D and z."""
    shared = {k: x for k, x in arrays.items() if k not in ("D", "z")}
    options = dict(delta_softplus=True, segment_ids=ids, backend="reference")
    forward = selective_scan(**shared, **options)
    return forward, selective_scan(**shared | backward, **options, reverse=True)


@pytest.mark.parametrize("ids", [None, IDS], ids=["one", "packed"])
@pytest.mark.parametrize("shared", [False, True])
def test_bidirectional_is_the_sum_of_two_scans(shared, ids):
    arrays, backward = operands()
    backward = {} if shared else backward
    forward, back = directions(arrays, backward, ids)
    expected = (forward + back + arrays["D"] * arrays["u"]) * jax.nn.silu(arrays["z"])
    y = bidirectional_scan(**arrays, delta_softplus=True, backward=backward, segment_ids=ids)
    assert relative(y, np.asarray(expected)) < 1e-6


@pytest.mark.parametrize("ids", [None, IDS], ids=["one", "packed"])
def test_quasiseparable_takes_what_lies_beside_the_diagonal(ids):
    arrays, backward = operands()
    forward, back = (np.asarray(x) for x in directions(arrays, backward, ids))
    expected = np.asarray(arrays["D"] * arrays["u"]).copy()
    whole = np.zeros((2, 9), int) if ids is None else ids
    for t in range(9):
        for s, source in ((t - 1, forward), (t + 1, back)):
            if 0 <= s < 9:
                same = (whole[:, s] == whole[:, t])[:, None]
                expected[:, t] += source[:, s] * same
    expected = expected * np.asarray(jax.nn.silu(arrays["z"]))
    y = quasiseparable_scan(**arrays, delta_softplus=True, backward=backward, segment_ids=ids)
    assert relative(y, expected) < 1e-6


def test_quasiseparable_mixes_by_its_matrix():
    """Hydra, definition 1: the lower triangle from one scan, the upper from the other."""
    arrays, backward = operands()
    length, d = 9, 6
    unit = {**{k: x[:1] if x.ndim > 2 else x for k, x in arrays.items()}}
    del unit["z"]
    backward = {k: x[:1] if x.ndim > 2 else x for k, x in backward.items()}

    def mix(u):
        return quasiseparable_scan(**unit | {"u": u[None]}, backward=backward)[0]

    matrix = jax.jacobian(mix)(jnp.zeros((length, d)))  # [l d l d]
    channel = np.asarray(matrix[:, 2, :, 2])
    np.testing.assert_allclose(np.diag(channel), arrays["D"][2], rtol=1e-6)
    dt = np.asarray(unit["delta"] + unit["delta_bias"], "f8")[0, :, 2]
    A, B, C = np.asarray(unit["A"], "f8")[2], *(np.asarray(unit[k], "f8")[0] for k in "BC")
    for i in range(length):
        for j in range(i):  # y[i] holds C[i-1] (exp(A dt) ... ) dt[j] B[j] u[j]
            decay = np.exp(A * dt[j + 1 : i].sum())
            np.testing.assert_allclose(
                channel[i, j], (C[i - 1] * decay * dt[j] * B[j]).sum(), rtol=1e-4, atol=1e-6
            )
    np.testing.assert_allclose(matrix[:, 1, :, 2], 0, atol=1e-7)


def test_the_diagonal_may_depend_on_the_step():
    arrays, backward = operands()
    arrays |= {"D": arrays["u"] + 1, "z": None}
    y = quasiseparable_scan(**arrays, backward=backward)
    bare = quasiseparable_scan(**arrays | {"D": None}, backward=backward)
    np.testing.assert_allclose(y - bare, arrays["D"] * arrays["u"], rtol=1e-5, atol=1e-5)


def test_narrow_inputs_are_rounded_once():
    arrays, backward = operands()
    narrow = {k: x.astype(jnp.bfloat16) if k in ("u", "z") else x for k, x in arrays.items()}
    wide = {k: x.astype(jnp.float32) for k, x in narrow.items()}
    y = bidirectional_scan(**narrow, backward=backward)
    expected = bidirectional_scan(**wide, backward=backward)
    np.testing.assert_array_equal(y, expected.astype(jnp.bfloat16))


@pytest.mark.parametrize("scan", [bidirectional_scan, quasiseparable_scan])
def test_gradients_match_the_reference(scan):
    arrays, backward = operands()
    w = np.random.default_rng(0).standard_normal((2, 9, 6)).astype("f4")

    def gradients(backend):
        def loss(arrays, backward):
            return (scan(**arrays, backward=backward, backend=backend) * w).sum()

        return quick_jit(jax.grad(loss, argnums=(0, 1)))(arrays, backward)

    expected = gradients("reference")
    for ours, theirs in zip(gradients("xla"), expected, strict=True):
        for k, g in ours.items():
            assert relative(g, np.asarray(theirs[k])) < 1e-5, k


def test_lists_do_as_arrays():
    arrays = {"u": [[[1.0], [2.0]]], "delta": [[[0.5], [0.5]]], "A": [[-1.0]]}
    arrays |= {"B": [[[1.0], [1.0]]], "C": [[[1.0], [1.0]]]}
    options = dict(D=[1.0], backward={"D": [1.0]}, segment_ids=[[0, 1]])
    y = bidirectional_scan(**arrays, **options)
    np.testing.assert_allclose(y[0, :, 0], [3.0, 6.0])  # each alone: 2 u / 2 + 2 D u
    np.testing.assert_array_equal(shift([[1.0, 2.0]], 1, [[0, 0]]), [[0.0, 1.0]])


def test_bad_shifts_are_named():
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        shift(np.ones(3), 1)
    with pytest.raises(ValueError, match="steps=1.5"):
        shift(np.ones((2, 3)), 1.5)
    with pytest.raises(ValueError, match=r"segment_ids has shape \(3,\)"):
        shift(np.ones((2, 3)), 1, np.zeros(3, int))


def test_bad_arguments_are_named():
    arrays, _ = operands()
    with pytest.raises(ValueError, match=r"backward has \['z'\]"):
        bidirectional_scan(**arrays, backward={"z": arrays["z"]})
    with pytest.raises(ValueError, match=r"backward u has shape \(2, 8, 6\); it must be \[b l d\]"):
        bidirectional_scan(**arrays, backward={"u": arrays["u"][:, 1:]})
    with pytest.raises(ValueError, match=r"backward B has shape \(2, 9\)"):
        quasiseparable_scan(**arrays, backward={"B": np.ones((2, 9))})
    with pytest.raises(ValueError, match="backward is a ndarray"):
        quasiseparable_scan(**arrays, backward=np.ones(2))
    with pytest.raises(ValueError, match=r"D has shape \(2, 9, 6\); it must be \[d\]"):
        bidirectional_scan(**arrays | {"D": arrays["u"]})
    with pytest.raises(ValueError, match="one diagonal"):
        quasiseparable_scan(**arrays, backward={"D": arrays["D"]})
    with pytest.raises(ValueError, match=r"z has shape \(9, 6\)"):
        quasiseparable_scan(**arrays | {"z": arrays["z"][0]})
