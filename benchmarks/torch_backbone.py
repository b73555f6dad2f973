"""`jaxvision.cofnet.backbone` in PyTorch, float32, on maps `[b h w c]`.

Where PyTorch is faster in another form than a translation, it has that form: scans over `[b l n
d]`, whose inner axis is long; one gather for all scan orders, with a gather as its gradient; a step
loop with a gradient of its own in place of autograd's tape. `Conv.layout` is what convolutions
compute in.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxvision_kernels import inverse_order, scan_order
from torch import nn

gelu = functools.partial(F.gelu, approximate="tanh")
Gelu = functools.partial(nn.GELU, approximate="tanh")
LayerNorm = functools.partial(nn.LayerNorm, eps=1e-6)


class Conv(nn.Conv2d):
    """Convolution of `[b h w c]`, 'same' padding as XLA places it: lopsided where it is odd."""

    layout = torch.channels_last

    def forward(self, x):
        total = self.kernel_size[0] - self.stride[0]
        if total % 2:
            x = F.pad(x, (0, 0, *(total // 2, total - total // 2) * 2))
        pad = 0 if total % 2 else total // 2
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        x = F.conv2d(x, self.weight, self.bias, self.stride, pad, 1, self.groups)
        return x.permute(0, 2, 3, 1)


class Reorder(torch.autograd.Function):
    """`x[:, order]`, whose gradient is the inverse gather."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.inverse = inverse
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(1, ctx.inverse), None, None


class StepLoop(torch.autograd.Function):
    """`h[t] = a[t] h[t-1] + x[t]` over axis 1, one fused operation a step, backward likewise."""

    @staticmethod
    def forward(ctx, a, x):
        h = torch.empty_like(x)
        a_t, x_t, h_t = a.unbind(1), x.unbind(1), h.unbind(1)
        h_t[0].copy_(x_t[0])
        for t in range(1, len(h_t)):
            torch.addcmul(x_t[t], a_t[t], h_t[t - 1], out=h_t[t])
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx, grad):
        a, h = ctx.saved_tensors
        grad = grad.clone(memory_format=torch.contiguous_format)
        a_t, g_t = a.unbind(1), grad.unbind(1)
        for t in range(len(g_t) - 2, -1, -1):
            g_t[t].addcmul_(a_t[t + 1], g_t[t + 1])
        grad_a = torch.zeros_like(a)
        torch.mul(grad[:, 1:], h[:, :-1], out=grad_a[:, 1:])
        return grad_a, grad


class ScanMixer(nn.Module):
    scan = StepLoop.apply

    def __init__(self, channels, cfg):
        super().__init__()
        inner, self.groups = cfg.expand * channels, len(cfg.orders)
        self.cfg, self.rank = cfg, math.ceil(channels / 16)
        self.project_in = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = Conv(inner, inner, 3, groups=inner)
        self.project_scan = nn.Linear(inner, self.groups * (self.rank + 2 * cfg.state), bias=False)
        self.delta_kernel = nn.Parameter(torch.empty(self.groups, self.rank, inner // self.groups))
        self.delta_bias = nn.Parameter(torch.empty(inner))
        self.log_decay = nn.Parameter(torch.empty(inner, cfg.state))
        self.skip = nn.Parameter(torch.empty(inner))
        self.project_out = nn.Linear(inner, channels, bias=False)

    @functools.cache  # noqa: B019
    def order(self, h, w):
        """Indices into `(l g)` that bring each group into its order, and those that undo it."""
        g = len(self.cfg.orders)
        maps = np.stack([scan_order(name, h, w) for name in self.cfg.orders], 1)  # [l g]
        back = np.stack([inverse_order(name, h, w) for name in self.cfg.orders], 1)
        return [
            torch.from_numpy((m * g + np.arange(g)).ravel().astype(np.int64)) for m in (maps, back)
        ]

    def forward(self, x):
        b, h, w, _ = x.shape
        g, n, length = self.groups, self.cfg.state, h * w
        order, inverse = self.order(h, w)
        values, gate = self.project_in(x).chunk(2, -1)
        values = F.silu(self.conv(values)).reshape(b, length, -1)
        scan_inputs = self.project_scan(values).view(b, length, g, -1)
        tokens = torch.cat([values.view(b, length, g, -1), scan_inputs], -1)
        tokens = Reorder.apply(tokens.flatten(1, 2), order, inverse).view(b, length, g, -1)
        u, delta, B, C = tokens.split([values.shape[-1] // g, self.rank, n, n], -1)
        delta = torch.einsum("blgr,grd->blgd", delta, self.delta_kernel).flatten(2)
        delta = F.softplus(delta + self.delta_bias)
        a = torch.exp(delta[:, :, None] * -self.log_decay.exp().T)  # [b l n (g d)]
        du = (delta * u.flatten(2)).view(b, length, 1, g, -1)
        B, C = (y.transpose(2, 3).contiguous()[..., None] for y in (B, C))  # [b l n g 1]
        state = self.scan(a, (du * B).flatten(3)).view(b, length, n, g, -1)
        y = (state * C).sum(2) + self.skip.view(g, -1) * u  # [b l g d]
        y = Reorder.apply(y.flatten(1, 2), inverse, order).view(b, h, w, -1)
        return self.project_out(y * F.silu(gate))


class ScanBlock(nn.Module):
    def __init__(self, channels, cfg):
        super().__init__()
        self.norm_mixer, self.norm_mlp = LayerNorm(channels), LayerNorm(channels)
        self.mixer = ScanMixer(channels, cfg.scan)
        self.mlp = nn.Module()
        self.mlp.widen = nn.Linear(channels, cfg.mlp * channels)
        self.mlp.conv = Conv(cfg.mlp * channels, cfg.mlp * channels, 3, groups=cfg.mlp * channels)
        self.mlp.narrow = nn.Linear(cfg.mlp * channels, channels)

    def forward(self, x):
        x = x + self.mixer(self.norm_mixer(x))
        wide = self.mlp.widen(self.norm_mlp(x))
        return x + self.mlp.narrow(gelu(wide + self.mlp.conv(wide)))


class ConvBlock(nn.Module):
    def __init__(self, channels, cfg):
        super().__init__()
        self.norm = LayerNorm(channels)
        self.first, self.second = Conv(channels, channels, 3), Conv(channels, channels, 3)

    def forward(self, x):
        return x + self.second(gelu(self.first(self.norm(x))))


class Backbone(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        dims, half = cfg.dims, cfg.dims[0] // 2
        halving = (Conv(3, half, 3, 2), LayerNorm(half), Gelu(), Conv(half, dims[0], 3, 2))
        self.stem = nn.Sequential(*halving) if cfg.stem == "conv" else Conv(3, dims[0], 4, 4)
        self.downs = nn.ModuleList(
            Conv(a, b, 2, 2) for a, b in zip(dims[:-1], dims[1:], strict=True)
        )
        blocks = {"scan": ScanBlock, "conv": ConvBlock}
        self.stages = nn.ModuleList(
            nn.Sequential(*[blocks[mixer](dim, cfg) for _ in range(depth)])
            for dim, depth, mixer in zip(dims, cfg.depths, cfg.mixers, strict=True)
        )
        self.norms = nn.ModuleList(LayerNorm(dim) for dim in dims)

    def forward(self, images):
        x, maps = self.stem(images), []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = stage(self.downs[i - 1](x) if i else x)
            maps.append(norm(x))
        return maps
