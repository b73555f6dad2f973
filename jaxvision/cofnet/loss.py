"""COFNet's training loss: dense head and denoiser."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.cofnet import diffusion
from jaxvision.cofnet.dense import dense_loss, proposals
from jaxvision.cofnet.model import COFNet
from jaxvision.cofnet.slots import (
    SlotConfig,
    attention_mask,
    gaussian_boxes,
    in_crowd,
    match,
    quality,
    repeat_cyclically,
)
from jaxvision.losses.boxes import box_loss
from jaxvision.losses.classification import quality_focal_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the parts; with `refine` 0 the dense head learns alone.

    `noise` weighs the recipe's loss on ε, for aligned slots only, and `min_snr` caps its
    signal-to-noise weight (Hang et al. 2023, eq. 8); with the objective "eps" that loss is all
    there is, and weighs 1.
    """

    slots: SlotConfig = SlotConfig()
    dense: float = 1.0
    refine: float = 1.0
    classification: float = 2.0
    noise: float = 0.2
    min_snr: float = 5.0

    def __post_init__(self):
        for name in ("dense", "refine", "classification", "noise", "min_snr"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss.{name}={getattr(self, name)} must be 0 or more")


def detection_loss(model: COFNet, batch, rngs: nnx.Rngs, *, cfg: LossConfig):
    """The loss of a detection batch (see `jaxvision.data`), and its parts for the log."""
    fields = model.encode(batch["image"])
    dense_class, dense_box = dense_loss(fields.dense, model.shapes, model.cfg.size, batch)
    dense = cfg.dense * (cfg.classification * dense_class + dense_box)
    logs = {"dense_class": dense_class, "dense_box": dense_box}
    if not cfg.refine:
        return dense, logs
    state, start = starting_boxes(model, fields, batch, rngs.slots(), cfg.slots)
    out = model.denoise(fields, state["x"], state["t"], attention_mask(cfg.slots))
    refine = refine_loss if model.cfg.objective == "x0" else noise_loss
    refined, refine_logs = refine(model, out, state, start, batch, cfg)
    return dense + cfg.refine * refined, logs | refine_logs


def starting_boxes(model: COFNet, fields, batch, key: jax.Array, cfg: SlotConfig):
    """Noised training slots: the state (x, x0, noise, t, alpha_bar) and the aligned rows."""
    b, rest = batch["image"].shape[0], cfg.count - cfg.n_aligned - cfg.n_learned
    times, first, placeholder, unit = jax.random.split(key, 4)
    t = slot_times(times, b, cfg)
    rows = repeat_cyclically(batch["valid"], cfg.n_aligned, jax.random.uniform(first, (b, 1)))
    own = jnp.take_along_axis(batch["boxes"], rows[..., None], axis=1)
    learned, _ = proposals(fields.dense, model.shapes, max(cfg.n_learned, 1))
    boxes = jnp.concatenate(
        [own, learned[:, : cfg.n_learned], gaussian_boxes(placeholder, (b, rest))], axis=1
    )
    x0 = diffusion.encode(boxes, model.cfg.signal)
    noise = jax.random.normal(unit, x0.shape)
    alpha_bar = model.alpha_bar(t)
    x = diffusion.q_sample(x0, noise, alpha_bar)
    if model.cfg.objective == "x0":
        x = jnp.clip(x, -model.cfg.signal, model.cfg.signal)
    return {"x": x, "x0": x0, "noise": noise, "t": t, "alpha_bar": alpha_bar}, rows


def slot_times(key: jax.Array, batch: int, cfg: SlotConfig) -> jax.Array:
    """Integer times `[b n]`: of an image, one for the learned slots and one for the others."""
    learned, others = jax.random.uniform(key, (2, batch, 1))
    share = jnp.where(cfg.kinds == 1, learned * cfg.start, others**cfg.skew)
    return jnp.minimum(share * diffusion.STEPS, diffusion.STEPS - 1).astype(jnp.int32)


def refine_loss(model: COFNet, out, state, rows, batch, cfg: LossConfig):
    """Every round: boxes to their object, class scores to the IoU reached; and the noise loss."""
    aligned = cfg.slots.n_aligned
    has_object = jnp.broadcast_to(batch["valid"].any(1)[:, None], rows.shape)
    box_total = class_total = 0.0
    for boxes, logits in zip(out.boxes, out.logits, strict=True):
        found, hit = jax.lax.stop_gradient(
            match(
                cfg.slots.assigner,
                boxes[:, aligned:],
                logits[:, aligned:],
                batch,
                least=cfg.slots.overlap,
            )
        )
        owner = jnp.concatenate([rows, found], axis=1)
        positive = jnp.concatenate([has_object, hit], axis=1)
        target = jnp.take_along_axis(batch["boxes"], owner[..., None], axis=1)
        label = jnp.take_along_axis(batch["labels"], owner, axis=1)
        q = jnp.where(positive, quality(boxes, target, cfg.slots.overlap), 0)
        targets = q[..., None] * nnx.one_hot(label, logits.shape[-1])
        count = jnp.maximum(positive.sum(), 1)
        box_total += jnp.where(positive, box_loss(boxes, target), 0).sum() / count
        counted = positive | ~in_crowd(boxes, batch)
        focal = quality_focal_loss(logits, targets).sum(-1)
        class_total += jnp.where(counted, focal, 0).sum() / count
    rounds = len(out.boxes)
    x0 = diffusion.encode(out.boxes[-1][:, :aligned], model.cfg.signal)
    alpha_bar = state["alpha_bar"][:, :aligned]
    snr = alpha_bar / (1 - alpha_bar)
    # ε̂ - ε = √snr (x0 - x̂0), so that the min-SNR weight of the loss on ε is min(snr, cap) on x0.
    error = jnp.minimum(snr, cfg.min_snr) * (x0 - state["x0"][:, :aligned]) ** 2
    noise = jnp.where(has_object, error.mean(-1), 0).sum() / jnp.maximum(has_object.sum(), 1)
    loss = (box_total + cfg.classification * class_total) / rounds + cfg.noise * noise
    final = quality(out.boxes[-1], target, floor=0.0)
    mean_iou = jnp.where(positive[:, :aligned], final[:, :aligned], 0).sum()
    logs = {
        "box": box_total / rounds,
        "class": class_total / rounds,
        "noise": noise,
        "iou": mean_iou / jnp.maximum(positive[:, :aligned].sum(), 1),
    }
    return loss, logs


def noise_loss(model: COFNet, out, state, rows, batch, cfg: LossConfig):
    """Mean (ε̂ - ε)² over aligned slots (Ho et al. 2020, eq. 14); class scores by overlap."""
    aligned = cfg.slots.n_aligned
    has_object = batch["valid"].any(1)[:, None]
    error = ((out.noise - state["noise"])[:, :aligned] ** 2).mean(-1)
    noise = jnp.where(has_object, error, 0).sum() / jnp.maximum(has_object.sum() * aligned, 1)
    least = cfg.slots.overlap
    found, hit = jax.lax.stop_gradient(
        match("iou", out.boxes[0], out.logits[0], batch, least=least)
    )
    target = jnp.take_along_axis(batch["boxes"], found[..., None], axis=1)
    label = jnp.take_along_axis(batch["labels"], found, axis=1)
    q = jnp.where(hit, quality(out.boxes[0], target, least), 0)
    targets = q[..., None] * nnx.one_hot(label, out.logits[0].shape[-1])
    focal = quality_focal_loss(out.logits[0], targets).sum(-1)
    counted = hit | ~in_crowd(out.boxes[0], batch)
    classification = jnp.where(counted, focal, 0).sum() / jnp.maximum(hit.sum(), 1)
    loss = noise + cfg.classification * classification
    return loss, {"noise": noise, "class": classification}
