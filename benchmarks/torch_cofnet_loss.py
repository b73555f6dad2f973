"""`jaxvision.cofnet.loss.detection_loss` in PyTorch, with the "iou" assigner."""

import functools
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch_cofnet import COFNet, box_scale

from jaxvision.cofnet import dense, diffusion
from jaxvision.cofnet.loss import LossConfig
from jaxvision.cofnet.slots import attention_mask
from jaxvision.losses.boxes import EPSILON


class Draws(NamedTuple):
    """Times `[b n]`, first objects `[b 1]`, placeholder boxes `[b rest 4]`, noise `[b n 4]`."""

    t: torch.Tensor
    begin: torch.Tensor
    boxes: torch.Tensor
    noise: torch.Tensor


class Slots(NamedTuple):
    """What the denoiser starts from: state, times, clean state, ᾱ, rows of the aligned objects."""

    x: torch.Tensor
    t: torch.Tensor
    x0: torch.Tensor
    alpha_bar: torch.Tensor
    rows: torch.Tensor


def draw(cfg: LossConfig, batch: int) -> Draws:
    slots = cfg.slots
    learned, others = torch.rand(2, batch, 1)
    is_learned = torch.from_numpy(slots.kinds == 1)
    share = torch.where(is_learned, learned * slots.start, others**slots.skew)
    t = (share * diffusion.STEPS).clamp(max=diffusion.STEPS - 1).long()
    boxes = torch.randn(batch, int((slots.kinds == 2).sum()), 4) / 6 + 0.5
    boxes[..., 2:].clamp_(min=1e-2)
    return Draws(t, torch.rand(batch, 1), boxes, torch.randn(batch, slots.count, 4))


def detection_loss(model: COFNet, batch, draws: Draws, cfg: LossConfig):
    """The loss and its parts."""
    if cfg.slots.assigner != "iou":
        raise ValueError(f"assigner {cfg.slots.assigner!r} is not written in PyTorch, only 'iou'")
    levels, head = model.encode(batch["image"])
    dense_class, dense_box = dense_loss(head, model, batch)
    slots = starting_boxes(model, head, batch, draws, cfg.slots)
    boxes, logits = model.denoise(levels, slots.x, slots.t, mask_of(cfg.slots))
    refined, parts = refine_loss(boxes, logits, slots, batch, cfg, model.cfg.signal)
    loss = cfg.dense * (cfg.classification * dense_class + dense_box) + cfg.refine * refined
    return loss, {"dense_class": dense_class, "dense_box": dense_box, **parts}


@functools.cache
def mask_of(slots):
    return torch.from_numpy(attention_mask(slots))


