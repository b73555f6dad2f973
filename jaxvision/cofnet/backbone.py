"""The backbone: convolutions and selective scans in four resolutions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.conv import DepthwiseConv
from jaxvision.nn.ssm import ScanConfig, ScanMixer


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """`dims[i]` channels at stride 4·2^i, `depths[i]` blocks of the kind `mixers[i]`.

    "scan" blocks are Mamba's; "conv" blocks are two 3×3 convolutions, cheaper where maps are large
    (as in MambaVision, Hatamizadeh and Kautz 2024, section 3.2). `stem` "conv" halves the image
    twice by 3×3 convolutions; "patch" embeds 4×4 patches, which costs an eighth of that on CPU.
    """

    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    mixers: tuple[str, ...] = ("scan", "scan", "scan", "scan")
    stem: str = "conv"
    scan: ScanConfig = ScanConfig()
    mlp: int = 2
    remat: bool = False

    def __post_init__(self):
        if not len(self.dims) == len(self.depths) == len(self.mixers):
            raise ValueError(
                f"dims {self.dims}, depths {self.depths}, mixers {self.mixers} differ in length"
            )
        if not self.dims or min(*self.dims, *self.depths, self.mlp) < 1:
            raise ValueError(
                f"backbone.dims {self.dims}, depths {self.depths} and mlp={self.mlp} must be 1 or "
                "more, and the dims at least one"
            )
        for mixer in self.mixers:
            if mixer not in ("scan", "conv"):
                raise ValueError(f"backbone.mixers: {mixer!r} is neither 'scan' nor 'conv'")
        if self.stem not in ("conv", "patch"):
            raise ValueError(f"backbone.stem {self.stem!r} is neither 'conv' nor 'patch'")

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels to a cell, of each map; height and width must divide by the last."""
        return tuple(4 * 2**i for i in range(len(self.dims)))


class ConvBlock(nnx.Module):
    """Pre-norm residual block of two 3×3 convolutions: `[b h w c] -> [b h w c]`."""

    def __init__(self, channels: int, cfg: BackboneConfig, *, dtype, rngs: nnx.Rngs):
        del cfg
        conv = functools.partial(nnx.Conv, channels, channels, (3, 3), dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(channels, dtype=dtype, rngs=rngs)
        self.first, self.second = conv(), conv()

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.second(nnx.gelu(self.first(self.norm(x))))


class Mlp(nnx.Module):
    """`[* c] -> [* c]` through `ratio` times the width, with a depthwise 3×3 between the layers."""

    def __init__(self, channels: int, ratio: int, *, dtype, rngs: nnx.Rngs):
        self.widen = nnx.Linear(channels, ratio * channels, dtype=dtype, rngs=rngs)
        self.conv = DepthwiseConv(ratio * channels, 3, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(ratio * channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.widen(x)
        return self.narrow(nnx.gelu(x + self.conv(x)))


class ScanBlock(nnx.Module):
    """Pre-norm residual block: selective scan over the map, then MLP."""

    def __init__(self, channels: int, cfg: BackboneConfig, *, dtype, rngs: nnx.Rngs):
        self.norm_mixer = nnx.LayerNorm(channels, dtype=dtype, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(channels, dtype=dtype, rngs=rngs)
        self.mixer = ScanMixer(channels, cfg.scan, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(channels, cfg.mlp, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.mixer(self.norm_mixer(x))
        return x + self.mlp(self.norm_mlp(x))


class MambaBackbone(nnx.Module):
    """`[b h w 3]`, about in [-1, 1] -> a map `[b h/s w/s dims[i]]` for each stride s = 4, 8, ….

    Height and width are multiples of the last stride.
    """

    def __init__(self, cfg: BackboneConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        conv = functools.partial(nnx.Conv, dtype=dtype, rngs=rngs)
        norm = functools.partial(nnx.LayerNorm, dtype=dtype, rngs=rngs)
        self.cfg = cfg
        if cfg.stem == "conv":
            half = cfg.dims[0] // 2
            halve = functools.partial(conv, kernel_size=(3, 3), strides=2)
            self.stem = nnx.Sequential(
                halve(3, half), norm(half), nnx.gelu, halve(half, cfg.dims[0])
            )
        else:
            self.stem = conv(3, cfg.dims[0], (4, 4), strides=4)
        self.downs = nnx.List(
            [
                conv(a, b, (2, 2), strides=2)
                for a, b in zip(cfg.dims[:-1], cfg.dims[1:], strict=True)
            ]
        )
        blocks = {"scan": ScanBlock, "conv": ConvBlock}
        self.stages = nnx.List(
            [
                nnx.List([blocks[mixer](dim, cfg, dtype=dtype, rngs=rngs) for _ in range(depth)])
                for dim, depth, mixer in zip(cfg.dims, cfg.depths, cfg.mixers, strict=True)
            ]
        )
        self.norms = nnx.List([norm(dim) for dim in cfg.dims])

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        h, w = images.shape[1:3]
        stride = self.cfg.strides[-1]
        if h % stride or w % stride:
            raise ValueError(f"image size {h}×{w} is not a multiple of {stride}")
        x = self.stem(images)
        run = nnx.remat(lambda block, x: block(x)) if self.cfg.remat else lambda block, x: block(x)
        maps = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = self.downs[i - 1](x) if i else x
            for block in stage:
                x = run(block, x)
            maps.append(norm(x))
        return maps
