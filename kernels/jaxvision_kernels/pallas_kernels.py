"""The kernels of a selective scan in Pallas: what one program does, step by step.

They are written once for all of Pallas' backends: a `Program` of the backend reads, writes and
reduces, and holds states in a form of its own that adds and multiplies like an array.
"""

import abc
import math

import jax
import jax.numpy as jnp
from jax import lax

LOG2E = math.log2(math.e)
TIMED = ("u", "delta", "z", "dy")  # what is read as a row of channels at each step


class Program(abc.ABC):
    """A program's channels: rows `[p]` of them, and tiles, which are states `[p n]`.

    A backend's subclass says how they are read, written, multiplied and summed.
    """

    def __init__(self, problem, refs: dict, at):
        self.problem, self.refs = problem, refs
        self.batch, self.block, self.split = at
        self.group = self.block // problem.blocks
        self.first = self.block % problem.blocks * problem.tiling.channels  # within the group

    def read_constants(self):
        refs = self.refs
        self.A2 = self.read_tile("A") * LOG2E
        self.bias = self.read_row("bias") if "bias" in refs else None
        self.D = self.read_row("D") if "D" in refs else None
        self.fixed = {k: self.read_tile(k) for k in "BC" if k in refs and len(refs[k].shape) == 2}

    @abc.abstractmethod
    def read_tile(self, name, *at):
        """A tile of an array, at indices `at` of its leading axes, in float32."""

    @abc.abstractmethod
    def write_tile(self, name, tile, *at, live=True):
        """Writes a tile there, if the scalar `live` is."""

    @abc.abstractmethod
    def read_row(self, name):
        """A row of an array `[d]`, in float32."""

    @abc.abstractmethod
    def write_row(self, name, row, *at, live=True):
        """Writes a row, cast to the array's dtype, if live."""

    @abc.abstractmethod
    def read_step(self, name, t, live):
        """The row of step t as it lies in memory, zeros unless live."""

    @abc.abstractmethod
    def read_weight(self, name, t, live):
        """B or C of step t as it lies in memory, zeros unless live."""

    @abc.abstractmethod
    def read_keep(self, t):
        """Whether step t goes on from the one before: a scalar, 0 or 1."""

    @abc.abstractmethod
    def as_weight(self, weight):
        """What `read_weight` returned in float32, in a form that multiplies a tile."""

    @abc.abstractmethod
    def zero_row(self):
        """A row of zeros."""

    @abc.abstractmethod
    def zeros(self):
        """A tile of zeros."""

    @abc.abstractmethod
    def column(self, row):
        """A row in a form that multiplies a tile."""

    @abc.abstractmethod
    def exp2(self, tile):
        """2 to the power of each of a tile's numbers."""

    @abc.abstractmethod
    def where(self, true, tile):
        """The tile where the scalar `true` is, else zeros."""

    @abc.abstractmethod
    def over_states(self, tile):
        """The row of a tile's sums over its states."""

    @abc.abstractmethod
    def put_share(self, name, k, share, x):
        """Takes a tile whose sum over channels is a part of B's or C's gradient at step x.

        `k` is its place among the steps that `finish_shares` then completes.
        """

    @abc.abstractmethod
    def finish_shares(self, first):
        """Completes what `put_share` took of the steps from the scan's `first`-th of all."""

    @abc.abstractmethod
    def wait(self):
        """Until all threads of the program have written what they write."""

    def several(self, first, names):
        return [self.load(first + k, names) for k in range(self.problem.tiling.inner)]

    def load(self, index, names):
        """What the scan's `index`-th step of all reads, as it lies in memory, and where.

        Steps are loaded some at a time, before they are used, so that one wait is for all.
        """
        problem = self.problem
        live, t = True, index
        if not problem.exact:  # there are steps past the end
            live = index < problem.length
            t = jnp.minimum(index, problem.length - 1)
        t = problem.length - 1 - t if problem.options.reverse else t
        x = {"t": t, "live": live}
        for k in names:
            if k in self.refs and k not in self.fixed:
                x[k] = self.read_step(k, t, live) if k in TIMED else self.read_weight(k, t, live)
        if "keep" in self.refs:
            keep = self.read_keep(t)  # which past the end is another step's
            x["keep"] = keep if live is True else jnp.where(live, keep, 1.0)
        return x

    def ready(self, x):
        """A loaded step in float32: rows, weights, and `dt`, `x = dt u`."""
        y = {k: v.astype(jnp.float32) for k, v in x.items() if k in TIMED}
        y |= {k: self.as_weight(x[k]) for k in "BC" if k in x} | self.fixed
        y |= {k: x[k] for k in ("t", "live", "keep") if k in x}
        dt = y["delta"] if self.bias is None else y["delta"] + self.bias
        y["before"] = dt  # the softplus
        dt = self.softplus(dt) if self.problem.options.softplus else dt
        y["dt"] = only(x["live"], dt)
        if "u" in y:
            y["x"] = y["dt"] * y["u"]
        return y

    def softplus(self, x):
        return jnp.maximum(x, 0.0) + self.log1p(jnp.exp(-jnp.abs(x)))

    def log1p(self, x):
        return jnp.log1p(x)

    def decayed(self, h, x):
        """`exp(dt A) h`, 0 where a segment begins. Cheaper taken again than held in registers."""
        decayed = self.exp2(self.column(x["dt"]) * self.A2) * h
        return self.where(x["keep"] > 0, decayed) if "keep" in x else decayed

    def advance(self, h, x):
        return self.decayed(h, x) + self.column(x["x"]) * x["B"]

    def start(self, chunk):
        """The index of the first step of a chunk of this split."""
        return (self.split * self.problem.chunks + chunk) * self.problem.tiling.outer


