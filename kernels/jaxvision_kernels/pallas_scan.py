"""The selective scan by Pallas kernels, whichever backend of Pallas compiles them.

A program walks over time with the states of a few channels in registers: a state never goes to
memory but once in `Tiling.outer` steps. Step size, softplus, skip and gate are part of it, so u,
delta, B, C, z are read once and y is written once.

The backward pass (Gu and Dao 2023, section 3.3.2, recompute instead of store) starts from a kept
state, redoes `outer` steps to leave a state in scratch memory at every `inner`, then goes back
through these: it redoes `inner` steps with their states in registers, and undoes them. Gradients of
B and C are sums over channels; every program writes its own, and XLA adds them: no atomics, so the
same numbers each time.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels.layout import group_count
from jaxvision_kernels.operands import step_sizes
from jaxvision_kernels.pallas_kernels import (
    advance_kernel,
    backward_kernel,
    forward_kernel,
    retreat_kernel,
)
from jaxvision_kernels.partitioned import partitioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a scan is cut up: channels of a program, steps, warps."""

    channels: int = 32
    inner: int = 8
    outer: int = 64
    warps: int = 4
    splits: int = 1  # parts of the sequence, scanned side by side

    def __post_init__(self):
        for name in ("channels", "inner", "outer", "warps"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise ValueError(f"Tiling.{name}={value} must be a power of two")
        if self.outer % self.inner:
            raise ValueError(f"Tiling.outer={self.outer} is no multiple of inner={self.inner}")
        if self.splits < 1:
            raise ValueError(f"Tiling.splits={self.splits} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a scan is asked for, besides its operands."""

    softplus: bool
    reverse: bool
    dtype: jnp.dtype  # of y
    tiling: Tiling | None  # chosen from the shapes, on each device its own, if None
    interpret: bool
    backend: "Backend"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What a kernel is compiled for, besides shapes."""

    options: Options
    tiling: Tiling
    length: int
    states: int
    groups: int  # of channels that share B and C
    width: int  # channels of a group

    @property
    def blocks(self) -> int:
        """Programs that share the channels of a group."""
        return -(-self.width // self.tiling.channels)

    @property
    def chunks(self) -> int:
        """Runs of `outer` steps in one split."""
        return -(-self.length // (self.tiling.outer * self.tiling.splits))

    @property
    def kept(self) -> int:
        """States that the forward pass keeps: one a chunk, whatever the splits."""
        return -(-self.length // self.tiling.outer)

    @property
    def steps(self) -> int:
        """Steps of all programs of a row: the length, and what the last chunks have beyond it."""
        return self.tiling.splits * self.chunks * self.tiling.outer

    @property
    def exact(self) -> bool:
        """Whether there is no step beyond the length."""
        return self.steps == self.length

    @classmethod
    def of(cls, options: Options, x: dict) -> "Problem":
        b, length, d = x["u"].shape
        n = x["A"].shape[options.backend.tile.index("n")]
        groups = group_count(x["B"], x["C"])
        tiling = options.tiling or options.backend.choose(b, length, d, n)
        sizes = dict(length=length, states=n, groups=groups, width=d // groups)
        return cls(options=options, tiling=tiling, **sizes)


@dataclasses.dataclass(frozen=True)
class Backend:
    """What the scan needs to know of the backend of Pallas that its kernels run on."""

    tile: str  # the order in which it keeps channels and states: "dn" or "nd"
    states: Callable[[int], int]  # how many it computes for n: those beyond stay zero
    choose: Callable[[int, int, int, int], Tiling]  # by b, l, d, n
    # Runs a kernel over [b, groups blocks, splits] programs on whole arrays, by their names:
    # (kernel, problem, inputs, shapes of outputs) -> outputs
    call: Callable[[Callable, Problem, dict, dict], dict]
    # The gradient of a weight as its kernel leaves it: its shape, by problem and batch, and its
    # form `[b blocks l n]`, by problem and array
    shares: Callable[[Problem, int], tuple[int, ...]]
    by_step: Callable[[Problem, jax.Array], jax.Array]
    by_shards: bool = True  # whether it can run within `partitioned`

    def to_tile(self, x: jax.Array) -> jax.Array:
        """`[… d n]` to the backend's order, and back."""
        return x if self.tile == "dn" else jnp.swapaxes(x, -1, -2)


def run(x: dict, options: Options) -> tuple[jax.Array, jax.Array]:
    """y `[b l d]` and the last state `[b d n]`.

    x has the arguments of `selective_scan`, checked, by name, but `bias` for `delta_bias`, and
    `keep` `[b l]` of `segments.kept`.
    """
    x = {k: v for k, v in x.items() if v is not None}
    for k in "BC":
        x[k] = x[k][:, :, None] if x[k].ndim == 3 else x[k]
    for k in ("A", "D", "bias", "h0"):
        x |= {k: x[k].astype(jnp.float32)} if k in x else {}
    x.setdefault("h0", jnp.zeros((x["u"].shape[0], *x["A"].shape), jnp.float32))
    n = x["A"].shape[1]
    beyond = options.backend.states(n) - n
    if beyond:  # no input reaches these states, and no output sees them
        x |= {
            k: jnp.pad(x[k], [(0, 0)] * (x[k].ndim - 1) + [(0, beyond)])
            for k in ("A", "B", "C", "h0")
        }
    to_tile = options.backend.to_tile
    x |= {k: to_tile(x[k]) for k in ("A", "h0")}
    x |= {k: to_tile(x[k]) for k in "BC" if x[k].ndim == 2}
    y, last = _scan(options, x)
    return y, to_tile(last)[..., :n]


def splits_for(programs: int, length: int, wanted: int) -> int:
    """Parts to cut a sequence in, so that there are about as many programs as wanted."""
    splits = 1
    while programs * splits < wanted and length >= 512 * splits:
        splits *= 2
    return splits


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(options, x):
    outputs = "bld", "b" + options.backend.tile
    return _sharded(functools.partial(_forward, options), options, x, outputs)


def _scan_forward(options, x):
    keeping = functools.partial(_forward, options, keep_states=True)
    tile = options.backend.tile
    y, last, states = _sharded(keeping, options, x, ("bld", "b" + tile, "bc" + tile))
    return (y, last), x | {"states": states}


def _scan_backward(options, residuals, cotangents):
    x = residuals | dict(zip(("dy", "dlast"), cotangents, strict=True))
    names = [k for k in residuals if k not in ("states", "keep")]
    backward = functools.partial(_backward, options, names)
    letters = _letters(x, options.backend.tile)
    grads = _sharded(backward, options, x, tuple(letters[k] for k in names))
    nothing = {k: None for k in residuals if k == "keep"}
    grads = {k: g.astype(residuals[k].dtype) for k, g in zip(names, grads, strict=True)}
    return (grads | nothing,)


_scan.defvjp(_scan_forward, _scan_backward)


def _letters(x: dict, tile: str) -> dict[str, str]:
    """The axes of the operands, for `partitioned`."""
    letters = {"A": tile, "D": "d", "bias": "d", "keep": "bl", "states": "bc" + tile}
    letters |= {k: "bld" for k in ("u", "delta", "z", "dy")}
    letters |= {k: "b" + tile for k in ("h0", "dlast")}
    letters |= {k: tile if x[k].ndim == 2 else f"bl{g}n" for k, g in (("B", "g"), ("C", "k"))}
    return {k: letters[k] for k in x}


def _sharded(function, options, x: dict, outputs: tuple[str, ...]):
    """`function` of the dict `x`, on each device's shards."""
    names = sorted(x, key=lambda k: k != "u")  # u first

    def by_name(*arrays):
        return function(dict(zip(names, arrays, strict=True)))

    if options.backend.by_shards:
        letters = _letters(x, options.backend.tile)
        by_name = partitioned(by_name, [letters[k] for k in names], outputs)
    return by_name(*(x[k] for k in names))


def _forward(options, x, *, keep_states=False):
    problem = Problem.of(options, x)
    call, (b, *tile) = options.backend.call, x["h0"].shape
    splits = problem.tiling.splits
    inputs = {k: v for k, v in x.items() if k != "h0"}
    starts = x["h0"][:, None]
    each = jax.ShapeDtypeStruct((b, splits, *tile), jnp.float32)
    if splits > 1:  # the end of each split from a start of zeros, then its true start
        ends = call(advance_kernel, problem, inputs, {"last": each})["last"]
        starts = _join(_decays(problem, x), ends, x["h0"], forward=True)
    outputs = {"y": jax.ShapeDtypeStruct(x["u"].shape, options.dtype), "last": each}
    if keep_states:
        outputs["states"] = jax.ShapeDtypeStruct((b, problem.kept, *tile), jnp.float32)
    out = call(forward_kernel, problem, inputs | {"h0": starts}, outputs)
    y = out["y"], out["last"][:, -1]
    return (*y, out["states"]) if keep_states else y


def _backward(options, names, x):
    """The gradients of the operands `names`; sums in float32, for shards to add theirs."""
    problem = Problem.of(options, x)
    backend, tiling, splits = options.backend, problem.tiling, problem.tiling.splits
    (b, _, d), tile = x["u"].shape, x["A"].shape
    inputs = {k: v for k, v in x.items() if k not in ("h0", "dlast")}
    ends = x["dlast"][:, None]
    each = jax.ShapeDtypeStruct((b, splits, *tile), jnp.float32)
    if splits > 1:
        starts = backend.call(retreat_kernel, problem, inputs, {"dh0": each})["dh0"]
        ends = _join(_decays(problem, x), starts, x["dlast"], forward=False)
    shares = jax.ShapeDtypeStruct(backend.shares(problem, b), jnp.float32)
    sums = jax.ShapeDtypeStruct((b, splits, d), jnp.float32)
    shapes = {
        k: jax.ShapeDtypeStruct(x[k].shape, x[k].dtype) for k in ("u", "delta", "z") if k in x
    }
    shapes |= {k: each if x[k].ndim == 2 else shares for k in "BC"}
    shapes |= {"A": each, "h0": each, "D": sums, "bias": sums}
    outputs = {"d" + k: shapes[k] for k in names}
    if tiling.outer > tiling.inner:
        shape = (b, splits, tiling.outer // tiling.inner, *tile)
        outputs["scratch"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    out = backend.call(backward_kernel, problem, inputs | {"dlast": ends}, outputs)

    def gradient(name):
        g = out["d" + name]
        if name == "h0":
            return g[:, 0]
        if name in "BC" and x[name].ndim == 4:
            g = backend.by_step(problem, g)  # [b blocks l n]
            g = g.reshape(b, x[name].shape[2], -1, *g.shape[2:]).sum(2).swapaxes(1, 2)
        elif name not in ("u", "delta", "z"):
            g = g.sum((0, 1))
        return g

    return tuple(map(gradient, names))


def _decays(problem, x):
    """How much of a tile survives each split: `exp(A sum dt)`, `[b s …]`; 0 past a clearing."""
    dt = step_sizes(x["delta"], x.get("bias"), problem.options.softplus)

    def by_split(x, value):
        x = x[:, ::-1] if problem.options.reverse else x
        steps = problem.chunks * problem.tiling.outer
        rest = problem.steps - x.shape[1]
        x = jnp.pad(x, ((0, 0), (0, rest), *((0, 0),) * (x.ndim - 2)), constant_values=value)
        return x.reshape(x.shape[0], -1, steps, *x.shape[2:])

    sums = by_split(dt, 0.0).sum(2)[..., None]  # [b s d 1]
    decays = jnp.exp(problem.options.backend.to_tile(sums) * x["A"])
    if "keep" in x:
        passes = by_split(x["keep"], 1.0).min(2)[..., None, None] > 0
        decays = jnp.where(passes, decays, 0.0)  # chosen: what is not finite stays in its segment
    return decays


def _join(decays, ends, first, *, forward):
    """Every split's h, `[b s …]`: `h[s+1] = decays[s] h[s] + ends[s]`, and `first` to begin with.

    Not `forward`: from the last split down.
    """

    def step(h, x):
        decay, end = x
        return jnp.where(decay == 0, 0.0, decay * h) + end, h

    xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (decays, ends))
    _, h = lax.scan(step, first, xs, reverse=not forward)
    return jnp.swapaxes(h, 0, 1)