def rows_of(x, index):
    """`x [b m c]` at rows `index [b n]`: `[b n c]`."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


@functools.cache
def alpha_bars(name):
    return torch.from_numpy(diffusion.schedule(name))


@torch.no_grad()
def starting_boxes(model, head, batch, draws, cfg) -> Slots:
    valid, signal = batch["valid"], model.cfg.signal
    order = (~valid).to(torch.uint8).argsort(dim=1, stable=True)
    number = valid.sum(1, keepdim=True).clamp(min=1)
    turn = torch.arange(cfg.n_aligned) + (draws.begin * number).long()
    rows = order.gather(1, turn % number)
    learned = proposals(head, model.shapes, max(cfg.n_learned, 1))[:, : cfg.n_learned]
    boxes = torch.cat([rows_of(batch["boxes"], rows), learned, draws.boxes], 1)
    x0 = (boxes * 2 - 1) * signal
    alpha_bar = alpha_bars(model.cfg.schedule)[draws.t][..., None]
    x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * draws.noise
    return Slots(x.clamp(-signal, signal), draws.t, x0, alpha_bar, rows)


def proposals(head, shapes, count):
    best, start, strength = head["logits"].amax(-1).sigmoid(), 0, []
    for h, w in shapes:
        level = best[:, start : start + h * w].view(-1, 1, h, w)
        around = F.max_pool2d(level, 3, stride=1, padding=1)
        strength.append(torch.where(level >= around, level, 0).flatten(1))
        start += h * w
    return rows_of(head["boxes"], torch.cat(strength, 1).topk(count).indices)


def to_corners(boxes):
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def overlap_of(a, b):
    """Intersection and union of corner boxes."""
    size = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    intersection = size.clamp(min=0).prod(-1)
    areas = [(x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b)]
    return intersection, areas[0] + areas[1] - intersection


def iou(a, b):
    intersection, union = overlap_of(a, b)
    return intersection / (union + EPSILON)


def box_loss(predicted, target):
    a, b = to_corners(predicted), to_corners(target)
    intersection, union = overlap_of(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = hull.prod(-1)
    giou = intersection / (union + EPSILON) - (hull - union) / (hull + EPSILON)
    return 5 * (predicted - target).abs().sum(-1) + 2 * (1 - giou)


def quality_focal_loss(logits, quality):
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).square() * entropy


@functools.cache
def cells(shapes):
    """Centre, stride `[p 2]` and level `[p]` of every cell."""
    centers = np.concatenate([dense.cell_centers(h, w) for h, w in shapes])
    stride = np.concatenate([np.tile([[1 / w, 1 / h]], (h * w, 1)) for h, w in shapes])
    level = np.concatenate([np.full(h * w, i) for i, (h, w) in enumerate(shapes)])
    return tuple(torch.from_numpy(x.astype(np.float32)) for x in (centers, stride, level))


def dense_loss(head, model, batch):
    """Class and box losses; unlike XLA, PyTorch may compute those of the positive cells alone."""
    owner, positive, counted = dense_targets(batch, tuple(model.shapes), model.cfg.size)
    image, cell = positive.nonzero(as_tuple=True)
    objects = owner[image, cell]
    predicted, target = head["boxes"][image, cell], batch["boxes"][image, objects]
    with torch.no_grad():
        targets = torch.zeros_like(head["logits"])
        overlap = iou(to_corners(predicted), to_corners(target)).clamp(min=0.1)
        targets[image, cell, batch["labels"][image, objects]] = overlap
    count = max(len(image), 1)
    classification = quality_focal_loss(head["logits"], targets).sum(-1)
    regression = box_loss(predicted, target).sum() / count
    return torch.where(counted, classification, 0).sum() / count, regression


@torch.no_grad()
def dense_targets(batch, shapes, canvas):
    """Object of each cell, whether it has one, and whether it counts: `[b p]` each."""
    centers, stride, level = cells(shapes)
    boxes = batch["boxes"]
    # Planes of x and y: an innermost axis of two is slow.
    x, y = ((centers[:, i, None] - boxes[:, None, :, i]).abs() for i in (0, 1))  # [b p m]
    reach = dense.RADIUS * stride[:, :, None]
    half = boxes[:, None, :, 2:] / 2
    own_level = box_scale(boxes[..., 2:], canvas, len(shapes)) * (len(shapes) - 1)
    suits = (own_level[:, None] - level[:, None]).abs() <= dense.BAND
    match = (x <= reach[:, 0]) & (y <= reach[:, 1]) & suits & batch["valid"][:, None]
    size = torch.where(match, (boxes[..., 2] * boxes[..., 3])[:, None], torch.inf)
    in_crowd = (x <= half[..., 0]) & (y <= half[..., 1]) & batch["crowd"][:, None]
    positive = match.any(-1)
    return size.argmin(-1), positive, positive | ~in_crowd.any(-1)


@torch.no_grad()
def in_crowd(boxes, objects, crowd):
    corners = to_corners(boxes)
    inside, _ = overlap_of(corners[:, :, None], objects[:, None])
    area = (corners[..., 2:] - corners[..., :2]).clamp(min=0).prod(-1)
    return ((inside / (area[..., None] + EPSILON) >= 0.5) & crowd[:, None]).any(-1)


def refine_loss(all_boxes, all_logits, slots, batch, cfg, signal):
    aligned = cfg.slots.n_aligned
    has_object = batch["valid"].any(1, keepdim=True).expand_as(slots.rows)
    objects = to_corners(batch["boxes"])
    box_total = class_total = 0
    for boxes, logits in zip(all_boxes, all_logits, strict=True):
        with torch.no_grad():
            pairs = iou(to_corners(boxes[:, aligned:])[:, :, None], objects[:, None])
            best, found = torch.where(batch["valid"][:, None], pairs, 0).max(-1)
            owner = torch.cat([slots.rows, found], 1)
            positive = torch.cat([has_object, best > cfg.slots.overlap], 1)
            target, label = rows_of(batch["boxes"], owner), batch["labels"].gather(1, owner)
            overlap = iou(to_corners(boxes), to_corners(target))
            quality = torch.where(positive & (overlap >= cfg.slots.overlap), overlap, 0)
            targets = quality[..., None] * F.one_hot(label, logits.shape[-1])
            count = positive.sum().clamp(min=1)
        box_total = box_total + torch.where(positive, box_loss(boxes, target), 0).sum() / count
        counted = positive | ~in_crowd(boxes, objects, batch["crowd"])
        focal = quality_focal_loss(logits, targets).sum(-1)
        class_total = class_total + torch.where(counted, focal, 0).sum() / count
    rounds = len(all_boxes)
    x0 = (all_boxes[-1][:, :aligned] * 2 - 1) * signal
    alpha_bar = slots.alpha_bar[:, :aligned]
    weight = (alpha_bar / (1 - alpha_bar)).clamp(max=cfg.min_snr)
    error = (weight * (x0 - slots.x0[:, :aligned]).square()).mean(-1)
    noise = torch.where(has_object, error, 0).sum() / has_object.sum().clamp(min=1)
    parts = {"box": box_total / rounds, "class": class_total / rounds, "noise": noise}
    return parts["box"] + cfg.classification * parts["class"] + cfg.noise * noise, parts
