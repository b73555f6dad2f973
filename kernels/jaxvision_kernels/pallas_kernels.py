"""The bodies of the kernels in `pallas_triton`: what one program does, step by step."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

LOG2E = math.log2(math.e)
TIMED = ("u", "delta", "z", "dy")  # what is read as a row of channels at each step


class Program:
    """What one program reads and writes: rows of its channels `[p]`, states `[p n]`."""

    def __init__(self, problem, refs: dict):
        tiling = problem.tiling
        self.problem, self.refs = problem, refs
        self.batch, self.block, self.split = (pl.program_id(i) for i in range(3))
        self.group, block = self.block // problem.blocks, self.block % problem.blocks
        first = block * tiling.channels
        self.rows = pl.ds(self.group * problem.width + first, tiling.channels)
        self.real = first + jnp.arange(tiling.channels) < problem.width  # [p]
        padded = pl.next_power_of_2(problem.states)
        # Past the end where n is no power of two, and masked there: newer JAX refuses such a slice
        # from a start that it knows.
        self.columns = pl.ds(0 * self.block, padded)
        self.weights = jnp.arange(padded) < problem.states  # [n]
        self.tile = self.real[:, None] & self.weights[None, :]
        self.shape = (tiling.channels, padded)
        self.A = self.read_tile("A")
        self.A2 = self.A * LOG2E
        self.bias = self.read_row("bias") if "bias" in refs else None
        self.D = self.read_row("D") if "D" in refs else None
        self.fixed = {k: self.read_tile(k) for k in "BC" if k in refs and refs[k].ndim == 2}

    def read_tile(self, name, *at):
        ref = self.refs[name].at[(*at, self.rows, self.columns)]
        return plgpu.load(ref, mask=self.tile, other=0.0).astype(jnp.float32)

    def write_tile(self, name, value, *at, live=True):
        ref = self.refs[name].at[(*at, self.rows, self.columns)]
        plgpu.store(ref, value, mask=self.tile & live)

    def read_row(self, name, *at, live=True):
        ref = self.refs[name].at[(*at, self.rows)]
        return plgpu.load(ref, mask=self.real & live, other=0.0).astype(jnp.float32)

    def write_row(self, name, value, *at, live=True):
        ref = self.refs[name].at[(*at, self.rows)]
        plgpu.store(ref, value.astype(self.refs[name].dtype), mask=self.real & live)

    def several(self, first, names):
        return [self.load(first + k, names) for k in range(self.problem.tiling.inner)]

    def load(self, index, names):
        """What the scan's `index`-th step of all reads, as it lies in memory, and where.

        Steps are loaded some at a time, before they are used, so that one wait is for all.
        """
        problem = self.problem
        live = index < problem.length
        t = jnp.minimum(index, problem.length - 1)
        t = problem.length - 1 - t if problem.options.reverse else t
        x = {"t": t, "live": live}
        for k in names:
            if k in self.refs and k not in self.fixed:
                x[k] = self._row(k, t, live) if k in TIMED else self._weight(k, t, live)
        if "keep" in self.refs:
            x["keep"] = plgpu.load(self.refs["keep"].at[self.batch, t], mask=live, other=1.0)
        return x

    def _row(self, name, t, live):
        ref = self.refs[name].at[self.batch, t, self.rows]
        return plgpu.load(ref, mask=self.real & live, other=0.0)

    def _weight(self, name, t, live):
        ref = self.refs[name]
        group = self.group // (self.problem.groups // ref.shape[2])
        ref = ref.at[self.batch, t, group, self.columns]
        return plgpu.load(ref, mask=self.weights & live, other=0.0)

    def ready(self, x):
        """A loaded step in float32: rows, weights `[1 n]` or `[p n]`, and `dt`, `x = dt u`."""
        y = {k: v.astype(jnp.float32) for k, v in x.items() if k in TIMED}
        y |= {k: x[k].astype(jnp.float32)[None, :] for k in "BC" if k in x} | self.fixed
        y |= {k: x[k] for k in ("t", "live", "keep") if k in x}
        dt = y["delta"] if self.bias is None else y["delta"] + self.bias
        y["before"] = dt  # the softplus
        y["dt"] = jnp.where(x["live"], _softplus(dt) if self.problem.options.softplus else dt, 0.0)
        if "u" in y:
            y["x"] = y["dt"] * y["u"]
        return y

    def decayed(self, h, x):
        """`exp(dt A) h`, 0 where a segment begins. Cheaper taken again than held in registers."""
        decayed = jnp.exp2(x["dt"][:, None] * self.A2) * h
        return jnp.where(x["keep"] > 0, decayed, 0.0) if "keep" in x else decayed

    def advance(self, h, x):
        return self.decayed(h, x) + x["x"][:, None] * x["B"]

    def start(self, chunk):
        """The index of the first step of a chunk of this split."""
        return (self.split * self.problem.chunks + chunk) * self.problem.tiling.outer


def _softplus(x):
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def advance_kernel(problem, refs):
    """The end of a split from a start of zeros."""
    program, tiling = Program(problem, refs), problem.tiling

    def some(i, h):
        for x in program.several(program.start(0) + i * tiling.inner, ("u", "delta", "B")):
            h = program.advance(h, program.ready(x))
        return h

    runs = problem.chunks * tiling.outer // tiling.inner
    h = lax.fori_loop(0, runs, some, jnp.zeros(program.shape, jnp.float32))
    program.write_tile("last", h, program.batch, program.split)


def forward_kernel(problem, refs):
    program, tiling = Program(problem, refs), problem.tiling

    def chunk(c, h):
        if "states" in refs:
            whole = program.split * problem.chunks + c
            live = whole < problem.kept
            at = program.batch, jnp.minimum(whole, problem.kept - 1)
            program.write_tile("states", h, *at, live=live)

        def some(i, h):
            first = program.start(c) + i * tiling.inner
            names = ("u", "delta", "B", "C", "z")
            for x in map(program.ready, program.several(first, names)):
                h = program.advance(h, x)
                y = jnp.sum(h * x["C"], axis=1)
                y = y if program.D is None else y + program.D * x["u"]
                y = y * (x["z"] * jax.nn.sigmoid(x["z"])) if "z" in x else y
                program.write_row("y", y, program.batch, x["t"], live=x["live"])
            return h

        return lax.fori_loop(0, tiling.outer // tiling.inner, some, h)

    h = program.read_tile("h0", program.batch, program.split)
    h = lax.fori_loop(0, problem.chunks, chunk, h)
    program.write_tile("last", h, program.batch, program.split)


def retreat_kernel(problem, refs):
    """What reaches the start of a split of the gradients of its own outputs."""
    program, tiling = Program(problem, refs), problem.tiling
    runs = problem.chunks * tiling.outer // tiling.inner

    def some(i, ahead):
        first = program.start(0) + (runs - 1 - i) * tiling.inner
        for x in map(program.ready, program.several(first, ("delta", "C", "z", "dy"))[::-1]):
            dy = x["dy"] * (x["z"] * jax.nn.sigmoid(x["z"])) if "z" in x else x["dy"]
            ahead = program.decayed(ahead + dy[:, None] * x["C"], x)
        return ahead

    ahead = lax.fori_loop(0, runs, some, jnp.zeros(program.shape, jnp.float32))
    program.write_tile("dh0", ahead, program.batch, program.split)


def backward_kernel(problem, refs):
    program, tiling = Program(problem, refs), problem.tiling
    batch, split = program.batch, program.split
    runs = tiling.outer // tiling.inner
    zeros = jnp.zeros(program.shape, jnp.float32)

    def undo(carry, steps, before):
        """Undoes `steps` from the last; `before` are the decayed states `a[t] h[t-1]`."""
        for x, decayed in zip(reversed(steps), reversed(before), strict=True):
            x = program.ready(x)
            at = batch, x["t"]
            h = decayed + x["x"][:, None] * x["B"]
            dy, skip = x["dy"], 0.0
            if "z" in x:
                y = jnp.sum(h * x["C"], axis=1)
                y = y if program.D is None else y + program.D * x["u"]
                s = jax.nn.sigmoid(x["z"])
                dz = dy * y * s * (1 + x["z"] * (1 - s))
                program.write_row("dz", dz, *at, live=x["live"])
                dy = dy * x["z"] * s
            if program.D is not None:
                skip = program.D * dy
                carry["dD"] = carry["dD"] + dy * x["u"]
            g = dy[:, None] * x["C"] + carry["ahead"]
            decayed_g = g * decayed
            dx = jnp.sum(g * x["B"], axis=1)
            ddelta = x["u"] * dx + jnp.sum(decayed_g * program.A, axis=1)
            if problem.options.softplus:
                ddelta = ddelta * jax.nn.sigmoid(x["before"])
            ddelta = jnp.where(x["live"], ddelta, 0.0)
            program.write_row("du", x["dt"] * dx + skip, *at, live=x["live"])
            program.write_row("ddelta", ddelta, *at, live=x["live"])
            if program.bias is not None:
                carry["dbias"] = carry["dbias"] + ddelta
            carry["dA"] = carry["dA"] + decayed_g * x["dt"][:, None]
            carry = weight("B", carry, g * x["x"][:, None], x)
            carry = weight("C", carry, h * dy[:, None], x)
            carry["ahead"] = program.decayed(g, x)
        return carry

    def weight(name, carry, share, x):
        if name in program.fixed:
            return carry | {"d" + name: carry["d" + name] + share}
        ref = refs["d" + name].at[batch, program.block, x["t"], program.columns]
        mask = program.weights & x["live"]
        plgpu.store(ref, jnp.sum(share, axis=0), mask=mask)
        return carry

    def some(c, i, h, carry):
        first = program.start(c) + i * tiling.inner
        names = ("u", "delta", "B", "C", "z", "dy")
        steps, before = program.several(first, names), []
        for x in map(program.ready, steps):
            before.append(program.decayed(h, x))
            h = before[-1] + x["x"][:, None] * x["B"]
        return undo(carry, steps, before)

    def chunk(c, carry):
        c = problem.chunks - 1 - c
        whole = split * problem.chunks + c  # past the end, steps leave any state as it is
        h = program.read_tile("states", batch, jnp.minimum(whole, problem.kept - 1))
        if runs == 1:
            return some(c, jnp.int32(0), h, carry)

        def redo(i, h):
            program.write_tile("scratch", h, batch, split, i)
            for x in program.several(program.start(c) + i * tiling.inner, ("u", "delta", "B")):
                h = program.advance(h, program.ready(x))
            return h

        h = lax.fori_loop(0, runs - 1, redo, h)
        program.write_tile(
            "scratch", h, batch, split, jnp.int32(runs - 1)
        )  # a Python int it refuses
        _wait(problem)

        def back(i, carry):
            i = runs - 1 - i
            return some(c, i, program.read_tile("scratch", batch, split, i), carry)

        carry = lax.fori_loop(0, runs, back, carry)
        _wait(problem)  # before the next chunk writes over what this one reads
        return carry

    carry = {"ahead": program.read_tile("dlast", batch, split), "dA": zeros}
    rows = jnp.zeros(program.shape[:1], jnp.float32)
    carry |= {k: rows for k in ("dD", "dbias") if k in refs}
    carry |= {"d" + k: zeros for k in program.fixed}
    carry = lax.fori_loop(0, problem.chunks, chunk, carry)
    program.write_tile("dh0", carry.pop("ahead"), batch, split)
    for name, value in carry.items():
        write = program.write_row if value.ndim == 1 else program.write_tile
        write(name, value, batch, split)


def _wait(problem):
    if not problem.options.interpret:
        plgpu.debug_barrier()
