"""WaveletTransformCNN: a wavelet transform whose predict and update steps are small CNNs."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxvision.wavenet_mv import lifting

Bands = list[jax.Array]  # LL of the coarsest level, then of each level, coarse to fine, LH HL HH


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveletConfig:
    """`channels` are C', `width` the 64 of the networks' hidden layers.

    `mode="lifting"` is invertible and has `levels`; `"literal"` is one level of the four bands at
    the picture's own size, with an inverse that must be learned.
    """

    mode: Literal["lifting", "literal"] = "lifting"
    levels: int = 3
    channels: int = 3
    width: int = 64
    wavelet: lifting.Wavelet = "cdf53"

    def __post_init__(self):
        if self.mode not in ("lifting", "literal"):
            raise ValueError(f"wavelet.mode={self.mode!r} is neither 'lifting' nor 'literal'")
        if self.wavelet not in lifting.WAVELETS:
            raise ValueError(f"wavelet.wavelet={self.wavelet!r} is none of {lifting.WAVELETS}")
        if self.channels < 3:
            raise ValueError(f"wavelet.channels={self.channels} cannot hold the 3 of a picture")
        for name in ("levels", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"wavelet.{name}={getattr(self, name)} must be at least 1")


class Branch(nnx.Module):
    """PredictCNN or UpdateCNN: 3×3, ReLU, 3×3, ReLU, 1×1; `[b h w c] -> [b h w out]`."""

    def __init__(self, channels: int, out: int, width: int, *, zero: bool, rngs: nnx.Rngs):
        self.conv1 = conv(channels, width, 3, rngs=rngs)
        self.conv2 = conv(width, width, 3, rngs=rngs)
        self.conv3 = conv(width, out, 1, zero=zero, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv3(nnx.relu(self.conv2(nnx.relu(self.conv1(x)))))


def conv(channels: int, out: int, size: int, *, zero: bool = False, rngs: nnx.Rngs) -> nnx.Conv:
    init = nnx.initializers.zeros_init() if zero else nnx.initializers.he_normal()
    return nnx.Conv(channels, out, (size, size), kernel_init=init, rngs=rngs)


class LiftingStep(nnx.Module):
    """One level: a linear wavelet's two steps, each corrected by a CNN; exactly invertible.

    Sweldens 1996: what is added to one half is computed from the other alone, so that subtracting
    the same undoes it. The update sees the features of H where the seed has those of X, which a
    decoder does not know yet. The last layers start at zero: an untrained step is the wavelet.
    """

    def __init__(self, cfg: WaveletConfig, *, rngs: nnx.Rngs):
        c, width = cfg.channels, cfg.width
        self.wavelet = cfg.wavelet
        self.stage0 = conv(c, width, 3, rngs=rngs)
        self.predict = Branch(width, 3 * c, width, zero=True, rngs=rngs)
        self.stage0_high = conv(3 * c, width, 3, rngs=rngs)
        self.update = Branch(width + 3 * c, c, width, zero=True, rngs=rngs)

    def forward(self, x: jax.Array, rounded=lambda x: x) -> tuple[jax.Array, jax.Array]:
        """`[b h w c]` -> low `[b h/2 w/2 c]`, high `[… 3c]`: differences, not yet orthonormal."""
        even, odd = lifting.split(x)
        high = odd - rounded(self._predicted(even))
        return even + rounded(self._updated(high)), high

    def inverse(self, low: jax.Array, high: jax.Array, rounded=lambda x: x) -> jax.Array:
        even = low - rounded(self._updated(high))
        return lifting.merge(even, high + rounded(self._predicted(even)))

    def _predicted(self, even):
        correction = self.predict(nnx.relu(self.stage0(even)))
        return lifting.predicted(even, self.wavelet) + correction

    def _updated(self, high):
        features = nnx.relu(self.stage0_high(high))
        correction = self.update(jnp.concatenate([features, high], axis=-1))
        return lifting.updated(high, self.wavelet) + correction


class WaveletTransformCNN(nnx.Module):
    """Levels of `LiftingStep` on the low band; pictures `[b h w 3]` <-> `Bands`.

    Channels of a level are LH, HL, HH of each colour in turn, orthonormal, so that squared errors
    of a picture and of its untrained bands are near each other.
    """

    def __init__(self, cfg: WaveletConfig, *, rngs: nnx.Rngs):
        if cfg.mode != "lifting":
            raise ValueError(f"wavelet.mode={cfg.mode!r}: see LiteralWaveletTransformCNN")
        self.cfg = cfg
        self.steps = nnx.List([LiftingStep(cfg, rngs=rngs) for _ in range(cfg.levels)])

    def forward(self, image: jax.Array) -> Bands:
        """`[b h w 3]` in [0, 1] -> bands; h and w must be multiples of `2 ** levels`."""
        self._check(image)
        low = (image - 0.5) @ lifting.COLOURS.T
        low = jnp.pad(low, [(0, 0)] * 3 + [(0, self.cfg.channels - 3)])
        bands = []
        for level, step in enumerate(self.steps):
            low, high = step.forward(low)  # low remains a mean, whatever the level
            bands.append(lifting.orthonormal(low, high)[1] * 2**level)
        return [low * 2**self.cfg.levels, *bands[::-1]]

    def inverse(self, bands: Bands) -> jax.Array:
        """Bands -> `[b h w 3]`, not clipped. Fewer bands give the picture of a coarser level."""
        low, *highs = bands
        low = low / 2**self.cfg.levels
        levels = reversed(list(enumerate(self.steps)))
        for (level, step), high in zip(levels, highs, strict=False):
            low = step.inverse(*lifting.differences(2 * low, high / 2**level))
        return low[..., :3] @ lifting.COLOURS + 0.5

    def forward_integers(self, image: jax.Array) -> Bands:
        """uint8 `[b h w c]` -> int32 bands, without loss: the steps' sums are rounded."""
        self._check(image)
        low, bands = image.astype(jnp.float32), []
        low = jnp.pad(low, [(0, 0)] * 3 + [(0, self.cfg.channels - low.shape[-1])])
        for step in self.steps:
            low, high = step.forward(low, jnp.rint)
            bands.append(high)
        return [x.astype(jnp.int32) for x in (low, *bands[::-1])]

    def inverse_integers(self, bands: Bands) -> jax.Array:
        """The inverse of `forward_integers`, to the bit on one machine and program."""
        low, *highs = (x.astype(jnp.float32) for x in bands)
        for step, high in zip(reversed(list(self.steps)), highs, strict=True):
            low = step.inverse(low, high, jnp.rint)
        return jnp.clip(low[..., :3], 0, 255).astype(jnp.uint8)

    def _check(self, image):
        multiple = 2**self.cfg.levels
        if image.ndim != 4 or image.shape[-1] != 3:
            raise ValueError(f"image has shape {image.shape}; it must be [b h w 3]")
        if image.shape[1] % multiple or image.shape[2] % multiple:
            raise ValueError(
                f"image of {image.shape[1]}×{image.shape[2]} is not a multiple of {multiple}, "
                f"which {self.cfg.levels} levels need; `lifting.pad_to` makes it one"
            )


