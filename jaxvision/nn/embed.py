"""Embeddings of scalars: Fourier features, sinusoidal time, SIREN."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def fourier_features(x: jax.Array, bands: int) -> jax.Array:
    """Sines and cosines of `x` at octaves: `[* d] -> [* (d 2 bands)]` float32.

    Tancik et al. 2020, eq. 5, with frequencies pi 2^k, k < bands; `x` should lie in about [-1, 1].
    """
    angles = x.astype(jnp.float32)[..., None] * (np.pi * 2.0 ** np.arange(bands, dtype=np.float32))
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return waves.reshape(*x.shape[:-1], x.shape[-1] * 2 * bands)


def sinusoidal(t: jax.Array, width: int) -> jax.Array:
    """Time embedding `[*] -> [* width]` float32, geometric frequencies from 1 to 1e-4.

    Vaswani et al. 2017, section 3.5; `width` is even.
    """
    frequencies = np.exp(-np.log(1e4) * np.arange(width // 2, dtype=np.float32) / (width // 2))
    angles = t.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def siren_init(scale: float):
    """Uniform in ±scale·sqrt(6 / fan_in) (Sitzmann et al. 2020, theorem 1.8)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32, out_sharding=None):
        del out_sharding
        bound = scale * np.sqrt(6 / shape[0])
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Siren(nnx.Module):
    """Sine network `[* d] -> [* width]`, float32: `sin(w0 (W x + b))`, then `sin(W x + b)` layers.

    Sitzmann et al. 2020. The first layer's frequency `w0` sets how fast the output may vary with x.
    """

    def __init__(
        self, inputs: int, width: int, *, layers: int = 2, w0: float = 3.0, rngs: nnx.Rngs
    ):
        self.w0 = w0
        sizes = [inputs] + [width] * layers
        self.layers = nnx.List(
            [
                nnx.Linear(a, b, kernel_init=siren_init(1.0 if i else 1.0 / w0), rngs=rngs)
                for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for i, layer in enumerate(self.layers):
            x = jnp.sin(layer(x) * (self.w0 if i == 0 else 1.0))
        return x
