"""The kernels of `pallas_scan` for NVIDIA GPUs by Triton.

Triton wants sizes of powers of two and no indexing of values: hence the masks, and the Python loops
over a few steps. JAX intends to drop this backend; all that depends on it is here.
"""

import functools
import operator
import warnings

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxvision_kernels import pallas_scan
from jaxvision_kernels.pallas_kernels import Program
from jaxvision_kernels.pallas_scan import Backend, Options, Problem, Tiling, splits_for

# Newer JAX says so at every lowering; the README of this package says it once.
warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)


def scan(x: dict, *, tiling: Tiling | None = None, interpret: bool = False, **options):
    """As `pallas_scan.run`, on Triton; `options` are the others of `Options`."""
    if jnp.iscomplexobj(x["A"]):
        raise ValueError("backend='pallas' has no complex A; backend='xla' has")
    backend = Backend("dn", pl.next_power_of_2, choose, call, shares, lambda problem, x: x)
    options = Options(tiling=tiling, interpret=interpret, backend=backend, **options)
    return pallas_scan.run(x, options)


def choose(b: int, length: int, d: int, n: int) -> Tiling:
    """A tiling that gives a large GPU enough to do without more registers than it has."""
    padded = pl.next_power_of_2(n)
    channels = max(1, min(32, 512 // padded, pl.next_power_of_2(d)))
    splits = splits_for(b * -(-d // channels), length, wanted=512)
    return Tiling(channels=channels, inner=4, splits=splits)


def shares(problem: Problem, b: int) -> tuple[int, ...]:
    return b, problem.groups * problem.blocks, problem.length, problem.states


def call(kernel, problem: Problem, inputs: dict, outputs: dict) -> dict:
    def body(*refs):
        at = tuple(pl.program_id(i) for i in range(3))
        kernel(TritonProgram(problem, dict(zip((*inputs, *outputs), refs, strict=True)), at))

    tiling, interpret = problem.tiling, problem.options.interpret
    params = plgpu.CompilerParams(num_warps=tiling.warps, num_stages=1)
    b = next(iter(outputs.values())).shape[0]
    out = pl.pallas_call(
        body,
        out_shape=tuple(outputs.values()),
        grid=(b, problem.groups * problem.blocks, tiling.splits),
        interpret=interpret,
        name=kernel.__name__,
        compiler_params=None if interpret else params,
    )(*inputs.values())
    return dict(zip(outputs, out, strict=True))


class TritonProgram(Program):
    """Tiles are arrays `[p n]` of powers of two; channels past the end of a group are masked."""

    def __init__(self, problem, refs, at):
        super().__init__(problem, refs, at)
        channels = problem.tiling.channels
        self.rows = pl.ds(self.group * problem.width + self.first, channels)
        self.real = True
        if problem.width % channels:
            self.real = self.first + jnp.arange(channels) < problem.width  # [p]
        self.shape = (channels, problem.states)
        self.read_constants()

    def read_tile(self, name, *at):
        ref = self.refs[name].at[(*at, self.rows, slice(None))]
        return _load(ref, self._tile_mask()).astype(jnp.float32)

    def write_tile(self, name, tile, *at, live=True):
        ref = self.refs[name].at[(*at, self.rows, slice(None))]
        plgpu.store(ref, tile, mask=self._tile_mask(live))

    def _tile_mask(self, live=True):
        return _all(self.real if self.real is True else self.real[:, None], live)

    def read_row(self, name):
        return _load(self.refs[name].at[self.rows], _all(self.real)).astype(jnp.float32)

    def write_row(self, name, row, *at, live=True):
        ref = self.refs[name].at[(*at, self.rows)]
        plgpu.store(ref, row.astype(self.refs[name].dtype), mask=_all(self.real, live))

    def read_step(self, name, t, live):
        return _load(self.refs[name].at[self.batch, t, self.rows], _all(self.real, live))

    def read_weight(self, name, t, live):
        ref = self.refs[name]
        group = self.group // (self.problem.groups // ref.shape[2])
        return _load(ref.at[self.batch, t, group], _all(live))

    def read_keep(self, t):
        return plgpu.load(self.refs["keep"].at[self.batch, t])

    def as_weight(self, weight):
        return weight.astype(jnp.float32)[None, :]

    def zero_row(self):
        return jnp.zeros(self.shape[:1], jnp.float32)

    def zeros(self):
        return jnp.zeros(self.shape, jnp.float32)

    def column(self, row):
        return row[:, None]

    def exp2(self, tile):
        return jnp.exp2(tile)

    def where(self, true, tile):
        return jnp.where(true, tile, 0.0)

    def over_states(self, tile):
        return jnp.sum(tile, axis=1)

    def put_share(self, name, k, share, x):
        ref = self.refs["d" + name].at[self.batch, self.block, x["t"]]
        plgpu.store(ref, jnp.sum(share, axis=0), mask=_all(x["live"]))

    def finish_shares(self, first):
        pass  # `put_share` has written them

    def wait(self):
        if not self.problem.options.interpret:
            plgpu.debug_barrier()


def _all(*masks):
    """Where all are true; None, which costs nothing, if that is everywhere."""
    masks = [x for x in masks if x is not True]
    return functools.reduce(operator.and_, masks) if masks else None


def _load(ref, mask):
    return plgpu.load(ref, mask=mask, other=None if mask is None else 0.0)