class LiteralWaveletTransformCNN(nnx.Module):
    """The seed's text as it stands: `H = P(X)`, `L = U(X ‖ H)` at the picture's own size.

    Nothing is subtracted and ReLUs come first, so it has no inverse; `inverse` is one learned, by
    the transposes of the same kernels. Four times as many numbers as the picture has.
    """

    def __init__(self, cfg: WaveletConfig, *, rngs: nnx.Rngs):
        c, width = cfg.channels, cfg.width
        self.cfg = cfg
        self.stage0 = conv(3, width, 3, rngs=rngs)
        self.predict = Branch(width, 3 * c, width, zero=False, rngs=rngs)
        self.update = Branch(width + 3 * c, c, width, zero=False, rngs=rngs)
        self.biases = nnx.Dict(
            update=_biases(self.update), predict=_biases(self.predict), stage0=_bias(self.stage0)
        )

    def forward(self, image: jax.Array) -> Bands:
        """`[b h w 3]` -> LL `[b h w c]` and LH HL HH `[b h w 3c]`."""
        if image.ndim != 4 or image.shape[-1] != 3:
            raise ValueError(f"image has shape {image.shape}; it must be [b h w 3]")
        x = nnx.relu(self.stage0(image))
        high = self.predict(x)
        return [self.update(jnp.concatenate([x, high], axis=-1)), high]

    def inverse(self, bands: Bands) -> jax.Array:
        low, high = bands
        back = _transposed(self.update, low, self.biases["update"])
        x, more = jnp.split(back, [self.cfg.width], axis=-1)
        x = x + _transposed(self.predict, high + more, self.biases["predict"])
        return _transpose(self.stage0, nnx.relu(x), self.biases["stage0"])


def _biases(branch):
    return nnx.List([_bias(c) for c in (branch.conv3, branch.conv2, branch.conv1)])


def _bias(layer):
    return nnx.Param(jnp.zeros((layer.in_features,)))


def _transposed(branch, x, biases):
    """The branch from its end to its beginning."""
    x = nnx.relu(_transpose(branch.conv3, x, biases[0]))
    x = nnx.relu(_transpose(branch.conv2, x, biases[1]))
    return _transpose(branch.conv1, x, biases[2])


def _transpose(layer, x, bias):
    kernel = layer.kernel[...]
    y = lax.conv_transpose(x, kernel, (1, 1), "SAME", transpose_kernel=True)
    return y + bias[...]
