"""Models of all stages: one after another, and all heads on one backbone."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.cnn_av1 import decide
from jaxvision.cnn_av1.dataset.ensembles import MEMBERS
from jaxvision.cnn_av1.model import Backbone
from jaxvision.cnn_av1.stage_model import STAGES, ModelConfig, StageModel, allowed, make_head


class Pipeline(nnx.Module):
    """All stages, each a `StageModel`: `stage1`, `stage2`, `rect`, `ab0`, `ab1`, `ab2`.

    From coarse to fine: NONE or not, then SPLIT, RECT or AB, then a specialist.
    """

    def __init__(self, cfg: ModelConfig, *, rngs: nnx.Rngs):
        self.stage1 = StageModel("binary", cfg, rngs=rngs)
        self.stage2 = StageModel("macro", cfg, rngs=rngs)
        self.rect = StageModel("rect", cfg, rngs=rngs)
        self.ab0, self.ab1, self.ab2 = (StageModel("ab", cfg, rngs=rngs) for _ in range(MEMBERS))

    def logits(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> dict[str, jax.Array]:
        """ "binary" `[b 2]`, "macro" `[b 3]`, "rect" `[b 4]` or `[b 2]`, "ab" `[3 b 4]`."""
        models = {"binary": self.stage1, "macro": self.stage2, "rect": self.rect}
        found = {k: model(blocks, qps, levels, rngs=rngs) for k, model in models.items()}
        members = (self.ab0, self.ab1, self.ab2)
        return found | {
            "ab": jnp.stack([member(blocks, qps, levels, rngs=rngs) for member in members])
        }

    def __call__(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        threshold: jax.Array | float = 0.5,
        rngs: nnx.Rngs | None = None,
    ) -> dict[str, jax.Array]:
        """What `decide.probabilities` gives of them; `threshold` is stage 1's."""
        logits = self.logits(blocks, qps, levels, rngs=rngs)
        return decide.probabilities(logits, threshold=threshold)


class MultiTask(nnx.Module):
    """One `backbone` with the heads of all stages and a flat one: `heads/binary`, `heads/types`, ….

    Features that serve all tasks at once, in place of those of one task bent to the next (Caruana
    1997). The AB ensemble has one member.
    """

    def __init__(self, cfg: ModelConfig, *, rngs: nnx.Rngs):
        if cfg.adapters:
            raise ValueError(f"model.adapters={cfg.adapters}: one net for all stages has none")
        self.backbone = Backbone(cfg.backbone, rngs=rngs)
        self.heads = nnx.Dict(
            {stage: make_head(stage, cfg, rngs=rngs) for stage in (*STAGES, "types")}
        )

    def logits(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> dict[str, jax.Array]:
        """As `Pipeline.logits`, "ab" `[1 b 4]`, and the flat head's "types" `[b 10]`."""
        features = self.backbone(blocks, qps, levels, rngs=rngs)
        found = {
            stage: allowed(head(features, rngs=rngs), stage, levels, self.backbone.cfg)
            for stage, head in self.heads.items()
        }
        return found | {"ab": found["ab"][None]}

    def __call__(
        self,
        blocks: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        threshold: jax.Array | float = 0.5,
        rngs: nnx.Rngs | None = None,
    ) -> dict[str, jax.Array]:
        """As `Pipeline`, but "types" are the flat head's; the tree's are "assembled"."""
        logits = self.logits(blocks, qps, levels, rngs=rngs)
        found = decide.probabilities(logits, threshold=threshold)
        return found | {"assembled": found["types"], "types": jax.nn.softmax(logits["types"])}
