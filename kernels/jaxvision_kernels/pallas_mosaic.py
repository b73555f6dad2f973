"""The kernels of `pallas_scan` for NVIDIA GPUs by Mosaic: one thread a channel.

The 128 threads of a warpgroup each hold all states of one channel in registers, a state a vector
over the threads; so sums over states cost nothing. Sums over channels, which the gradients of B and
C are, go through shared memory: threads leave their shares of some steps there as rows, and read
them back in the layout in which a row lies within few threads.

Channels are padded to a multiple of 128, those of each group where B or C have groups. How many
registers Mosaic's compiler takes is not known: it runs on a machine with a GPU alone.
"""

import dataclasses
import functools
import inspect
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxvision_kernels import pallas_scan
from jaxvision_kernels.pallas_kernels import Program
from jaxvision_kernels.pallas_scan import Backend, Options, Problem, Tiling, splits_for
from jaxvision_kernels.selective_scan import MOST_STATES

CHANNELS = 128  # threads of a warpgroup
ROWS = 64  # of shared memory that are summed at once, at the least


def scan(x: dict, *, tiling: Tiling | None = None, interpret: bool = False, **options):
    """As `pallas_scan.run`, on Mosaic; `options` are the others of `Options`."""
    if jnp.iscomplexobj(x["A"]):
        raise ValueError("backend='mosaic' has no complex A; backend='xla' has")
    n = x["A"].shape[1]
    if n > MOST_STATES:
        raise ValueError(
            f"A has {n} states; backend='mosaic' keeps those of a channel in one thread's "
            f"registers, which hold {MOST_STATES}; use backend='pallas' or 'xla'"
        )
    # The interpreter has side effects, which a partitioned function may not have.
    backend = Backend("nd", lambda n: n, choose, call, shares, by_step, by_shards=not interpret)
    options = Options(tiling=tiling, interpret=interpret, backend=backend, **options)
    return pallas_scan.run(x, options)


