"""`jaxvision.cofnet.csf.ContinuousScaleField` in PyTorch, on maps `[b h w c]`."""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch_backbone import Conv

from jaxvision.cofnet import csf


def fourier_features(x, bands):
    angles = x[..., None] * (torch.pi * 2.0 ** torch.arange(bands))
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class Siren(nn.ModuleList):
    def __init__(self, inputs, width, layers=2, w0=3.0):
        super().__init__(nn.Linear(width if i else inputs, width) for i in range(layers))
        self.w0 = w0

    def forward(self, x):
        for i, layer in enumerate(self):
            x = torch.sin(layer(x) * (1.0 if i else self.w0))
        return x


class Pyramid(nn.Module):
    def __init__(self, dims, width):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.smooth = nn.ModuleList(Conv(width, width, 3) for _ in dims)

    def forward(self, features):
        maps = [f(x) for f, x in zip(self.lateral, features, strict=True)]
        for i in range(len(maps) - 2, -1, -1):
            finer = maps[i + 1].repeat_interleave(2, 1).repeat_interleave(2, 2)
            maps[i] = maps[i] + finer
        return [f(x) for f, x in zip(self.smooth, maps, strict=True)]


class ContinuousScaleField(nn.Module):
    def __init__(self, dims, width, bands=6):
        super().__init__()
        self.pyramid = Pyramid(dims, width)
        self.encoder = Siren(2 * bands, width)
        self.level_logits = nn.Linear(width, len(dims))
        self.film = nn.Linear(width, 2 * width)
        self.bands = bands

    def levels(self, features):
        return self.pyramid(features)

    def blend(self, values, scales):
        """`values` of each level `[* c]`, `scales` of as many axes as `*` (or one)."""
        embedding = self.encoder(fourier_features(scales[..., None], self.bands))
        count = len(values)
        distance = scales[..., None] * (count - 1) - torch.arange(count)
        sharpness = csf.ContinuousScaleField.sharpness
        weights = (self.level_logits(embedding) - sharpness * distance**2).softmax(-1)
        mixed = values[0] * weights[..., 0, None]
        for i, value in enumerate(values[1:], 1):
            mixed = torch.addcmul(mixed, value, weights[..., i, None])
        gain, offset = self.film(embedding).chunk(2, -1)
        return torch.addcmul(offset, F.layer_norm(mixed, mixed.shape[-1:], eps=1e-6), 1 + gain)

    def query(self, levels, points, scales):
        """`points [b q p 2]`, `scales [b q p]` -> `[b q p width]`."""
        sample = functools.partial(F.grid_sample, padding_mode="border", align_corners=False)
        values = [sample(level.permute(0, 3, 1, 2), points * 2 - 1) for level in levels]
        return self.blend([value.permute(0, 2, 3, 1) for value in values], scales)

    def grid(self, levels, index):
        values = [resize(level, levels[index].shape[1:3]) for level in levels]
        return self.blend(values, torch.full((1,), index / max(len(levels) - 1, 1)))


def resize(level, hw):
    h = level.shape[1]
    if h == hw[0]:
        return level
    if h < hw[0]:
        x = F.interpolate(level.permute(0, 3, 1, 2), hw, mode="bilinear", align_corners=False)
        return x.permute(0, 2, 3, 1)
    k = h // hw[0]
    rows = level[:, k // 2 - 1 :: k] + level[:, k // 2 :: k]
    return (rows[:, :, k // 2 - 1 :: k] + rows[:, :, k // 2 :: k]) / 4
