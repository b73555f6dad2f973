"""Hydra's bidirectional mixers over sequences `[b l c] -> [b l c]`."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxvision_kernels import SSD_BACKENDS, quasiseparable_scan, shift, ssd

from jaxvision.nn.mamba import Conv1d, MambaConfig, initial_decays, initial_steps, rank_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class HydraConfig:
    """Sizes of a Hydra mixer; the defaults are those of its authors."""

    state: int = 64
    conv: int = 7  # taps, centred
    expand: int = 2
    head: int = 64  # channels of a head
    groups: int = 1  # of heads that share B and C
    backend: str = "auto"

    def __post_init__(self):
        for name in ("state", "conv", "expand", "head", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.{name}={getattr(self, name)} must be at least 1")
        if self.backend not in ("auto", *SSD_BACKENDS):
            raise ValueError(f"hydra.backend {self.backend!r} is none of {('auto', *SSD_BACKENDS)}")


class HydraMixer(nnx.Module):
    """Hydra (Hwang et al. 2024, arXiv 2407.09941, section 3) on state space duality.

    Two scans, shifted by a step, fill the triangles beside the diagonal; the diagonal is `fc_D(x) +
    D`. Both share convolution, x, A and the steps' bias; B, C and the steps are each one's own.
    """

    def __init__(self, channels: int, cfg: HydraConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner = cfg.expand * channels
        if inner % cfg.head or inner // cfg.head % cfg.groups:
            raise ValueError(
                f"HydraMixer: {inner} inner channels do not split into heads of {cfg.head} in "
                f"{cfg.groups} groups"
            )
        self.cfg, self.heads = cfg, inner // cfg.head
        self.mixed = inner + 4 * cfg.groups * cfg.state  # x and both directions' B and C
        linear = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.in_proj = nnx.Linear(channels, inner + self.mixed + 2 * self.heads, **linear)
        self.conv1d = Conv1d(self.mixed, cfg.conv, padding="centred", rngs=rngs)
        self.dt_bias = nnx.Param(initial_steps(self.heads, rngs))
        decay = jax.random.uniform(rngs.params(), (self.heads,), minval=1.0, maxval=16.0)
        self.A_log = nnx.Param(jnp.log(decay))
        self.D = nnx.Param(jnp.ones((self.heads,)))
        self.fc_D = nnx.Linear(inner, self.heads, **linear)
        self.norm = nnx.RMSNorm(inner, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.out_proj = nnx.Linear(inner, channels, **linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        b, length, _ = x.shape
        cfg, heads = self.cfg, self.heads
        inner, width = heads * cfg.head, cfg.groups * cfg.state
        z, mixed, steps = jnp.split(self.in_proj(x), (inner, inner + self.mixed), axis=-1)
        mixed = self.conv1d(mixed)
        x, *weights = jnp.split(mixed, [inner + i * width for i in range(4)], axis=-1)
        weights = [w.reshape(b, length, cfg.groups, cfg.state) for w in weights]
        u = x.reshape(b, length, heads, cfg.head)
        A = -jnp.exp(self.A_log[...])
        shared = dict(delta_bias=self.dt_bias[...], delta_softplus=True, backend=cfg.backend)
        forward = ssd(u, steps[..., :heads], A, *weights[:2], **shared)
        back = ssd(u, steps[..., heads:], A, *weights[2:], **shared, reverse=True)
        diagonal = self.fc_D(x).astype(jnp.float32) + self.D[...]
        y = shift(forward, 1) + shift(back, -1) + diagonal[..., None].astype(u.dtype) * u
        y = self.norm(y.reshape(b, length, inner)) * nnx.silu(z)
        return self.out_proj(y)


class QuasiseparableMixer(nnx.Module):
    """Hydra's matrix from Mamba-1 scans: everything shared but B, C and the steps.

    `y = shift(forward) + shift(backward) + D x`, gated by SiLU(z), without a norm.
    """

    def __init__(self, channels: int, cfg: MambaConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner, rank = cfg.expand * channels, rank_of(channels, cfg)
        self.cfg = cfg
        linear = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.in_proj = nnx.Linear(channels, 2 * inner, **linear)
        self.conv1d = Conv1d(inner, cfg.conv, padding="centred", rngs=rngs)
        for end in ("f", "b"):
            x_proj = nnx.Linear(inner, rank + 2 * cfg.state, **linear)
            setattr(self, f"x_proj_{end}", x_proj)
            setattr(self, f"dt_proj_{end}", nnx.Linear(rank, inner, **linear))
        self.rank = rank
        self.A_log = nnx.Param(initial_decays(inner, cfg.state))
        self.dt_bias = nnx.Param(initial_steps(inner, rngs))
        self.D = nnx.Param(jnp.ones((inner,)))
        self.out_proj = nnx.Linear(inner, channels, **linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        x, z = jnp.split(self.in_proj(x), 2, axis=-1)
        x = self.conv1d(x)
        y = quasiseparable_scan(
            x,
            A=-jnp.exp(self.A_log[...]),
            D=self.D[...],
            z=z,
            delta_bias=self.dt_bias[...],
            delta_softplus=True,
            backward=self._select(x, self.x_proj_b, self.dt_proj_b),
            backend=self.cfg.backend,
            **self._select(x, self.x_proj_f, self.dt_proj_f),
        )
        return self.out_proj(y)

    def _select(self, x, x_proj, dt_proj):
        dt, B, C = jnp.split(x_proj(x), (self.rank, self.rank + self.cfg.state), axis=-1)
        return {"delta": dt_proj(dt), "B": B, "C": C}
