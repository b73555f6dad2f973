"""`jaxvision.cofnet.model` in PyTorch: x0 objective, continuous scale field, float32.

`train_step.py` compares the two and checks that they are the same function. Where PyTorch is faster
in another form than a translation, it has that form: one projection for query, key and value,
`scaled_dot_product_attention`, `grid_sample`.
"""

import functools
import math
import re
from collections.abc import Mapping

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch_backbone import Backbone, Conv, Gelu, LayerNorm, ScanMixer
from torch_csf import ContinuousScaleField, fourier_features

from jaxvision.cofnet import dense, diffusion, refiner
from jaxvision.cofnet.model import MEAN, STD, CofnetConfig
from jaxvision.stage import path_name


def box_scale(sizes, canvas, levels):
    pixels = (sizes[..., 0] * canvas[1] * sizes[..., 1] * canvas[0]).clamp(min=1e-6).sqrt()
    return ((pixels / (4 * dense.BASE)).log2() / max(levels - 1, 1)).clamp(0, 1)


class DenseHead(nn.Module):
    def __init__(self, width, classes, tower):
        super().__init__()
        layers = []
        for _ in range(tower):
            layers += [Conv(width, width, 3), LayerNorm(width), Gelu()]
        self.tower = nn.Sequential(*layers, nn.Linear(width, width), Gelu())
        self.classes, self.boxes = nn.Linear(width, classes), nn.Linear(width, 4)

    def forward(self, levels):
        logits, boxes = [], []
        for level in levels:
            h, w = level.shape[1:3]
            x = self.tower(level).flatten(1, 2)
            logits.append(self.classes(x))
            stride, delta = torch.tensor([1 / w, 1 / h]), self.boxes(x)
            center = torch.from_numpy(dense.cell_centers(h, w)) + delta[..., :2] * stride
            size = dense.BASE * stride * delta[..., 2:].clamp(-3, 3).exp()
            boxes.append(torch.cat([center, size], -1))
        return {"logits": torch.cat(logits, 1), "boxes": torch.cat(boxes, 1)}


class RegionAttention(nn.Module):
    def __init__(self, width, points, heads):
        super().__init__()
        linear = functools.partial(nn.Linear, width, width)
        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()
        self.position = nn.Parameter(torch.empty(points, width))
        self.heads = heads

    def forward(self, slots, region, context):
        b, n, width = slots.shape
        split = functools.partial(torch.unflatten, dim=-1, sizes=(self.heads, -1))
        q = split(self.query(slots)) * (width // self.heads) ** -0.5
        own = region + self.position
        own_k, own_v = split(self.key(own)), split(self.value(own))
        all_k, all_v = split(self.key(context)), split(self.value(context))
        near = torch.einsum("bnhd,bnphd->bnhp", q, own_k)
        weights = torch.cat([near, torch.einsum("bnhd,bchd->bnhc", q, all_k)], -1).softmax(-1)
        near, far = weights.split([region.shape[2], context.shape[1]], -1)
        mixed = torch.einsum("bnhp,bnphd->bnhd", near, own_v)
        mixed = mixed + torch.einsum("bnhc,bchd->bnhd", far, all_v)
        return self.out(mixed.reshape(b, n, width))


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, x, mask):
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, mask)  # [b h n d]
        return self.out(mixed.transpose(1, 2).reshape(b, n, width))


class RefinerHead(nn.Module):
    def __init__(self, width, classes, points, bands=6):
        super().__init__()
        mlp = lambda a, b: nn.Sequential(nn.Linear(a, b), Gelu(), nn.Linear(b, width))  # noqa: E731
        heads = max(width // 32, 1)
        self.embed = mlp(8 * bands, width)
        self.time = nn.Linear(width, 2 * width)
        self.read = mlp(points**2 * width, 2 * width)
        self.cross = RegionAttention(width, points**2, heads)
        self.self_attention = SelfAttention(width, heads)
        self.mlp = mlp(width, 2 * width)
        self.norms = nn.ModuleList(LayerNorm(width) for _ in range(4))
        self.delta, self.classes = nn.Linear(width, 4), nn.Linear(width, classes)
        self.points, self.bands = points, bands

    def forward(self, slots, boxes, spread, time, neck, levels, context, canvas, mask):
        region = self.look(boxes, spread, neck, levels, canvas)  # [b n p d]
        embedded = self.embed(fourier_features(boxes * 2 - 1, self.bands))
        slots = embedded if slots is None else slots + embedded
        gain, offset = self.time(time).chunk(2, -1)
        slots = slots * (1 + gain) + offset + self.read(region.flatten(2))
        slots = slots + self.cross(self.norms[0](slots), region, context)
        slots = slots + self.self_attention(self.norms[1](slots), mask)
        slots = slots + self.mlp(self.norms[2](slots))
        out = self.norms[3](slots)
        return slots, self.delta(out), self.classes(out)

    def look(self, boxes, spread, neck, levels, canvas):
        steps = (torch.arange(self.points) + 0.5) / self.points - 0.5
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2)
        view = (boxes[..., 2:] * refiner.MARGIN).clamp(min=refiner.MIN_VIEW) + 4 * spread
        points = boxes[..., None, :2] + grid * view[..., None, :]  # [b n p 2]
        scale = box_scale(view / refiner.MARGIN, canvas, len(levels))
        return neck.query(levels, points, scale[..., None].expand(points.shape[:-1]))


