"""Inference: DDIM over boxes in one `lax.scan`, then NMS; every shape static."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.cofnet import diffusion
from jaxvision.cofnet.dense import proposals
from jaxvision.cofnet.model import COFNet, Fields
from jaxvision.losses.boxes import to_corners
from jaxvision.nn.nms import select

PROPOSALS = ("learned", "random")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How boxes are sampled; all of it may change at test time without training again.

    `steps` 0 returns the dense head's own boxes. `proposals` "learned" starts from the dense head's
    peaks noised to time `start`, a share of the schedule up to `loss.slots.start`, which is as far
    as training went; "random" starts from Gaussian boxes at the last time. `restart` draws fresh
    random boxes at each step, all at the last time, and pools them: the control that shows what
    DDIM adds.
    `renewal` > 0 replaces boxes that score less than it by fresh ones between steps. `ensemble`
    pools the boxes of all steps, the last among them. `trust` mixes in the proposal's own class
    score, as score^(1-trust) · proposal^trust.
    """

    steps: int = 4
    slots: int = 100
    proposals: str = "learned"
    start: float = 0.3
    eta: float = 0.0
    renewal: float = 0.0
    ensemble: bool = False
    restart: bool = False
    trust: float = 0.3
    nms: float = 0.6
    top: int = 100

    def __post_init__(self):
        if self.proposals not in PROPOSALS:
            raise ValueError(f"sampler.proposals {self.proposals!r} is none of {PROPOSALS}")
        if not 0 <= self.steps <= diffusion.STEPS or self.slots < 1 or not 0 < self.start <= 1:
            raise ValueError(
                f"sampler: steps={self.steps}, slots={self.slots}, start={self.start} out of range"
            )
        if self.proposals == "learned" and self.times < self.steps:
            raise ValueError(
                f"sampler.start={self.start} leaves {self.times} of {diffusion.STEPS} times to "
                f"sampler.steps={self.steps}: start from {self.steps / diffusion.STEPS} at least"
            )
        for name in ("eta", "renewal", "trust", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"sampler.{name}={getattr(self, name)} must be from 0 to 1")
        if self.top < 1:
            raise ValueError(f"sampler.top={self.top} must be at least 1")
        if self.restart and self.proposals != "random":
            raise ValueError("sampler.restart draws random boxes: set sampler.proposals=random")

    @property
    def times(self) -> int:
        """How many times of the schedule lie between the first and 0, both counted."""
        share = self.start if self.proposals == "learned" else 1.0
        return round(share * diffusion.STEPS)


def detect(
    model: COFNet, images: jax.Array, key: jax.Array, *, cfg: SamplerConfig
) -> dict[str, jax.Array]:
    """Images uint8 `[b h w 3]` -> boxes `[b top 4]` corners in [0, 1], scores, labels.

    See `select`; there are fewer than `cfg.top` where all slots and classes together are fewer.
    """
    fields = model.encode(images)
    if cfg.steps == 0:
        boxes, scores = proposals(fields.dense, model.shapes, cfg.slots)
    else:
        boxes, scores = sample(model, fields, key, cfg=cfg)
    boxes = jnp.clip(to_corners(boxes), 0, 1)
    candidates = max(300, boxes.shape[1])  # DiffusionDet's number, and more where steps are pooled
    return select(boxes, scores, top=cfg.top, threshold=cfg.nms, candidates=candidates)


def sample(model: COFNet, fields: Fields, key: jax.Array, *, cfg: SamplerConfig):
    """Boxes `[b n 4]` (centres) and class scores `[b n k]` after `cfg.steps` DDIM steps."""
    b, signal, n = fields.levels[0].shape[0], model.cfg.signal, cfg.slots
    learned = cfg.proposals == "learned"
    times = jnp.round(jnp.linspace(cfg.times - 1, -1, cfg.steps + 1)).astype(jnp.int32)
    if cfg.restart:
        times = jnp.full_like(times, cfg.times - 1)
    if learned:
        boxes, prior = proposals(fields.dense, model.shapes, n)
        origin = diffusion.encode(boxes, signal)
    else:
        origin, prior = jnp.zeros((b, n, 4)), None

    def fresh(key, t):  # the same for every image, whatever its row in the batch
        unit = jnp.broadcast_to(jax.random.normal(key, (n, 4)), (b, n, 4))
        return diffusion.q_sample(origin, unit, model.alpha_bar(t)) if learned else unit

    def step(x, inputs):
        t, t_next, key = inputs
        again, unit = jax.random.split(key)
        out = model.denoise(fields, x, jnp.full((b, n), t))
        boxes, scores = out.boxes[-1], nnx.sigmoid(out.logits[-1])
        if cfg.restart:
            return fresh(again, times[0]), (boxes, scores)
        now, then = model.alpha_bar(t), model.alpha_bar(t_next)
        x0 = diffusion.encode(boxes, signal)
        noise = jax.random.normal(unit, x.shape[1:]) if cfg.eta else None
        x = diffusion.ddim_step(x, x0, now, then, eta=cfg.eta, fresh=noise)
        if cfg.renewal:
            weak = scores.max(-1, keepdims=True) < cfg.renewal
            x = jnp.where(weak, fresh(again, t_next), x)
        return x, (boxes, scores)

    begin, each = jax.random.split(key)
    keys = jax.random.split(each, cfg.steps)
    _, (boxes, scores) = jax.lax.scan(step, fresh(begin, times[0]), (times[:-1], times[1:], keys))
    if learned and cfg.trust and not cfg.renewal:  # a renewed slot has left its proposal
        scores = scores ** (1 - cfg.trust) * prior[None] ** cfg.trust
    if not (cfg.ensemble or cfg.restart):
        return boxes[-1], scores[-1]
    merge = lambda x: jnp.moveaxis(x, 0, 1).reshape(b, cfg.steps * n, x.shape[-1])  # noqa: E731
    return merge(boxes), merge(scores)
