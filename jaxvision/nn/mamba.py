"""Mamba's mixers over sequences `[b l c] -> [b l c]`, with the parameter names of checkpoints."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxvision_kernels import (
    BACKENDS,
    bidirectional_scan,
    causal_conv1d,
    selective_scan,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """Sizes of a Mamba mixer; the defaults are Mamba's (Gu and Dao 2023)."""

    state: int = 16
    conv: int = 4  # taps
    expand: int = 2
    rank: int | None = None  # of the steps delta; channels / 16, rounded up, if None
    backend: str = "auto"

    def __post_init__(self):
        for name in ("state", "conv", "expand"):
            if getattr(self, name) < 1:
                raise ValueError(f"mamba.{name}={getattr(self, name)} must be at least 1")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"mamba.rank={self.rank} must be at least 1, or None")
        if self.backend not in ("auto", *BACKENDS):
            raise ValueError(f"mamba.backend {self.backend!r} is none of {('auto', *BACKENDS)}")


class Conv1d(nnx.Module):
    """Depthwise convolution over time with SiLU; see `jaxvision_kernels.causal_conv1d`."""

    def __init__(self, channels: int, width: int, *, padding="causal", bias=True, rngs: nnx.Rngs):
        bound = width**-0.5
        draw = jax.random.uniform(rngs.params(), (width, channels), minval=-bound, maxval=bound)
        self.weight = nnx.Param(draw)
        self.bias = nnx.Param(jnp.zeros((channels,))) if bias else None
        self.padding = padding

    def __call__(self, x: jax.Array, **state) -> jax.Array:
        bias = None if self.bias is None else self.bias[...]
        options = dict(padding=self.padding, activation="silu", **state)
        return causal_conv1d(x, self.weight[...], bias, **options)


class Selection(nnx.Module):
    """What a channel's scan selects by: steps, B and C from x, and its own A.

    The bias of `dt_proj` is the scan's `delta_bias`.
    """

    def __init__(self, inner: int, rank: int, cfg: MambaConfig, *, dtype, rngs: nnx.Rngs):
        self.rank, self.state = rank, cfg.state
        linear = dict(dtype=dtype, rngs=rngs)
        self.x_proj = nnx.Linear(inner, rank + 2 * cfg.state, use_bias=False, **linear)
        self.dt_proj = nnx.Linear(rank, inner, **linear)
        bound = rank**-0.5
        kernel = jax.random.uniform(rngs.params(), (rank, inner), minval=-bound, maxval=bound)
        self.dt_proj.kernel[...] = kernel
        self.dt_proj.bias[...] = initial_steps(inner, rngs)
        self.A_log = nnx.Param(initial_decays(inner, cfg.state))

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """`[b l d]` -> what a scan takes; the bias of its steps comes apart, as `dt_proj.bias`."""
        dt, B, C = jnp.split(self.x_proj(x), (self.rank, self.rank + self.state), axis=-1)
        delta = dt @ self.dt_proj.kernel[...].astype(dt.dtype)
        return {"u": x, "delta": delta, "A": -jnp.exp(self.A_log[...]), "B": B, "C": C}


