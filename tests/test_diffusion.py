import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cofnet import diffusion


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_schedules_fall_from_almost_one_to_almost_nothing(name):
    table = diffusion.schedule(name)
    assert table.shape == (diffusion.STEPS,) and table.dtype == np.float32
    assert (np.diff(table) <= 0).all()
    assert table[0] > 0.999 and 1e-5 <= table[-1] < 1e-3


def test_cosine_schedule_has_the_values_of_its_equation():
    f = lambda t: np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
    for t in (1, 250, 500, 900):
        np.testing.assert_allclose(diffusion.schedule("cosine")[t - 1], f(t) / f(0), rtol=1e-5)


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="'cosin' is none of"):
        diffusion.schedule("cosin")


def test_encode_and_decode_are_inverse_and_decode_stays_in_the_image():
    boxes = jnp.array([[0.3, 0.6, 0.05, 0.2], [0.5, 0.5, 1.0, 1.0]])
    x = diffusion.encode(boxes, 2.0)
    np.testing.assert_allclose(diffusion.decode(x, 2.0), boxes, atol=1e-6)
    wild = diffusion.decode(jnp.array([[-9.0, 9.0, -9.0, 9.0]]), 2.0)
    np.testing.assert_allclose(wild, [[0, 1, diffusion.MIN_SIZE, 1]])


def test_noise_and_start_undo_the_forward_process():
    key = jax.random.key(0)
    x0, noise = jax.random.normal(key, (2, 5, 4)), jax.random.normal(jax.random.key(1), (2, 5, 4))
    alpha_bar = jnp.array([0.9, 0.01])[:, None, None]
    x = diffusion.q_sample(x0, noise, alpha_bar)
    # One rounding of x, divided by sqrt(0.01) at the worst.
    np.testing.assert_allclose(diffusion.start_of(x, noise, alpha_bar), x0, atol=2e-5)
    np.testing.assert_allclose(diffusion.noise_of(x, x0, alpha_bar), noise, atol=2e-5)


def test_forward_process_keeps_unit_variance():
    x0 = jax.random.normal(jax.random.key(0), (20_000,))
    noise = jax.random.normal(jax.random.key(1), (20_000,))
    for alpha_bar in (0.99, 0.5, 0.01):
        spread = diffusion.q_sample(x0, noise, jnp.float32(alpha_bar)).std()
        np.testing.assert_allclose(spread, 1, atol=4 / np.sqrt(2 * 20_000))  # 4 standard errors


def test_ddim_ends_at_the_prediction_and_keeps_the_noise_on_the_way():
    x0 = jax.random.normal(jax.random.key(0), (3, 4))
    noise = jax.random.normal(jax.random.key(1), (3, 4))
    now, later, end = jnp.float32(0.3), jnp.float32(0.7), jnp.float32(1.0)
    x = diffusion.q_sample(x0, noise, now)
    np.testing.assert_allclose(diffusion.ddim_step(x, x0, now, end), x0, atol=1e-6)
    expected = diffusion.q_sample(x0, noise, later)
    np.testing.assert_allclose(diffusion.ddim_step(x, x0, now, later), expected, atol=1e-5)


def test_ddim_with_eta_one_has_the_posterior_variance_of_ddpm():
    now, later = jnp.float32(0.4), jnp.float32(0.6)
    fresh = jax.random.normal(jax.random.key(0), (50_000,))
    zero = jnp.zeros(50_000)
    out = diffusion.ddim_step(zero, zero, now, later, eta=1.0, fresh=fresh)
    beta = (1 - 0.6) / (1 - 0.4) * (1 - 0.4 / 0.6)  # Ho et al. 2020, eq. 7
    np.testing.assert_allclose(out.var(), beta, rtol=4 * np.sqrt(2 / 50_000))
