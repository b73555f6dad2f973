"""The heads: boxes, masks and classes read from decoded latents, never from pixels."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.wavenet_mv.heads.classify import ActionHead
from jaxvision.wavenet_mv.heads.detect import Cells, DetectHead, detections
from jaxvision.wavenet_mv.heads.segment import SegmentHead, segments
from jaxvision.wavenet_mv.heads.stem import Stem

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """How many classes each head tells apart; 0 is no such head.

    `stride` is how many pixels a cell of the latents is wide; `depth` counts residual blocks of
    what the heads share.
    """

    detect_classes: int = 0
    segment_classes: int = 0
    actions: int = 0
    width: int = 64
    depth: int = 2
    stride: int = 8
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        counts = ("detect_classes", "segment_classes", "actions")
        for name in counts:
            if getattr(self, name) < 0:
                raise ValueError(f"heads.{name}={getattr(self, name)} must be 0 or more")
        if not any(getattr(self, name) for name in counts):
            raise ValueError(f"heads: none of {', '.join(counts)} is above 0")
        if self.segment_classes > 255:
            raise ValueError(
                f"heads.segment_classes={self.segment_classes}: masks hold 255 classes at most"
            )
        if self.width < 16 or self.width % 16:
            raise ValueError(f"heads.width={self.width} must be a multiple of 16")
        if self.depth < 1:
            raise ValueError(f"heads.depth={self.depth} must be at least 1")
        if self.stride < 2 or self.stride % 2:
            raise ValueError(f"heads.stride={self.stride} must be even")
        if self.dtype not in DTYPES:
            raise ValueError(f"heads.dtype={self.dtype!r} is none of {DTYPES}")


class HeadsOutput(NamedTuple):
    """What the heads say; None where there is no such head.

    `features [b h w width]` is what they share; `cells` see `Cells`; `segments [b 2h 2w k]` and
    `action [b k]` are logits. Of clips, b counts frames but in `action`.
    """

    features: jax.Array
    cells: Cells | None
    segments: jax.Array | None
    action: jax.Array | None


class AIHeads(nnx.Module):
    """Decoded latents `[b h w channels]`, or `[b t h w channels]` of clips, to `HeadsOutput`."""

    def __init__(self, channels: int, cfg: HeadsConfig, *, rngs: nnx.Rngs):
        self.cfg, self.channels = cfg, channels
        kinds = dict(dtype=jnp.dtype(cfg.dtype), rngs=rngs)
        self.stem = Stem(channels, cfg.width, depth=cfg.depth, **kinds)
        if cfg.detect_classes:
            self.detect = DetectHead(cfg.width, cfg.detect_classes, stride=cfg.stride, **kinds)
        if cfg.segment_classes:
            self.segment = SegmentHead(cfg.width, cfg.segment_classes, **kinds)
        if cfg.actions:
            self.action = ActionHead(cfg.width, cfg.actions, **kinds)

    def __call__(self, features: jax.Array) -> HeadsOutput:
        if features.ndim not in (4, 5) or features.shape[-1] != self.channels:
            raise ValueError(
                f"features have shape {features.shape}; they must be [b h w {self.channels}] or "
                f"[b t h w {self.channels}]"
            )
        x = self.stem(features.reshape(-1, *features.shape[-3:]))
        clips = x.reshape(*features.shape[:-1], -1)
        return HeadsOutput(
            features=x,
            cells=self.detect(x) if self.cfg.detect_classes else None,
            segments=self.segment(x) if self.cfg.segment_classes else None,
            action=self.action(clips) if self.cfg.actions else None,
        )


def predictions(
    output: HeadsOutput, canvas: tuple[int, int], *, top: int = 100, threshold: float = 0.6
) -> dict[str, jax.Array]:
    """What the metrics read, of pictures of `canvas` (h, w).

    `boxes`, `scores` and `labels` as `detections` has them, `segments` uint8 `[b h w]`, `action`
    int32 `[b]`; what there is no head for is left out.
    """
    found: dict[str, jax.Array] = {}
    if output.cells is not None:
        found |= detections(output.cells, canvas, top=top, threshold=threshold)
    if output.segments is not None:
        found["segments"] = segments(output.segments, canvas)
    if output.action is not None:
        found["action"] = output.action.argmax(-1).astype(jnp.int32)
    return found
