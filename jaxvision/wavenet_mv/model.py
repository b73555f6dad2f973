"""WAVENET-MV: a wavelet transform, a mixer and a compressor, from pictures to bits and back."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.wavenet_mv import whole
from jaxvision.wavenet_mv.adamix import AdaMixNet, Mixer, joined, kept_bands
from jaxvision.wavenet_mv.compressor import CompressorConfig, CompressorVNVC
from jaxvision.wavenet_mv.wavelet import (
    Bands,
    LiteralWaveletTransformCNN,
    WaveletConfig,
    WaveletTransformCNN,
)
from jaxvision.wavenet_mv.whole import on_grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class WavenetMvConfig:
    wavelet: WaveletConfig = WaveletConfig()
    compressor: CompressorConfig = CompressorConfig()

    def __post_init__(self):
        if self.wavelet.mode == "lifting":
            kept_bands(self.wavelet.channels, self.wavelet.levels, self.compressor.latents)


class Output(NamedTuple):
    """A training step's picture `[b h w 3]`, bits a pixel `[b]`, and decoded latents by group."""

    image: jax.Array
    bpp: jax.Array
    latents: Bands


class WavenetMV(nnx.Module):
    """Pictures `[b h w 3]` in [0, 1], of multiples of `multiple`, to latents by group, and back."""

    def __init__(self, cfg: WavenetMvConfig, *, rngs: nnx.Rngs):
        wavelet, latents = cfg.wavelet, cfg.compressor.latents
        self.cfg = cfg
        if wavelet.mode == "literal":
            self.wavelet = LiteralWaveletTransformCNN(wavelet, rngs=rngs)
            self.mixer = LiteralMixer(wavelet.channels, latents, rngs=rngs)
            kept = None
        else:
            self.wavelet = WaveletTransformCNN(wavelet, rngs=rngs)
            self.mixer = Mixer(wavelet.channels, wavelet.levels, latents, rngs=rngs)
            kept = self.mixer.kept
        self.compressor = CompressorVNVC(
            self.mixer.sizes, cfg.compressor, wavelet=wavelet.wavelet, kept=kept, rngs=rngs
        )

    @property
    def multiple(self) -> int:
        literal = self.cfg.wavelet.mode == "literal"
        return 4 if literal else 2 ** (self.cfg.wavelet.levels + self.cfg.compressor.deeper)

    @property
    def cell(self) -> int:
        """Pixels that a cell of the mixer's grid is wide."""
        return 1 if self.cfg.wavelet.mode == "literal" else 2**self.cfg.wavelet.levels

    @property
    def finest(self) -> int:
        """Pixels that a cell of the finest plane is wide."""
        return 1 if self.cfg.wavelet.mode == "literal" else 2

    def check(self) -> float:
        """Raises ValueError if another machine might decode something else."""
        return whole.check(self)

    def analyse(self, image: jax.Array) -> Bands:
        """Pictures -> latents, coarse to fine."""
        return self.mixer.forward(self.wavelet.forward(image))

    def synthesise(self, latents: Bands) -> jax.Array:
        """A picture, not clipped; of fewer latents a smaller one."""
        return self.wavelet.inverse(self.mixer.inverse(latents))

    def pixels(self, latents: Bands) -> jax.Array:
        """uint8 `[b h w 3]`, the same on every machine (in the literal form only nearly)."""
        if self.cfg.wavelet.mode == "literal":
            return jnp.round(255 * jnp.clip(self.synthesise(latents), 0, 1)).astype(jnp.uint8)
        return self.wavelet.pixels(self.mixer.inverse(latents, on_grid))

    def features(self, latents: Bands) -> jax.Array:
        """What heads read: all latents on the coarsest grid, `[b h/8 w/8 latents]`."""
        return latents[0] if len(latents) == 1 else joined(latents)

    def train_step(self, image: jax.Array, quality: jax.Array, key: jax.Array) -> Output:
        """`quality` `[b]` in 0 … len(lambdas) - 1."""
        coded = self.compressor.train(self.analyse(image), quality, key)
        pixels = image.shape[1] * image.shape[2]
        return Output(self.synthesise(coded.latents), sum(coded.bits) / pixels, coded.latents)

    def decoded(self, symbols: list[jax.Array], quality: jax.Array) -> Bands:
        """Latents of the symbols, side information included."""
        side = self.cfg.compressor.sigma == "hyper"
        return self.compressor.latents(symbols[side:], quality)


class LiteralMixer(nnx.Module):
    """The recipe's AdaMixNet alone, on bands of the picture's own size, and one back."""

    def __init__(self, channels: int, latents: int, *, rngs: nnx.Rngs):
        self.channels, self.sizes = channels, (latents,)
        self.analysis = AdaMixNet(4 * channels, latents, bits=5, gain=1.0, rngs=rngs)
        self.synthesis = AdaMixNet(latents, 4 * channels, bits=5, gain=1.0, rngs=rngs)

    def forward(self, bands: Bands) -> Bands:
        return [self.analysis(jnp.concatenate(bands, axis=-1))]

    def inverse(self, latents: Bands) -> Bands:
        return jnp.split(self.synthesis(latents[0]), [self.channels], axis=-1)