def initial_steps(channels: int, rngs: nnx.Rngs) -> jax.Array:
    """Biases whose softplus is log-uniform in [1e-3, 1e-1], as Mamba starts."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = jnp.exp(jax.random.uniform(rngs.params(), (channels,), minval=low, maxval=high))
    return step + jnp.log(-jnp.expm1(-step))


def initial_decays(channels: int, states: int) -> jax.Array:
    """`log(1 … n)` for every channel, `[d n]`: the logarithm of -A, as Mamba starts."""
    return jnp.tile(jnp.log(jnp.arange(1, states + 1, dtype=jnp.float32)), (channels, 1))


class MambaMixer(nnx.Module):
    """Mamba (Gu and Dao 2023, section 3.4): causal, with a state to carry on from."""

    def __init__(self, channels: int, cfg: MambaConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner = cfg.expand * channels
        self.cfg, self.inner = cfg, inner
        linear = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.in_proj = nnx.Linear(channels, 2 * inner, **linear)
        self.conv1d = Conv1d(inner, cfg.conv, rngs=rngs)
        self.ssm = Selection(inner, rank_of(channels, cfg), cfg, dtype=dtype, rngs=rngs)
        self.D = nnx.Param(jnp.ones((inner,)))
        self.out_proj = nnx.Linear(inner, channels, **linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.advance(x, self.initial(x.shape[0], x.dtype))[0]

    def initial(self, batch: int, dtype=jnp.float32) -> dict[str, jax.Array]:
        """The state before the first step."""
        conv = jnp.zeros((batch, self.cfg.conv - 1, self.inner), dtype)
        return {"conv": conv, "ssm": jnp.zeros((batch, self.inner, self.cfg.state), jnp.float32)}

    def advance(self, x: jax.Array, state: dict[str, jax.Array]) -> tuple[jax.Array, dict]:
        """Mixes the next steps `[b k c]`, one or many; returns them and the state after them."""
        x, z = jnp.split(self.in_proj(x), 2, axis=-1)
        x, conv = self.conv1d(x, initial_state=state["conv"], return_final_state=True)
        y, ssm = selective_scan(
            **self.ssm(x),
            D=self.D[...],
            z=z,
            delta_bias=self.ssm.dt_proj.bias[...],
            delta_softplus=True,
            h0=state["ssm"],
            return_last_state=True,
            backend=self.cfg.backend,
        )
        return self.out_proj(y), {"conv": conv, "ssm": ssm}


class BiMambaMixer(nnx.Module):
    """Vision Mamba (Zhu et al. 2024, algorithm 1): a scan from each end, of their own weights."""

    def __init__(self, channels: int, cfg: MambaConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner, rank = cfg.expand * channels, rank_of(channels, cfg)
        self.cfg = cfg
        linear = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.in_proj = nnx.Linear(channels, 2 * inner, **linear)
        self.conv1d = Conv1d(inner, cfg.conv, rngs=rngs)
        self.conv1d_b = Conv1d(inner, cfg.conv, padding="anticausal", rngs=rngs)
        self.ssm = Selection(inner, rank, cfg, dtype=dtype, rngs=rngs)
        self.ssm_b = Selection(inner, rank, cfg, dtype=dtype, rngs=rngs)
        self.D = nnx.Param(jnp.ones((inner,)))
        self.D_b = nnx.Param(jnp.ones((inner,)))
        self.out_proj = nnx.Linear(inner, channels, **linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        x, z = jnp.split(self.in_proj(x), 2, axis=-1)
        backward = self.ssm_b(self.conv1d_b(x))
        backward |= {"D": self.D_b[...], "delta_bias": self.ssm_b.dt_proj.bias[...]}
        y = bidirectional_scan(
            **self.ssm(self.conv1d(x)),
            D=self.D[...],
            z=z,
            delta_bias=self.ssm.dt_proj.bias[...],
            delta_softplus=True,
            backward=backward,
            backend=self.cfg.backend,
        )
        return self.out_proj(y)


class MambaVisionMixer(nnx.Module):
    """MambaVision (Hatamizadeh and Kautz 2024, section 3.2): half scanned, half convolved.

    As its public checkpoints have it: convolutions without bias that see both sides, and the bias
    of `dt_proj` counted twice, in the projection and in the scan.
    """

    def __init__(self, channels: int, cfg: MambaConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        inner = cfg.expand * channels
        if inner % 2:
            raise ValueError(f"MambaVisionMixer: {inner} inner channels do not split in halves")
        self.cfg = cfg
        linear = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.in_proj = nnx.Linear(channels, inner, **linear)
        conv = dict(padding="centred", bias=False, rngs=rngs)
        self.conv1d_x = Conv1d(inner // 2, cfg.conv, **conv)
        self.conv1d_z = Conv1d(inner // 2, cfg.conv, **conv)
        self.ssm = Selection(inner // 2, rank_of(channels, cfg), cfg, dtype=dtype, rngs=rngs)
        self.D = nnx.Param(jnp.ones((inner // 2,)))
        self.out_proj = nnx.Linear(inner, channels, **linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        x, z = jnp.split(self.in_proj(x), 2, axis=-1)
        x, z = self.conv1d_x(x), self.conv1d_z(z)
        y = selective_scan(
            **self.ssm(x),
            D=self.D[...],
            delta_bias=2 * self.ssm.dt_proj.bias[...],
            delta_softplus=True,
            backend=self.cfg.backend,
        )
        return self.out_proj(jnp.concatenate([y, z], axis=-1))


def rank_of(channels: int, cfg: MambaConfig) -> int:
    return math.ceil(channels / 16) if cfg.rank is None else cfg.rank
