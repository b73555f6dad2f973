"""The feature extractor of all stages: ResNet-18 with attention, told the quantiser's index."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.cnn_av1.adapters import Adapters
from jaxvision.cnn_av1.statistics import Statistics
from jaxvision.cnn_av1.views import CHANNELS, in_steps, see
from jaxvision.data.av1.partitions import NODE_SIZES
from jaxvision.nn.attention import SpatialAttention, SqueezeExcite
from jaxvision.nn.embed import fourier_features
from jaxvision.nn.resnet import ResNet, ResNetConfig

BANDS = 4  # octaves of the index's Fourier features
TOLD = 64  # width of what all stages are told of index and level


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The seed's net by `input="plain", qp_conditioning=False`; see `views.see` for inputs.

    `squeeze` is the reduction of the channel attention, `dropout[i]` the share of channels that are
    dropped after stage i, `features` the length of what comes out. `levels` is 1, or 4 for one net
    that is given nodes of 64, 32, 16 and 8 pixels. `statistics` is the width of the layers of
    `Statistics` beside the convolutions, 0 for none; they have to know the blocks' `size` and the
    `context` around them, which come from the data.
    """

    resnet: ResNetConfig = ResNetConfig()
    input: str = "contrast"
    squeeze: int = 16
    dropout: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    features: int = 512
    qp_conditioning: bool = True
    levels: int = 1
    statistics: int = 0
    size: int = 16
    context: int = 8

    def __post_init__(self):
        if self.input not in CHANNELS:
            raise ValueError(f"backbone.input {self.input!r} is none of {', '.join(CHANNELS)}")
        if self.resnet.channels != CHANNELS[self.input]:
            raise ValueError(
                f"backbone.input {self.input!r} has {CHANNELS[self.input]} channels, not "
                f"resnet.channels={self.resnet.channels}"
            )
        if len(self.dropout) != len(self.resnet.blocks):
            raise ValueError(
                f"backbone.dropout {self.dropout} and resnet.blocks {self.resnet.blocks} differ in "
                "length"
            )
        if not all(0 <= rate < 1 for rate in self.dropout):
            raise ValueError(f"backbone.dropout {self.dropout} must be from 0 to below 1")
        if min(self.squeeze, self.features) < 1 or self.statistics < 0:
            raise ValueError(
                f"backbone.squeeze={self.squeeze} and features={self.features} must be 1 or more, "
                f"statistics={self.statistics} 0 or more"
            )
        if self.statistics and self.context % 2:
            raise ValueError(
                f"a context of {self.context} pixels is odd: with backbone.statistics="
                f"{self.statistics} it must be even, see data.context"
            )
        if self.levels not in (1, len(NODE_SIZES)):
            raise ValueError(
                f"backbone.levels={self.levels} must be 1, or {len(NODE_SIZES)} for nodes of "
                f"{NODE_SIZES} pixels"
            )
        if self.levels > 1 and not self.qp_conditioning:
            raise ValueError(
                f"backbone.levels={self.levels} needs qp_conditioning: a level is told with it"
            )


class Conditioning(nnx.Module):
    """Scales and shifts of every stage's channels, from index and level (Perez et al. 2018, FiLM).

    The last layers start at zero, so that the net starts as one without.
    """

    def __init__(self, widths: tuple[int, ...], levels: int, *, rngs: nnx.Rngs):
        self.enter = nnx.Linear(1 + 2 * BANDS, TOLD, rngs=rngs)
        self.level = nnx.Embed(levels, TOLD, rngs=rngs) if levels > 1 else None
        zero = nnx.initializers.zeros
        self.films = nnx.List(
            [nnx.Linear(TOLD, 2 * width, kernel_init=zero, rngs=rngs) for width in widths]
        )

    def __call__(self, qps: jax.Array, levels: jax.Array | None) -> list[jax.Array]:
        """`qps [b]`, `levels [b]` -> for each stage `[b 1 1 2·width]`, scales less 1 and shifts."""
        index = qps.astype(jnp.float32)[:, None] / 255
        told = self.enter(jnp.concatenate([index, fourier_features(index, BANDS)], axis=-1))
        if self.level is not None:
            told = told + self.level(levels)
        told = nnx.silu(told)
        return [film(told)[:, None, None] for film in self.films]


