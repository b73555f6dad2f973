"""WAVENET-MV: a wavelet transform, a mixer and a compressor, from pictures to bits and back."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.wavenet_mv.adamix import AdaMixNet, Mixer
from jaxvision.wavenet_mv.compressor import Compressor, CompressorConfig
from jaxvision.wavenet_mv.wavelet import (
    Bands,
    LiteralWaveletTransformCNN,
    WaveletConfig,
    WaveletTransformCNN,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WavenetMvConfig:
    wavelet: WaveletConfig = WaveletConfig()
    compressor: CompressorConfig = CompressorConfig()

    def __post_init__(self):
        if self.wavelet.mode == "literal" and self.compressor.latents % 4:
            raise ValueError(
                f"compressor.latents={self.compressor.latents} must be a multiple of 4 where "
                "wavelet.mode='literal'"
            )


class Output(NamedTuple):
    """A training step's picture `[b h w 3]`, bits a pixel `[b]`, and decoded latents by group."""

    image: jax.Array
    bpp: jax.Array
    latents: list[jax.Array]


class WavenetMV(nnx.Module):
    """Pictures `[b h w 3]` in [0, 1], of multiples of `multiple`, to latents by group, and back."""

    def __init__(self, cfg: WavenetMvConfig, *, rngs: nnx.Rngs):
        wavelet, latents = cfg.wavelet, cfg.compressor.latents
        self.cfg = cfg
        if wavelet.mode == "literal":
            self.wavelet = LiteralWaveletTransformCNN(wavelet, rngs=rngs)
            self.mixer = LiteralMixer(wavelet.channels, latents, rngs=rngs)
        else:
            self.wavelet = WaveletTransformCNN(wavelet, rngs=rngs)
            self.mixer = Mixer(wavelet.channels, wavelet.levels, latents, rngs=rngs)
        self.compressor = Compressor(self.mixer.sizes, cfg.compressor, rngs=rngs)

    @property
    def multiple(self) -> int:
        return 1 if self.cfg.wavelet.mode == "literal" else 2**self.cfg.wavelet.levels

    def analyse(self, image: jax.Array) -> list[jax.Array]:
        return self.mixer.forward(self.wavelet.forward(image))

    def synthesise(self, latents: list[jax.Array]) -> jax.Array:
        """A picture, not clipped; of fewer groups a smaller one."""
        return self.wavelet.inverse(self.mixer.inverse(latents))

    def train_step(self, image: jax.Array, quality: jax.Array, key: jax.Array) -> Output:
        """With noise in place of rounding; `quality` `[b]` in 0 … len(lambdas) - 1."""
        coded = self.compressor.train(self.analyse(image), quality, key)
        pixels = image.shape[1] * image.shape[2]
        return Output(self.synthesise(coded.latents), sum(coded.bits) / pixels, coded.latents)

    def reconstruct(self, image: jax.Array, quality: jax.Array) -> jax.Array:
        """The picture that a decoder would have, without the file between."""
        symbols = self.compressor.symbols(self.analyse(image), quality)
        return self.synthesise(self.decoded(symbols, quality))

    def decoded(self, symbols: list[jax.Array], quality: jax.Array) -> list[jax.Array]:
        """Latents of the symbols, side information included."""
        side = self.cfg.compressor.sigma == "hyper"
        return self.compressor.latents(symbols[side:], quality)


class LiteralMixer(nnx.Module):
    """The seed's AdaMixNet alone, on bands of the picture's own size, and one back."""

    def __init__(self, channels: int, latents: int, *, rngs: nnx.Rngs):
        self.channels, self.sizes = channels, (latents,)
        self.analysis = AdaMixNet(4 * channels, latents, zero=False, rngs=rngs)
        self.synthesis = AdaMixNet(latents, 4 * channels, zero=False, rngs=rngs)

    def forward(self, bands: Bands) -> list[jax.Array]:
        return [self.analysis(jnp.concatenate(bands, axis=-1))]

    def inverse(self, latents: list[jax.Array]) -> Bands:
        return jnp.split(self.synthesis(latents[0]), [self.channels], axis=-1)
