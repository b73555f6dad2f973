"""What WAVENET-MV learns by: rate and distortion; for the wavelet alone, what quantising does."""

import jax
import jax.numpy as jnp
from flax import nnx

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
    model: WavenetMV, batch, rngs: nnx.Rngs, *, step: float = 0.1, rate: float = 0.01
) -> tuple[jax.Array, dict]:
    """`||x - inv(fwd(x) + noise)||²` with a quantiser's noise, and `rate` times the bands' bits.

    An exact inverse of the bands themselves would have no error and no gradient (of the literal
    form it is the seed's loss, without noise). Bits are those of numbers of that step with a
    density that falls with their size: `log2(1 + |band| / step)`.
    """
    image = batch["image"].astype(jnp.float32) / 255
    bands = model.wavelet.forward(image)
    literal = model.cfg.wavelet.mode == "literal"
    noise = 0.0 if literal else step
    noisy = [
        b + noise * jax.random.uniform(rngs.sample(), b.shape, minval=-0.5, maxval=0.5)
        for b in bands
    ]
    error = ((model.wavelet.inverse(noisy) - image) ** 2).mean()
    exact = ((model.wavelet.inverse(bands) - image) ** 2).mean()
    numbers = image.size
    bits = sum(jnp.log2(1 + abs(b) / step).sum() for b in bands[1:]) / numbers
    loss = error + (0.0 if literal else rate * bits)
    return loss, {"mse": error, "inverse_error": exact, "bits": bits}