class Backbone(nnx.Module):
    """Blocks of 10-bit luma -> `[b features]` float32.

    After each stage of the ResNet come channel attention (Hu et al. 2018), conditioning, adapters
    where there are any, and dropout of whole channels (Tompson et al. 2015); after the last,
    spatial attention (Woo et al. 2018) and the mean. `Statistics`, if there are any, are added.
    """

    def __init__(self, cfg: BackboneConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        widths = cfg.resnet.widths
        self.trunk = ResNet(cfg.resnet, rngs=rngs)
        self.squeezes = nnx.List(
            [SqueezeExcite(width, reduction=cfg.squeeze, rngs=rngs) for width in widths]
        )
        self.drops = nnx.List([nnx.Dropout(rate, broadcast_dims=(1, 2)) for rate in cfg.dropout])
        self.spatial = SpatialAttention(rngs=rngs)
        self.conditioning = (
            Conditioning(widths, cfg.levels, rngs=rngs) if cfg.qp_conditioning else None
        )
        same = widths[-1] == cfg.features
        self.project = None if same else nnx.Linear(widths[-1], cfg.features, rngs=rngs)
        self.statistics = (
            Statistics(
                cfg.size,
                surroundings=cfg.context > 0,
                hidden=cfg.statistics,
                features=cfg.features,
                levels=cfg.levels,
                dropout=cfg.dropout[-1],
                rngs=rngs,
            )
            if cfg.statistics
            else None
        )

    def __call__(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        adapters: Adapters | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """`blocks [b p p]` of 10 bits, base indices `qps [b]`, `levels [b]` int32 if there are any.

        Of input "levels" blocks are `[b p p 2]`. A level counts from 0 for 64 pixels to 3 for 8.
        `rngs` is for dropout, in training.
        """
        _check(blocks, qps, levels, self.cfg)
        films = self.conditioning(qps, levels) if self.conditioning is not None else None

        def after(i):
            def apply(x):
                x = self.squeezes[i](x)
                if films is not None:
                    scale, shift = jnp.split(films[i].astype(x.dtype), 2, axis=-1)
                    x = x * (1 + scale) + shift
                x = x if adapters is None else adapters(x, i)
                return self.drops[i](x, rngs=rngs)

            return apply

        x = see(blocks, qps, self.cfg.input)
        x = self.trunk(x, [after(i) for i in range(len(self.squeezes))])
        x = self.spatial(x).astype(jnp.float32).mean((1, 2))
        x = x if self.project is None else self.project(x)
        if self.statistics is None:
            return x
        return x + self.statistics(in_steps(blocks, qps), qps, levels, rngs=rngs)


def _check(blocks, qps, levels, cfg):
    planes = (2,) if cfg.input == "levels" else ()
    if blocks.ndim < 3 or blocks.shape[1] != blocks.shape[2] or blocks.shape[3:] != planes:
        wanted = "[b p p 2]" if planes else "[b p p]"
        raise ValueError(f"blocks of shape {blocks.shape} are not {wanted}")
    if qps.shape != blocks.shape[:1]:
        raise ValueError(f"qps of shape {qps.shape} for {blocks.shape[0]} blocks")
    side = cfg.size + 2 * cfg.context
    if cfg.statistics and blocks.shape[1] != side:
        raise ValueError(
            f"blocks of {blocks.shape[1]} pixels; statistics are of {cfg.size} with {cfg.context} "
            "around"
        )
    if cfg.levels > 1 and (levels is None or levels.shape != blocks.shape[:1]):
        shape = None if levels is None else levels.shape
        raise ValueError(f"levels of shape {shape} for {blocks.shape[0]} blocks of several levels")
