"""What WAVENET-MV learns by: rate and distortion; for the wavelet alone, what quantising does."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.wavenet_mv import lifting
from jaxvision.wavenet_mv.model import WavenetMV


def rate_distortion(model: WavenetMV, batch, rngs: nnx.Rngs) -> tuple[jax.Array, dict]:
    """`log(λ MSE + bits a pixel)`, MSE on [0, 1], at a quality drawn for each picture.

    The logarithm weighs qualities and pictures alike: else the highest λ and the busiest pictures
    have most of the gradient. With one λ, `wavenet.lambdas`, it has the minimum of the sum itself.
    """
    image = batch["image"].astype(jnp.float32) / 255
    lambdas = jnp.asarray(model.cfg.compressor.lambdas, jnp.float32)
    last = len(lambdas) - 1
    quality = jax.random.uniform(rngs.sample(), image.shape[:1], maxval=max(last, 1e-6))
    out = model.train_step(image, quality, rngs.sample())
    error = ((out.image - image) ** 2).mean((1, 2, 3))
    weight = jnp.exp(jnp.interp(quality, jnp.arange(last + 1.0), jnp.log(lambdas)))
    loss = weight * error + out.bpp
    logs = {"mse": error.mean(), "bpp": out.bpp.mean(), "cost": loss.mean()}
    return jnp.log(loss).mean(), logs


def wavelet_reconstruction(
    model: WavenetMV, batch, rngs: nnx.Rngs, *, step: float = 0.26, rate: float = 0.006
) -> tuple[jax.Array, dict]:
    """`||x - inv(fwd(x) + noise)||²` with a quantiser's noise, and `rate` times the bands' bits.

    An exact inverse of the bands themselves would have no error and no gradient (of the literal
    form it is the recipe's loss, without noise). Noise and bits are those of steps that change a
    picture by `step`: `log2(1 + |band| / step)` of numbers whose density falls with their size. The
    defaults suit λ = 512: 34 / step² and 3 / rate.
    """
    image = batch["image"].astype(jnp.float32) / 255
    bands = model.wavelet.forward(image)
    exact = ((model.wavelet.inverse(bands) - image) ** 2).mean()
    if model.cfg.wavelet.mode == "literal":
        return exact, {"mse": exact, "inverse_error": exact}
    cfg = model.cfg.wavelet
    norms = [np.repeat(n, cfg.channels) for n in lifting.norms(cfg.wavelet, cfg.levels)]
    sizes = [step / n.astype(np.float32) for n in norms]
    drawn = jax.random.uniform(rngs.sample(), image.shape, minval=-0.5, maxval=0.5)
    noise, noisy = drawn.reshape(len(image), -1), []
    for band, size in zip(bands, sizes, strict=True):
        shape = band.shape
        own, noise = jnp.split(noise, [math.prod(shape[1:])], axis=1)
        noisy.append(band + size * own.reshape(shape))
    error = ((model.wavelet.inverse(noisy) - image) ** 2).mean()
    bits = [jnp.log2(1 + abs(b) / s).sum() for b, s in zip(bands[1:], sizes[1:], strict=True)]
    bits = sum(bits) / image.size
    return error + rate * bits, {"mse": error, "inverse_error": exact, "bits": bits}
