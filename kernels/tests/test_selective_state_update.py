import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxvision_kernels import selective_scan, selective_state_update
from scan_cases import TIMED, make, quick_jit

update = quick_jit(selective_state_update, static_argnames="delta_softplus")
OPTIONS = dict(extras=("D", "z", "delta_bias", "h0"), softplus=True)


def prefill_and_rest(B, C):
    """A case, its whole scan, and what its first 6 of 10 steps leave behind."""
    arrays, _ = make(length=10, B=B, C=C, **OPTIONS)
    scan = quick_jit(lambda x: selective_scan(**x, delta_softplus=True, return_last_state=True))
    first = {k: x[:, :6] if moving(k, x) else x for k, x in arrays.items()}
    return arrays, scan(arrays), scan(first)[1]


def moving(name, x):
    return name in (*TIMED, "z") and x.ndim > 2


@pytest.mark.parametrize("weights", [("vary", "vary"), ("grouped 2", "grouped 3")])
def test_steps_carry_on_where_the_scan_ended(weights):
    arrays, (y, last), state = prefill_and_rest(*weights)
    del arrays["h0"]
    for t in range(6, 10):
        step = {k: x[:, t] if moving(k, x) else x for k, x in arrays.items()}
        out, state = update(state, **step, delta_softplus=True)
        np.testing.assert_allclose(out, y[:, t], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state, last, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [("vary", "grouped 3"), ("constant", "vary")])
def test_several_steps_at_once(weights):
    arrays, (y, last), state = prefill_and_rest(*weights)
    del arrays["h0"]
    rest = {k: x[:, 6:] if moving(k, x) else x for k, x in arrays.items()}
    out, state = update(state, **rest, delta_softplus=True)
    np.testing.assert_allclose(out, y[:, 6:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state, last, rtol=1e-5, atol=1e-6)


def test_one_step_has_no_loop():
    arrays, _ = make(length=1, extras=("D", "h0"))
    state = arrays.pop("h0")
    step = {k: x[:, 0] if k in TIMED else x for k, x in arrays.items()}
    text = jax.jit(selective_state_update).lower(state, **step).as_text()
    assert "while" not in text


def test_slots_of_a_larger_store():
    arrays, _ = make(length=1, extras=("h0",))
    states = arrays.pop("h0")
    step = {k: x[:, 0] if k in TIMED else x for k, x in arrays.items()}
    y, rows = selective_state_update(states, **step)
    store = jnp.arange(4 * states[0].size, dtype=jnp.float32).reshape(4, *states.shape[1:])
    used = store.at[jnp.array([2, 0])].set(states)
    out, new = selective_state_update(used, **step, indices=jnp.array([2, 0]))
    np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(new, used.at[jnp.array([2, 0])].set(rows))
    out, new = selective_state_update(used, **step, indices=jnp.array([2, -1]))
    np.testing.assert_array_equal(out, y.at[1].set(0))
    np.testing.assert_array_equal(new, used.at[2].set(rows[0]))


def test_slots_past_the_last_are_errors_where_known_and_padding_where_traced():
    arrays, _ = make(length=1, extras=("h0",))
    del arrays["h0"]
    step = {k: x[:, 0] if k in TIMED else x for k, x in arrays.items()}
    store = jnp.ones((130, *arrays["A"].shape))
    with pytest.raises(ValueError, match="indices holds 130; state has 130 slots"):
        selective_state_update(store, **step, indices=[2, 130])
    updated = jax.jit(lambda i: selective_state_update(store, **step, indices=i))
    padded = updated(jnp.array([2, -1]))
    for past in (130, 133):
        jax.tree.map(np.testing.assert_array_equal, updated(jnp.array([2, past])), padded)
    # Narrower than the number of slots, which stands for padding.
    narrow = selective_state_update(store, **step, indices=np.array([2, -1], "i1"))
    jax.tree.map(np.testing.assert_allclose, narrow, padded)


def test_states_keep_their_dtype():
    arrays, _ = make(length=1, extras=("h0",))
    state = arrays.pop("h0").astype(jnp.bfloat16)
    step = {k: x[:, 0] if k in TIMED else x for k, x in arrays.items()}
    assert selective_state_update(state, **step)[1].dtype == jnp.bfloat16


def test_bad_arguments_are_named():
    arrays, _ = make(length=1, extras=("h0",))
    state = arrays.pop("h0")
    step = {k: x[:, 0] if k in TIMED else x for k, x in arrays.items()}
    with pytest.raises(ValueError, match=r"u has shape \(6,\)"):
        selective_state_update(state, **{**step, "u": step["u"][0]})
    with pytest.raises(ValueError, match=r"B has shape \(2, 1, 1, 4\); one step takes"):
        selective_state_update(state, **{**step, "B": step["B"][:, None, None]})
    with pytest.raises(ValueError, match="first axis must be b = 2"):
        selective_state_update(state[:1], **step)
    with pytest.raises(ValueError, match=r"delta has shape \(\); it must be \[b d\]"):
        selective_state_update(state, **{**step, "delta": 1.0})
    with pytest.raises(ValueError, match=r"state has shape \(\)"):
        selective_state_update(1.0, **step, indices=jnp.arange(2))
    with pytest.raises(ValueError, match="indices is int32 of shape"):
        selective_state_update(state, **step, indices=jnp.arange(3))