class Refiner(nn.Module):
    def __init__(self, width, classes, rounds, points):
        super().__init__()
        self.heads = nn.ModuleList(RefinerHead(width, classes, points) for _ in range(rounds))
        linear = functools.partial(nn.Linear, width, width)
        self.time = nn.Sequential(linear(), Gelu(), linear(), Gelu())
        self.context = linear()
        self.width = width

    def forward(self, boxes, spread, t, neck, levels, canvas, mask):
        half = self.width // 2
        angles = t[..., None] * torch.exp(torch.arange(half) * (-math.log(1e4) / half))
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        context = self.context(levels[-1].flatten(1, 2))
        slots, all_boxes, all_logits = None, [], []
        for head in self.heads:
            read = (spread, time, neck, levels, context, canvas, mask)
            slots, delta, logits = head(slots, boxes, *read)
            moved = move(boxes, delta, spread)
            all_boxes.append(moved)
            all_logits.append(logits)
            boxes, spread = moved.detach(), spread * refiner.LEFT
        return all_boxes, all_logits


def move(boxes, delta, spread):
    reach = boxes[..., 2:].clamp(min=refiner.REACH) + 2 * spread
    center = boxes[..., :2] + delta[..., :2].tanh() * reach
    size = boxes[..., 2:] * delta[..., 2:].clamp(-2, 2).exp()
    return torch.cat([center.clamp(0, 1), size.clamp(2e-3, 1)], -1)


class COFNet(nn.Module):
    """`scan(a, x)` solves h[t] = a[t] h[t-1] + x[t] over axis 1 of `[b l n d]`."""

    def __init__(self, cfg: CofnetConfig, *, scan, layout=torch.channels_last):
        super().__init__()
        wrong = {"neck": "csf", "objective": "x0", "dtype": "float32"}
        if any(getattr(cfg, k) != v for k, v in wrong.items()) or cfg.dtype != "float32":
            raise ValueError(f"the PyTorch COFNet knows only {wrong}; the config is {cfg}")
        self.cfg = cfg
        self.backbone = Backbone(cfg.backbone)
        self.neck = ContinuousScaleField(cfg.backbone.dims, cfg.width)
        self.dense = DenseHead(cfg.width, cfg.classes, cfg.tower)
        self.refiner = Refiner(cfg.width, cfg.classes, cfg.rounds, cfg.points)
        self.shapes = [
            tuple(x // (4 * 2**i) for x in cfg.size) for i in range(len(cfg.backbone.dims))
        ]
        for module in self.modules():
            if isinstance(module, ScanMixer):
                module.scan = scan
            if isinstance(module, Conv):
                module.layout = layout
                module.to(memory_format=layout)

    def encode(self, images):
        """uint8 `[b h w 3]` -> neck levels, dense output."""
        pixels = (images.float() / 255 - torch.from_numpy(MEAN)) / torch.from_numpy(STD)
        levels = self.neck.levels(self.backbone(pixels))
        return levels, self.dense([self.neck.grid(levels, i) for i in range(len(levels))])

    def denoise(self, levels, x, t, mask):
        """State `x [b n 4]`, times `t [b n]` -> every round's boxes and logits."""
        signal = self.cfg.signal
        boxes = (x.clamp(-signal, signal) / signal + 1) / 2
        boxes = torch.cat([boxes[..., :2], boxes[..., 2:].clamp(min=diffusion.MIN_SIZE)], -1)
        alpha_bar = torch.from_numpy(diffusion.schedule(self.cfg.schedule))[t.long()]
        spread = (1 - alpha_bar).sqrt()[..., None] / (2 * signal)
        return self.refiner(boxes, spread, t, self.neck, levels, self.cfg.size, mask)


def convert(params: Mapping) -> dict[str, torch.Tensor]:
    """jaxvision's COFNet parameters (or gradients) under PyTorch's names and in its layouts."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    arrays = {path_name(path): np.array(x) for path, x in leaves}
    for name in [n for n in arrays if "self_attention/query" in n]:
        parts = [arrays.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        rows = parts[0].shape[:1] if name.endswith("kernel") else ()
        parts = [x.reshape(*rows, -1) for x in parts]
        arrays[name.replace("query", "qkv")] = np.concatenate(parts, -1)
    state = {}
    for name, x in arrays.items():
        if name.endswith("self_attention/out/kernel"):
            x = x.reshape(-1, x.shape[-1])
        if name.endswith("/kernel"):
            axes = {2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}[x.ndim]
            x = x.transpose(axes)[:, None] if x.ndim == 3 else x.transpose(axes)
        name = re.sub("/(kernel|scale)$", "/weight", name).replace("/layers/", "/")
        state[name.replace("/", ".")] = torch.tensor(np.ascontiguousarray(x))
    return state
