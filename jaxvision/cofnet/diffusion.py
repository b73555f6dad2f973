"""Diffusion over boxes: schedules, the forward process and DDIM's step; float32 throughout.

The state is x = (2·b - 1)·signal for normalised centre boxes b = (cx, cy, w, h): noise of unit
variance then stands in a fixed proportion to a box (Chen et al. 2023, DiffusionDet, section 3.3).
"""

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 1000
MIN_SIZE = 1e-3  # of the image's side: smaller boxes cannot come back from the state


def cosine_schedule(steps: int = STEPS, offset: float = 0.008) -> np.ndarray:
    """ᾱ_t for t = 0 … steps-1 (Nichol and Dhariwal 2021, eq. 17), at least 1e-5."""
    t = np.linspace(0, 1, steps + 1)
    alpha_bar = np.cos((t + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.clip(alpha_bar[1:] / alpha_bar[0], 1e-5, 1).astype(np.float32)


def linear_schedule(steps: int = STEPS, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """ᾱ_t for betas rising linearly (Ho et al. 2020, section 4)."""
    betas = np.linspace(first, last, steps) * (STEPS / steps)
    return np.clip(np.cumprod(1 - betas), 1e-5, 1).astype(np.float32)


SCHEDULES = {"cosine": cosine_schedule(), "linear": linear_schedule()}


def schedule(name: str) -> np.ndarray:
    """The ᾱ table `[STEPS]` by name, "cosine" or "linear"."""
    if name not in SCHEDULES:
        raise ValueError(f"noise schedule {name!r} is none of {sorted(SCHEDULES)}")
    return SCHEDULES[name]


def encode(boxes: jax.Array, signal: float) -> jax.Array:
    """Normalised centre boxes -> state."""
    return (boxes * 2 - 1) * signal


def decode(x: jax.Array, signal: float) -> jax.Array:
    """State -> normalised centre boxes, inside the image and of some size."""
    boxes = (jnp.clip(x, -signal, signal) / signal + 1) / 2
    return jnp.concatenate([boxes[..., :2], jnp.maximum(boxes[..., 2:], MIN_SIZE)], axis=-1)


def q_sample(x0: jax.Array, noise: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """x_t ~ q(x_t | x_0) = √ᾱ x_0 + √(1-ᾱ) ε (Ho et al. 2020, eq. 4); ᾱ broadcasts."""
    return jnp.sqrt(alpha_bar) * x0 + jnp.sqrt(1 - alpha_bar) * noise


def spread(alpha_bar: jax.Array, signal: float) -> jax.Array:
    """How far noise moves a box: the standard deviation of decoded coordinates at ᾱ."""
    return jnp.sqrt(1 - alpha_bar) / (2 * signal)


def noise_of(x_t: jax.Array, x0: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """The ε that leads from x_0 to x_t."""
    return (x_t - jnp.sqrt(alpha_bar) * x0) / jnp.sqrt(jnp.maximum(1 - alpha_bar, 1e-8))


def start_of(x_t: jax.Array, noise: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """The x_0 that ε was added to."""
    return (x_t - jnp.sqrt(1 - alpha_bar) * noise) / jnp.sqrt(alpha_bar)


def ddim_step(
    x_t: jax.Array,
    x0: jax.Array,
    alpha_bar: jax.Array,
    alpha_bar_next: jax.Array,
    *,
    eta: float = 0.0,
    fresh: jax.Array | None = None,
) -> jax.Array:
    """x at the next, smaller time (Song et al. 2021, eq. 12); `fresh`: unit noise, for eta > 0."""
    noise = noise_of(x_t, x0, alpha_bar)
    ratio = (1 - alpha_bar_next) / jnp.maximum(1 - alpha_bar, 1e-8)
    sigma = eta * jnp.sqrt(jnp.maximum(ratio * (1 - alpha_bar / alpha_bar_next), 0))
    mean = jnp.sqrt(alpha_bar_next) * x0
    mean += jnp.sqrt(jnp.maximum(1 - alpha_bar_next - sigma**2, 0)) * noise
    return mean if fresh is None else mean + sigma * fresh