def choose(b: int, length: int, d: int, n: int) -> Tiling:
    """A tiling that gives a large GPU enough to do, with 64 states of steps in registers."""
    inner = max(1, min(8, 64 // pl.next_power_of_2(n)))
    splits = splits_for(b * -(-d // CHANNELS), length, wanted=256)
    return Tiling(channels=CHANNELS, inner=inner, splits=splits)


def shares(problem: Problem, b: int) -> tuple[int, ...]:
    """`[b blocks runs rows]`: the rows of shared memory of each run of `inner` steps."""
    runs = problem.steps // problem.tiling.inner
    return b, problem.groups * problem.blocks, runs, share_rows(problem)


def share_rows(problem: Problem) -> int:
    return -(-problem.tiling.inner * problem.states // ROWS) * ROWS


def by_step(problem: Problem, x: jax.Array) -> jax.Array:
    """Those shares as `[b blocks l n]`."""
    inner, n = problem.tiling.inner, problem.states
    x = x[..., : inner * n].reshape(*x.shape[:2], -1, n)[:, :, : problem.length]
    return x[:, :, ::-1] if problem.options.reverse else x


def call(kernel, problem: Problem, inputs: dict, outputs: dict) -> dict:
    padded = -(-problem.width // CHANNELS) * CHANNELS
    wide = dataclasses.replace(problem, width=padded)
    timeless = ("keep", *(k for k in ("B", "C") if inputs[k].ndim == 4))
    whole = {*timeless, *("d" + k for k in timeless)}  # of no channels

    def pad(x):
        x = x.reshape(*x.shape[:-1], problem.groups, problem.width)
        x = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, padded - problem.width),))
        return x.reshape(*x.shape[:-2], -1)

    def cut(x):
        x = x.reshape(*x.shape[:-1], problem.groups, padded)[..., : problem.width]
        return x.reshape(*x.shape[:-2], -1)

    def shape_of(name, x):
        d = () if name in whole else (problem.groups * padded,)
        return jax.ShapeDtypeStruct((*x.shape[: len(x.shape) - len(d)], *d), x.dtype)

    names = (*inputs, *outputs)
    rows = [k for k in "BC" if "d" + k in outputs and "d" + k in whole]
    scratch = [plgpu.SMEM((share_rows(wide), CHANNELS), jnp.float32) for _ in rows]

    def body(*refs):
        refs, shared = refs[: len(names)], refs[len(names) :]
        at = tuple(map(lax.axis_index, ("row", "block", "split")))
        program = MosaicProgram(wide, dict(zip(names, refs, strict=True)), at)
        program.shared = dict(zip(rows, shared, strict=True))
        kernel(program)

    params = plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane)
    b = next(iter(outputs.values())).shape[0]
    run = plgpu.kernel(
        body,
        out_type=tuple(shape_of(k, x) for k, x in outputs.items()),
        grid=(b, wide.groups * wide.blocks, wide.tiling.splits),
        grid_names=("row", "block", "split"),
        scratch_types=scratch,
        compiler_params=params,
        kernel_name=kernel.__name__,
        interpret=interpreter() if problem.options.interpret else False,
    )
    out = run(*(x if k in whole else pad(x) for k, x in inputs.items()))
    return {k: x if k in whole else cut(x) for k, x in zip(outputs, out, strict=True)}


def interpreter():
    try:
        return plgpu.InterpretGPUParams()
    except AttributeError:  # JAX before 0.11 has no public name for it
        from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

        return InterpretGPUParams()


@jax.tree_util.register_pytree_node_class
class States:
    """A tile, or a weight, as one vector or scalar a state, with the arithmetic of an array."""

    def __init__(self, parts):
        self.parts = tuple(parts)

    def _each(self, other, f):
        others = other.parts if isinstance(other, States) else [other] * len(self.parts)
        return States(map(f, self.parts, others))

    def __add__(self, other):
        return self._each(other, operator.add)

    def __mul__(self, other):
        return self._each(other, operator.mul)

    __rmul__ = __mul__

    def tree_flatten(self):
        return self.parts, None

    @classmethod
    def tree_unflatten(cls, _, parts):
        return cls(parts)


class MosaicProgram(Program):
    """Tiles are `States`, of vectors over the threads; weights those of scalars."""

    shared: dict  # by weight, shared memory `[rows p]`

    def __init__(self, problem, refs, at):
        super().__init__(problem, refs, at)
        start = self.group * problem.width + self.first
        self.rows = pl.ds(pl.multiple_of(start, CHANNELS), CHANNELS)
        self.read_constants()

    def _states(self):
        return range(self.problem.states)

    def read_tile(self, name, *at):
        ref = self.refs[name]
        return States(ref[(*at, n, self.rows)].astype(jnp.float32) for n in self._states())

    def write_tile(self, name, tile, *at, live=True):
        @when(live)
        def write():
            for n in self._states():
                self.refs[name][(*at, n, self.rows)] = tile.parts[n]

    def read_row(self, name):
        return self.refs[name][self.rows].astype(jnp.float32)

    def write_row(self, name, row, *at, live=True):
        ref = self.refs[name]

        @when(live)
        def write():
            ref[(*at, self.rows)] = row.astype(ref.dtype)

    def read_step(self, name, t, live):
        x = self.refs[name][self.batch, t, self.rows]
        return x if live is True else select(live, x)

    def read_weight(self, name, t, live):
        ref = self.refs[name]
        group = self.group // (self.problem.groups // ref.shape[2])
        parts = [ref[self.batch, t, group, n] for n in self._states()]
        return States(x if live is True else select(live, x) for x in parts)

    def read_keep(self, t):
        return self.refs["keep"][self.batch, t]

    def as_weight(self, weight):
        return States(x.astype(jnp.float32) for x in weight.parts)

    def zero_row(self):
        zeros = jnp.zeros((CHANNELS,), jnp.float32)
        if self.problem.options.interpret:  # an older interpreter knows no layouts
            return zeros
        # A number to each thread, as rows that are read are: the type of a loop's carry.
        return plgpu.layout_cast(zeros, plgpu.Layout.WG_STRIDED((CHANNELS,), vec_size=1))

    def zeros(self):
        return States([self.zero_row()] * self.problem.states)

    def column(self, row):
        return row

    def exp2(self, tile):
        return States(map(jnp.exp2, tile.parts))

    def where(self, true, tile):
        return States(select(true, x) for x in tile.parts)

    def over_states(self, tile):
        return functools.reduce(operator.add, tile.parts)

    def log1p(self, x):
        # Mosaic has no log1p. Kahan: the error of rounding 1 + x cancels in the quotient.
        y = 1.0 + x
        return jnp.where(y == 1.0, x, x * jnp.log(y) / jnp.where(y == 1.0, 1.0, y - 1.0))

    def put_share(self, name, k, share, x):
        for n, part in enumerate(share.parts):
            self.shared[name][k * self.problem.states + n, :] = part

    def finish_shares(self, first):
        if not self.shared:
            return
        run = first // self.problem.tiling.inner
        self.wait()
        for name, ref in self.shared.items():
            self.refs["d" + name][self.batch, self.block, run, :] = self._row_sums(ref)
        self.wait()  # before the next steps write over what this reads

    def _row_sums(self, ref):
        if self.problem.options.interpret:
            return jnp.sum(ref[...], axis=1)
        return jnp.sum(load(ref, plgpu.Layout.WGMMA), axis=1)

    def wait(self):
        plgpu.commit_smem()


def load(ref, layout):
    options = dict(layout=layout, optimized=False)
    older = "idx" in inspect.signature(plgpu.load).parameters  # JAX before 0.11
    return plgpu.load(ref, (), **options) if older else plgpu.load(ref, **options)


def when(live):
    return (lambda f: f()) if live is True else pl.when(live)


def select(true, x):
    """x where the scalar `true` is, else zeros."""
    return jnp.where(true, x, jnp.zeros_like(x))