def only(live, row):
    """The row where the scalar `live` is, else zeros."""
    return row if live is True else jnp.where(live, row, 0.0)


def advance_kernel(program):
    """The end of a split from a start of zeros."""
    problem, tiling = program.problem, program.problem.tiling

    def some(i, h):
        for x in program.several(program.start(0) + i * tiling.inner, ("u", "delta", "B")):
            h = program.advance(h, program.ready(x))
        return h

    runs = problem.chunks * tiling.outer // tiling.inner
    h = lax.fori_loop(0, runs, some, program.zeros())
    program.write_tile("last", h, program.batch, program.split)


def forward_kernel(program):
    problem, tiling = program.problem, program.problem.tiling

    def chunk(c, h):
        if "states" in program.refs:
            whole = program.split * problem.chunks + c
            live = problem.exact or whole < problem.kept
            at = program.batch, whole if problem.exact else jnp.minimum(whole, problem.kept - 1)
            program.write_tile("states", h, *at, live=live)

        def some(i, h):
            first = program.start(c) + i * tiling.inner
            names = ("u", "delta", "B", "C", "z")
            for x in map(program.ready, program.several(first, names)):
                h = program.advance(h, x)
                y = program.over_states(h * x["C"])
                y = y if program.D is None else y + program.D * x["u"]
                y = y * (x["z"] * jax.nn.sigmoid(x["z"])) if "z" in x else y
                program.write_row("y", y, program.batch, x["t"], live=x["live"])
            return h

        return lax.fori_loop(0, tiling.outer // tiling.inner, some, h)

    h = program.read_tile("h0", program.batch, program.split)
    h = lax.fori_loop(0, problem.chunks, chunk, h)
    program.write_tile("last", h, program.batch, program.split)


def retreat_kernel(program):
    """What reaches the start of a split of the gradients of its own outputs."""
    problem, tiling = program.problem, program.problem.tiling
    runs = problem.chunks * tiling.outer // tiling.inner

    def some(i, ahead):
        first = program.start(0) + (runs - 1 - i) * tiling.inner
        for x in map(program.ready, program.several(first, ("delta", "C", "z", "dy"))[::-1]):
            dy = x["dy"] * (x["z"] * jax.nn.sigmoid(x["z"])) if "z" in x else x["dy"]
            ahead = program.decayed(ahead + program.column(dy) * x["C"], x)
        return ahead

    ahead = lax.fori_loop(0, runs, some, program.zeros())
    program.write_tile("dh0", ahead, program.batch, program.split)


def backward_kernel(program):
    problem, tiling = program.problem, program.problem.tiling
    batch, split = program.batch, program.split
    runs = tiling.outer // tiling.inner
    zeros = program.zeros()

    def undo(first, carry, steps, before):
        """Undoes `steps` from the last; `before` are the decayed states `a[t] h[t-1]`."""
        for k in reversed(range(tiling.inner)):
            x, decayed = program.ready(steps[k]), before[k]
            at = batch, x["t"]
            h = decayed + program.column(x["x"]) * x["B"]
            dy, skip = x["dy"], 0.0
            if "z" in x:
                y = program.over_states(h * x["C"])
                y = y if program.D is None else y + program.D * x["u"]
                s = jax.nn.sigmoid(x["z"])
                dz = dy * y * s * (1 + x["z"] * (1 - s))
                program.write_row("dz", dz, *at, live=x["live"])
                dy = dy * x["z"] * s
            if program.D is not None:
                skip = program.D * dy
                carry["dD"] = carry["dD"] + dy * x["u"]
            g = program.column(dy) * x["C"] + carry["ahead"]
            decayed_g = g * decayed
            dx = program.over_states(g * x["B"])
            ddelta = x["u"] * dx + program.over_states(decayed_g * program.A2) / LOG2E
            if problem.options.softplus:
                ddelta = ddelta * jax.nn.sigmoid(x["before"])
            ddelta = only(x["live"], ddelta)
            program.write_row("du", x["dt"] * dx + skip, *at, live=x["live"])
            program.write_row("ddelta", ddelta, *at, live=x["live"])
            if program.bias is not None:
                carry["dbias"] = carry["dbias"] + ddelta
            carry["dA"] = carry["dA"] + decayed_g * program.column(x["dt"])
            carry = weight("B", carry, k, g * program.column(x["x"]), x)
            carry = weight("C", carry, k, h * program.column(dy), x)
            carry["ahead"] = program.decayed(g, x)
        program.finish_shares(first)
        return carry

    def weight(name, carry, k, share, x):
        if name in program.fixed:
            return carry | {"d" + name: carry["d" + name] + share}
        program.put_share(name, k, share, x)
        return carry

    def some(c, i, h, carry):
        first = program.start(c) + i * tiling.inner
        names = ("u", "delta", "B", "C", "z", "dy")
        steps, before = program.several(first, names), []
        for x in map(program.ready, steps):
            before.append(program.decayed(h, x))
            h = before[-1] + program.column(x["x"]) * x["B"]
        return undo(first, carry, steps, before)

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
        # Pallas' interpreter refuses a Python int here.
        program.write_tile("scratch", h, batch, split, jnp.int32(runs - 1))
        program.wait()

        def back(i, carry):
            i = runs - 1 - i
            return some(c, i, program.read_tile("scratch", batch, split, i), carry)

        carry = lax.fori_loop(0, runs, back, carry)
        program.wait()  # before the next chunk writes over what this one reads
        return carry

    carry = {"ahead": program.read_tile("dlast", batch, split), "dA": zeros}
    sums = [k for k in ("dD", "dbias") if k in program.refs]
    carry |= {k: program.zero_row() for k in sums}
    carry |= {"d" + k: zeros for k in program.fixed}
    carry = lax.fori_loop(0, problem.chunks, chunk, carry)
    program.write_tile("dh0", carry.pop("ahead"), batch, split)
    for name, value in carry.items():
        write = program.write_row if name in sums else program.write_tile
        write(name, value, batch, split)
