"""The model of one stage, and what every model is made of."""

import dataclasses

import jax
from flax import nnx
from ml_collections import ConfigDict

from jaxvision.cnn_av1 import decide
from jaxvision.cnn_av1.adapters import Adapters
from jaxvision.cnn_av1.heads import ABHead, BinaryHead, Head, MacroHead, RectHead, TypesHead
from jaxvision.cnn_av1.model import Backbone, BackboneConfig
from jaxvision.config import from_config

STAGES = ("binary", "macro", "rect", "ab")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What every model here is made of.

    `hidden` and `dropout` are the heads'; `adapters` the hidden channels of the adapters of each
    stage, 0 for none; without `four_way` RECT has two classes; `centers` is the AB head's table.
    """

    backbone: BackboneConfig = BackboneConfig()
    hidden: int = 256
    dropout: float = 0.0
    adapters: int = 0
    four_way: bool = True
    centers: bool = False

    def __post_init__(self):
        if self.hidden < 2 or self.adapters < 0:
            raise ValueError(
                f"model.hidden={self.hidden} must be 2 or more, adapters={self.adapters} 0 or more"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout={self.dropout} must be from 0 to below 1")


def model_config(config: ConfigDict) -> ModelConfig:
    """`config.model`, for blocks as `config.data` has them."""
    made = from_config(ModelConfig, config.model, path="model.")
    seen = dict(size=config.data.size, context=config.data.context)
    return dataclasses.replace(made, backbone=dataclasses.replace(made.backbone, **seen))


def make_head(stage: str, cfg: ModelConfig, *, rngs: nnx.Rngs) -> Head | ABHead:
    """The head of a stage: "binary", "macro", "rect", "ab", or "types" for the flat ten classes."""
    size = dict(hidden=cfg.hidden, dropout=cfg.dropout)
    features = cfg.backbone.features
    if stage == "binary":
        return BinaryHead(features, **size, rngs=rngs)
    if stage == "macro":
        return MacroHead(features, **size, rngs=rngs)
    if stage == "rect":
        return RectHead(features, **size, four_way=cfg.four_way, rngs=rngs)
    if stage == "ab":
        return ABHead(features, **size, centers=cfg.centers, rngs=rngs)
    if stage == "types":
        return TypesHead(features, **size, rngs=rngs)
    raise ValueError(f"stage {stage!r} is none of {', '.join((*STAGES, 'types'))}")


class StageModel(nnx.Module):
    """`backbone`, `adapters` if there are any, `head`: blocks -> class logits `[b k]` float32."""

    def __init__(self, stage: str, cfg: ModelConfig, *, rngs: nnx.Rngs):
        self.stage = stage
        self.backbone = Backbone(cfg.backbone, rngs=rngs)
        resnet = cfg.backbone.resnet
        self.adapters = (
            Adapters(resnet.widths, cfg.adapters, dtype=resnet.dtype, rngs=rngs)
            if cfg.adapters
            else None
        )
        self.head = make_head(stage, cfg, rngs=rngs)

    def features(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """`[b features]`, for `head.embed` and `head.classify` one by one."""
        return self.backbone(blocks, qps, levels, adapters=self.adapters, rngs=rngs)

    def __call__(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        logits = self.head(self.features(blocks, qps, levels, rngs=rngs), rngs=rngs)
        return allowed(logits, self.stage, levels, self.backbone.cfg)


def allowed(
    logits: jax.Array, stage: str, levels: jax.Array | None, cfg: BackboneConfig
) -> jax.Array:
    """The logits of a stage, without what the nodes' levels cannot be, if there are levels."""
    if cfg.levels == 1 or stage not in decide.TABLES:
        return logits
    return decide.allow(logits, stage, levels)
