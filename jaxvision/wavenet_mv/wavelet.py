"""WaveletTransformCNN: a wavelet transform whose predict and update steps are small CNNs."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxvision.entropy.exact import round_through
from jaxvision.wavenet_mv import lifting
from jaxvision.wavenet_mv.lifting import Rounded, unrounded
from jaxvision.wavenet_mv.whole import WholeConv, on_grid, whole

Bands = list[jax.Array]  # LL of the coarsest level, then of each level, coarse to fine, LH HL HH

# Powers of two: what enters the networks is -1 … 1, and mostly below 1/4 in the high bands; what
# leaves them is small.
LOW, HIGH = 7, 9
CORRECTION = 1 / 16


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


def conv(channels: int, out: int, size: int, *, zero: bool = False, rngs: nnx.Rngs) -> nnx.Conv:
    init = nnx.initializers.zeros_init() if zero else nnx.initializers.he_normal()
    return nnx.Conv(channels, out, (size, size), kernel_init=init, rngs=rngs)


class Branch(nnx.Module):
    """PredictCNN or UpdateCNN: 3×3, ReLU, 3×3, ReLU, 1×1; `[b h w c] -> [b h w out]`.

    Whole sixteenths in, fractions with few digits out; zero to begin with.
    """

    def __init__(self, channels: int, out: int, width: int, *, rngs: nnx.Rngs):
        self.conv1 = WholeConv(channels, width, 3, rngs=rngs)
        self.conv2 = WholeConv(width, width, 3, rngs=rngs)
        self.conv3 = WholeConv(width, out, 1, gain=0.0, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return CORRECTION * self.conv3.value(self.conv2(self.conv1(x)))


class LiftingStep(nnx.Module):
    """One level: a linear wavelet's two halves, each corrected by a CNN that sees the other.

    Sweldens 1996: what is added to one half is computed from the other alone, so that subtracting
    the same undoes it. The update sees the features of H where the recipe has those of X, which a
    decoder does not know yet. An untrained step is the wavelet. With `rounded` sums of rounded
    numbers everything is exact, and the same on every machine.
    """

    def __init__(self, cfg: WaveletConfig, *, rngs: nnx.Rngs):
        c, width = cfg.channels, cfg.width
        self.wavelet = cfg.wavelet
        self.stage0 = WholeConv(c, width, 3, rngs=rngs)
        self.predict = Branch(width, 3 * c, width, rngs=rngs)
        self.stage0_high = WholeConv(3 * c, width, 3, rngs=rngs)
        self.update = Branch(width + 3 * c, c, width, rngs=rngs)

    def forward(self, x: jax.Array, rounded: Rounded = unrounded) -> tuple[jax.Array, jax.Array]:
        """`[b h w c]` -> low `[b h/2 w/2 c]`, which keeps the mean, and LH HL HH `[… 3c]`."""
        low, high = lifting.forward(x, self.wavelet, rounded=rounded)
        high = high - rounded(self._predicted(low))
        return low + rounded(self._updated(high)), high

    def inverse(self, low: jax.Array, high: jax.Array, rounded: Rounded = unrounded) -> jax.Array:
        low = low - rounded(self._updated(high))
        high = high + rounded(self._predicted(low))
        return lifting.inverse(low, high, self.wavelet, rounded=rounded)

    def _predicted(self, low):
        return self.predict(self.stage0(whole(low, LOW)))

    def _updated(self, high):
        high = whole(high, HIGH)
        return self.update(jnp.concatenate([self.stage0_high(high), high], axis=-1))


class WaveletTransformCNN(nnx.Module):
    """Levels of `LiftingStep` on the low band; pictures `[b h w 3]` <-> `Bands`.

    LL is a small picture, of means; a level has LH, HL, HH of all colours in turn.
    `lifting.orthonormal` scales them to the untrained picture's energy.
    """

    def __init__(self, cfg: WaveletConfig, *, rngs: nnx.Rngs):
        if cfg.mode != "lifting":
            raise ValueError(f"wavelet.mode={cfg.mode!r}: see LiteralWaveletTransformCNN")
        self.cfg = cfg
        self.steps = nnx.List([LiftingStep(cfg, rngs=rngs) for _ in range(cfg.levels)])

    def forward(self, image: jax.Array) -> Bands:
        """`[b h w 3]` in [0, 1] -> bands; h and w must be multiples of `2 ** levels`."""
        self._check(image)
        colours = (image * (255 / 256) - 0.5) @ lifting.TO_COLOURS
        return self._forward(colours, unrounded)

    def inverse(self, bands: Bands) -> jax.Array:
        """Bands -> `[b h w 3]`, not clipped. Fewer bands give the picture of a coarser level."""
        return self._colours(self._inverse(bands, unrounded)) * (256 / 255)

    def pixels(self, bands: Bands) -> jax.Array:
        """Bands on the grid of `on_grid` -> uint8 `[b h w 3]`, the same on every machine."""
        image = self._colours(self._inverse(bands, on_grid))
        return jnp.clip(jnp.rint(256 * image), 0, 255).astype(jnp.uint8)

    def forward_integers(self, image: jax.Array) -> Bands:
        """Whole numbers `[b h w 3]`, -512 … 512 -> int32 bands, without loss, on any machine.

        The steps' sums are rounded. Colours are taken as they come.
        """
        self._check(image)
        return [jnp.rint(256 * x).astype(jnp.int32) for x in self._forward(image / 256, _whole)]

    def inverse_integers(self, bands: Bands) -> jax.Array:
        """The inverse of `forward_integers`, int32 `[b h w 3]`."""
        image = self._inverse([x.astype(jnp.float32) / 256 for x in bands], _whole)
        return jnp.rint(256 * image[..., :3]).astype(jnp.int32)

    def _forward(self, colours, rounded):
        low = jnp.pad(colours, [(0, 0)] * 3 + [(0, self.cfg.channels - 3)])
        bands = []
        for step in self.steps:
            low, high = step.forward(low, rounded)
            bands.append(high)
        return [low, *bands[::-1]]

    def _inverse(self, bands, rounded):
        low, *highs = bands
        for step, high in zip(reversed(list(self.steps)), highs, strict=False):
            low = step.inverse(low, high, rounded)
        return low

    def _colours(self, low):
        # HIGHEST: other precisions round the operands.
        way = jnp.asarray(lifting.FROM_COLOURS)
        return jnp.matmul(low[..., :3], way, precision=jax.lax.Precision.HIGHEST) + 0.5

    def _check(self, image):
        multiple = 2**self.cfg.levels
        if image.ndim != 4 or image.shape[-1] != 3:
            raise ValueError(f"image has shape {image.shape}; it must be [b h w 3]")
        if image.shape[1] % multiple or image.shape[2] % multiple:
            raise ValueError(
                f"image of {image.shape[1]}×{image.shape[2]} is not a multiple of {multiple}, "
                f"which {self.cfg.levels} levels need; `lifting.pad_to` makes it one"
            )


def _whole(x):
    return round_through(256 * x) / 256


class FloatBranch(nnx.Module):
    """PredictCNN or UpdateCNN as the recipe has it, of floats."""

    def __init__(self, channels: int, out: int, width: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(channels, width, 3, rngs=rngs)
        self.conv2 = conv(width, width, 3, rngs=rngs)
        self.conv3 = conv(width, out, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv3(nnx.relu(self.conv2(nnx.relu(self.conv1(x)))))


class LiteralWaveletTransformCNN(nnx.Module):
    """The recipe's text as it stands: `H = P(X)`, `L = U(X ‖ H)` at the picture's own size.

    Nothing is subtracted and ReLUs come first, so it has no inverse; `inverse` is one learned, by
    the transposes of the same kernels. Four times as many numbers as the picture has.
    """

    def __init__(self, cfg: WaveletConfig, *, rngs: nnx.Rngs):
        c, width = cfg.channels, cfg.width
        self.cfg = cfg
        self.stage0 = conv(3, width, 3, rngs=rngs)
        self.predict = FloatBranch(width, 3 * c, width, rngs=rngs)
        self.update = FloatBranch(width + 3 * c, c, width, rngs=rngs)
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
