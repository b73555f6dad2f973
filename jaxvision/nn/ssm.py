"""State-space mixers over maps."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxvision_kernels import (
    BACKENDS,
    SCAN_ORDERS,
    check_order,
    selective_scan,
    to_grid,
    to_sequence,
)

from jaxvision.nn.conv import DepthwiseConv
from jaxvision.nn.mamba import initial_decays, initial_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Selective scan over a map, in `orders`, which are `jaxvision_kernels.scan_order` names."""

    state: int = 16
    expand: int = 2
    orders: tuple[str, ...] = ("row", "column", "row_reversed", "column_reversed")
    backend: str = "auto"

    def __post_init__(self):
        for name in ("state", "expand"):
            if getattr(self, name) < 1:
                raise ValueError(f"scan.{name}={getattr(self, name)} must be at least 1")
        if not self.orders:
            raise ValueError(f"scan.orders is empty; name some of {SCAN_ORDERS}")
        for name in self.orders:
            check_order(name)
        if self.backend not in ("auto", *BACKENDS):
            raise ValueError(f"scan.backend {self.backend!r} is none of {('auto', *BACKENDS)}")


def to_orders(x: jax.Array, orders: tuple[str, ...]) -> jax.Array:
    """Lays the channel groups of a map out in one order each: `[b h w g c] -> [b (h w) g c]`."""
    groups = [to_sequence(x[:, :, :, i], name) for i, name in enumerate(orders)]
    return jnp.stack(groups, axis=2)


def from_orders(x: jax.Array, orders: tuple[str, ...], hw: tuple[int, int]) -> jax.Array:
    """The inverse of `to_orders`: `[b (h w) g c] -> [b h w g c]`."""
    groups = [to_grid(x[:, :, i], name, *hw) for i, name in enumerate(orders)]
    return jnp.stack(groups, axis=3)


class ScanMixer(nnx.Module):
    """Mamba mixer over a map: `[b h w c] -> [b h w c]`.

    Gu and Dao 2023, section 3.4, with a centred depthwise convolution and several scan orders
    (Liu et al. 2024, VMamba, section 4.3). The inner channels are split among the orders, so that
    every position hears from every direction at the cost of one scan.
    """

    def __init__(self, channels: int, cfg: ScanConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner, groups = cfg.expand * channels, len(cfg.orders)
        if inner % groups:
            raise ValueError(f"{inner} inner channels do not split among scan orders {cfg.orders}")
        self.cfg, self.rank, self.dtype = cfg, math.ceil(channels / 16), dtype
        self.project_in = nnx.Linear(channels, 2 * inner, use_bias=False, dtype=dtype, rngs=rngs)
        self.conv = DepthwiseConv(inner, 3, dtype=dtype, rngs=rngs)
        self.project_scan = nnx.Linear(
            inner, groups * (self.rank + 2 * cfg.state), use_bias=False, dtype=dtype, rngs=rngs
        )
        width = inner // groups
        bound = self.rank**-0.5
        self.delta_kernel = nnx.Param(
            jax.random.uniform(
                rngs.params(), (groups, self.rank, width), minval=-bound, maxval=bound
            )
        )
        self.delta_bias = nnx.Param(initial_steps(inner, rngs))
        self.log_decay = nnx.Param(initial_decays(inner, cfg.state))
        self.skip = nnx.Param(jnp.ones((inner,)))
        self.project_out = nnx.Linear(inner, channels, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, _ = x.shape
        orders, state, groups = self.cfg.orders, self.cfg.state, len(self.cfg.orders)
        values, gate = jnp.split(self.project_in(x), 2, axis=-1)
        values = nnx.silu(self.conv(values))
        inner = values.shape[-1]
        scan_inputs = self.project_scan(values).reshape(b, h, w, groups, -1)
        tokens = jnp.concatenate([values.reshape(b, h, w, groups, -1), scan_inputs], axis=-1)
        tokens = to_orders(tokens, orders)
        splits = (inner // groups, inner // groups + self.rank, inner // groups + self.rank + state)
        u, delta, B, C = jnp.split(tokens, splits, axis=-1)
        delta = jnp.einsum("blgr,grd->blgd", delta, self.delta_kernel[...].astype(delta.dtype))
        y = selective_scan(
            u.reshape(b, h * w, inner),
            delta.reshape(b, h * w, inner),
            -jnp.exp(self.log_decay[...]),
            B,
            C,
            self.skip[...],
            delta_bias=self.delta_bias[...],
            delta_softplus=True,
            backend=self.cfg.backend,
        )
        y = from_orders(y.reshape(b, h * w, groups, -1), orders, (h, w)).reshape(b, h, w, inner)
        return self.project_out(y.astype(self.dtype) * nnx.silu(gate))


class CrossScanMixer(nnx.Module):
    """VMamba's mixer over a map: every channel is scanned in every order.

    Liu et al. 2024 (arXiv 2401.10166, section 4.2, SS2D). Each order selects by weights of its own,
    and the scans are summed. It costs a scan an order, where `ScanMixer` costs one in all. Orders
    that end in `_reversed` are scanned from the end, without a flip.
    """

    def __init__(self, channels: int, cfg: ScanConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner, orders = cfg.expand * channels, len(cfg.orders)
        self.cfg, self.rank, self.dtype = cfg, math.ceil(channels / 16), dtype
        linear = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.project_in = nnx.Linear(channels, 2 * inner, **linear)
        self.conv = DepthwiseConv(inner, 3, dtype=dtype, rngs=rngs)
        self.project_scan = nnx.Linear(inner, orders * (self.rank + 2 * cfg.state), **linear)
        bound = self.rank**-0.5
        shape = (orders, self.rank, inner)
        draw = jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
        self.delta_kernel = nnx.Param(draw)
        self.delta_bias = nnx.Param(initial_steps(orders * inner, rngs).reshape(orders, inner))
        decays = initial_decays(inner, cfg.state)
        self.log_decay = nnx.Param(jnp.tile(decays, (orders, 1, 1)))
        self.skip = nnx.Param(jnp.ones((orders, inner)))
        self.norm = nnx.LayerNorm(inner, dtype=dtype, rngs=rngs)
        self.project_out = nnx.Linear(inner, channels, **linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        h, w = x.shape[1:3]
        values, gate = jnp.split(self.project_in(x), 2, axis=-1)
        values = nnx.silu(self.conv(values))
        selected = jnp.split(self.project_scan(values), len(self.cfg.orders), axis=-1)
        y = 0.0
        for i, order in enumerate(self.cfg.orders):
            base = order.removesuffix("_reversed")
            u = to_sequence(values, base)
            splits = (self.rank, self.rank + self.cfg.state)
            delta, B, C = jnp.split(to_sequence(selected[i], base), splits, axis=-1)
            scanned = selective_scan(
                u,
                delta @ self.delta_kernel[i].astype(delta.dtype),
                -jnp.exp(self.log_decay[i]),
                B,
                C,
                self.skip[i],
                delta_bias=self.delta_bias[i],
                delta_softplus=True,
                reverse=order != base,
                backend=self.cfg.backend,
            )
            y = y + to_grid(scanned, base, h, w).astype(jnp.float32)
        return self.project_out(self.norm(y.astype(self.dtype)) * nnx.silu(gate))
