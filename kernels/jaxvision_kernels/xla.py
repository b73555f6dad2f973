"""The selective scan for CPUs: chunks of time, a hand-written backward pass, O(b l d) memory.

What XLA's CPU compiler rewards, and this file is built on:

* A temporary as large as the states of all steps costs more in page faults than its arithmetic. So
  the forward pass keeps one state a chunk, the backward pass redoes one chunk at a time, and the
  time-major copies that the loops read are made chunk by chunk, inside the cache.
* Buffers ride in the loops' carries: the stacked outputs of an inner `lax.scan` would be zeroed and
  copied again for every chunk.
* States that outgrow the cache cost more than further loops: the backward pass takes the batch some
  rows at a time. The forward pass touches less, and its larger steps keep a second core busy.
* A is transposed behind an optimization barrier, else the transpose sinks into the innermost loop.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision_kernels import layout
from jaxvision_kernels.blocks import in_blocks
from jaxvision_kernels.operands import starts, widen
from jaxvision_kernels.partitioned import partitioned

STATES = "cbnd"  # the axes of the kept states
CACHED = 2**17  # bytes of states that a backward pass works on at once


def scan(u, dt, A, B, C, h0, keep, *, reverse: bool, chunk: int) -> tuple[jax.Array, jax.Array]:
    """As `reference.scan`."""
    h0 = starts(u.shape[0], A) if h0 is None else h0.astype(A.dtype)
    B, C = widen(B), widen(C)  # so are their gradients, until all their sums are taken
    return _scan(chunk, reverse, u, dt, A, B, C, h0, keep)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(chunk, reverse, u, dt, A, B, C, h0, keep):
    y, last, _ = _run(chunk, reverse, False, u, dt, A, B, C, h0, keep)
    return y, last


def _scan_forward(chunk, reverse, u, dt, A, B, C, h0, keep):
    y, last, states = _run(chunk, reverse, True, u, dt, A, B, C, h0, keep)
    return (y, last), (u, dt, A, B, C, h0, keep, states)


def _run(chunk, reverse, keep_states, *operands):
    """y `[b l d]`, the last state `[b d n]` and the kept states `[c b n d]`, or None."""

    def run(u, dt, A, B, C, h0, *keep):
        length, shape = u.shape[1], u.shape
        A, B, C, h0 = layout.to_groups(A, B, C, h0, shape)
        u, dt, B, C = (layout.pad_time(x, chunk) for x in (u, dt, B, C))
        keep = layout.pad_time(*keep, chunk, value=1.0) if keep else None
        y, last, states = _forward(
            chunk, reverse, u, dt, A, B, C, h0, keep, keep_states=keep_states
        )
        out = y[:, :length], layout.states_by_channel(last)
        return (*out, layout.merge(states)) if keep_states else out

    operands = [x for x in operands if x is not None]
    outputs = ("bld", "bdn", STATES)[: 3 if keep_states else 2]
    out = partitioned(run, _letters(*operands), outputs)(*operands)
    return out if keep_states else (*out, None)


def _letters(u, dt, A, B, C, h0, keep=None):
    """The axes of the operands, for `partitioned`."""
    weights = [{2: "dn", 3: "bln"}.get(w.ndim, f"bl{k}n") for k, w in (("g", B), ("k", C))]
    return "bld", "bld", "dn", *weights, "bdn", *(() if keep is None else ("bl",))


def _forward(chunk, reverse, u, dt, A, B, C, h0, keep, *, keep_states):
    chunks = u.shape[1] // chunk
    A = lax.optimization_barrier(A)
    read = functools.partial(_read, chunk=chunk, groups=A.shape[0])

    def one_chunk(i, carry):
        h, y, y_chunk, states = carry
        c = chunks - 1 - i if reverse else i
        if keep_states:
            states = _put(states, h, c)
        u_, dt_, B_, C_, keep_ = (read(x, c) for x in (u, dt, B, C, keep))
        x = dt_ * u_

        def one_step(i, carry):
            h, y_chunk = carry
            k = chunk - 1 - i if reverse else i
            h = layout.advance(h, _row(x, k), _row(dt_, k), A, _at(B_, k), _at(keep_, k))
            return h, _put(y_chunk, layout.inner(h, _at(C_, k)), k)

        h, y_chunk = lax.fori_loop(0, chunk, one_step, (h, y_chunk))
        return h, _write(y, y_chunk, c), y_chunk, states

    # Zeros of a shape but like an operand: within `jax.shard_map` their types are alike too.
    y = jnp.zeros_like(h0, shape=u.shape)
    states = jnp.zeros_like(h0, shape=(chunks, *h0.shape) if keep_states else ())
    carry = (h0, y, _rows(u, chunk, h0), states)
    h, y, _, states = lax.fori_loop(0, chunks, one_chunk, carry)
    return y, h, states


def _scan_backward(chunk, reverse, residuals, cotangents):
    *operands, states = residuals

    def run(dy, dlast, states, u, dt, A, B, C, h0, *keep):
        length, shape = u.shape[1], u.shape
        grouped, pull = jax.vjp(lambda *x: layout.to_groups(*x, shape), A, B, C, h0)
        A, B, C, _ = grouped
        ahead = layout.states_by_group(dlast, A.shape[0])
        u, dt, dy, *padded = (layout.pad_time(x, chunk) for x in (u, dt, dy, B, C))
        keep = layout.pad_time(*keep, chunk, value=1.0) if keep else None
        residuals = u, dt, A, *padded, keep, layout.unmerge(states, A.shape[0])
        du, ddt, dA, dB, dC, dh0 = _backward(chunk, reverse, residuals, dy, ahead)
        dB, dC = (g if layout.is_constant(w) else g[:, :length] for g, w in ((dB, B), (dC, C)))
        return du[:, :length], ddt[:, :length], *pull((dA, dB, dC, dh0))

    inputs = [*cotangents, states, *(x for x in operands if x is not None)]
    letters = _letters(*inputs[3:])
    letters, outputs = ("bld", "bdn", STATES, *letters), letters[:6]
    grads = partitioned(in_blocks(run, letters, outputs, CACHED), letters, outputs)(*inputs)
    return *grads, None


def _backward(chunk, reverse, residuals, dy, ahead):
    """With g[t] = dL/dh[t] over all paths, h'[t] = a[t] h[t-1], a = exp(dt A), x = dt u:

    g[t] = C[t] dy[t] + a[t+1] g[t+1]        dC = sum_p h dy     dB = sum_p g x     dx = sum_n g B
    d dt = u dx + sum_n A g h'               dA = sum_t dt g h'  du = dt dx         dh0 = a[0] g[0]
    """
    u, dt, A, B, C, keep, states = residuals
    chunks = u.shape[1] // chunk
    A = lax.optimization_barrier(A)
    read = functools.partial(_read, chunk=chunk, groups=A.shape[0])

    def one_chunk(i, carry):
        ahead, grads, work = carry
        c = i if reverse else chunks - 1 - i
        u_, dt_, B_, C_, keep_, dy_ = (read(x, c) for x in (u, dt, B, C, keep, dy))
        x = dt_ * u_

        def redo_step(i, carry):
            h, before, dC = carry
            k = chunk - 1 - i if reverse else i
            h = layout.clear(h, _at(keep_, k))
            before = _put(before, h, k)
            h = layout.advance(h, _row(x, k), _row(dt_, k), A, _at(B_, k), None)
            return h, before, _collect(dC, h, _row(dy_, k), k)

        carry = (_row(states, c), work["before"], work["C"])
        _, before, dC = lax.fori_loop(0, chunk, redo_step, carry)

        def undo_step(i, carry):
            ahead, dA, dB, dx, ddecay = carry
            k = i if reverse else chunk - 1 - i
            g = layout.outer(_row(dy_, k), _at(C_, k)) + ahead
            ahead = layout.clear(jnp.exp(_row(dt_, k)[:, :, None] * A) * g, _at(keep_, k))
            decayed = ahead * _row(before, k)  # g a h[t-1]: no difference of near-equal numbers
            dA = dA + decayed * _row(dt_, k)[:, :, None]
            ddecay = _put(ddecay, layout.sum_states(decayed * A), k)
            dx = _put(dx, layout.inner(g, _at(B_, k)), k)
            return ahead, dA, _collect(dB, g, _row(x, k), k), dx, ddecay

        carry = (ahead, grads["A"], work["B"], work["x"], work["decay"])
        ahead, dA, dB, dx, ddecay = lax.fori_loop(0, chunk, undo_step, carry)
        grads = {
            "u": _write(grads["u"], dx * dt_, c),
            "dt": _write(grads["dt"], dx * u_ + ddecay, c),
            "A": dA,
            "B": _flush(grads["B"], dB, c),
            "C": _flush(grads["C"], dC, c),
        }
        work = {"before": before, "B": dB, "C": dC, "x": dx, "decay": ddecay}
        return ahead, grads, work

    grads = {k: jnp.zeros_like(x) for k, x in {"u": u, "dt": dt, "B": B, "C": C}.items()}
    grads["A"] = jnp.zeros_like(ahead)
    work = {
        "before": jnp.zeros_like(ahead, shape=(chunk, *ahead.shape)),
        "B": _collector(B, chunk, ahead),
        "C": _collector(C, chunk, ahead),
        "x": _rows(u, chunk, ahead),
        "decay": _rows(u, chunk, ahead),
    }
    dh0, grads, work = lax.fori_loop(0, chunks, one_chunk, (ahead, grads, work))
    dB, dC = (_like(w, _total(grads[k], work[k])) for k, w in (("B", B), ("C", C)))
    return grads["u"], grads["dt"], grads["A"].sum(0), dB, dC, dh0


_scan.defvjp(_scan_forward, _scan_backward)


def _read(x, c, *, chunk, groups):
    """Chunk c of `[b l (g q)]`, time-major and float32: `[k b g q]`; of `[b l]`: `[k b]`.

    Constants and None pass through.
    """
    if x is None or layout.is_constant(x):
        return x
    x = widen(jnp.swapaxes(lax.dynamic_slice_in_dim(x, c * chunk, chunk, 1), 0, 1))
    return layout.split(x, groups) if x.ndim == 3 else x


def _write(x, block, c):
    """Makes `block` `[k b g q]` chunk c of `x` `[b l (g q)]`: the inverse of `_read`."""
    k, b, *_ = block.shape
    block = _like(x, jnp.swapaxes(block.reshape(k, b, -1), 0, 1))
    return lax.dynamic_update_slice_in_dim(x, block, c * k, 1)


def _at(x, k):
    """Row k of what `_read` returned."""
    return x if x is None or layout.is_constant(x) else _row(x, k)


def _row(x, k):
    # A counter is never negative; the check for that would cost a kernel call a row.
    return lax.dynamic_index_in_dim(x, k, 0, keepdims=False, allow_negative_indices=False)


def _put(x, row, k):
    return lax.dynamic_update_index_in_dim(x, row, k, 0, allow_negative_indices=False)


def _like(x, gradient):
    """The gradient in the dtype of x; of a real x, its real part."""
    real = jnp.iscomplexobj(gradient) and not jnp.iscomplexobj(x)
    return (gradient.real if real else gradient).astype(x.dtype)


def _rows(x, chunk, h):
    """Room for one chunk of `x` `[b l (g q)]`, of states' dtype: `[k b g q]`."""
    groups = h.shape[1]
    return jnp.zeros_like(h, shape=(chunk, x.shape[0], groups, x.shape[2] // groups))


def _collector(w, chunk, h):
    """Room for the gradient of B or C: its rows of one chunk, or a running sum if constant."""
    return jnp.zeros_like(h)[None] if layout.is_constant(w) else _rows(w, chunk, h)


def _collect(buffer, h, x, k):
    """Takes step k's share of a weight's gradient, `sum_p h x`, from `[b g n p]` and `[b g p]`."""
    if layout.is_constant(buffer):
        return buffer + h * x[:, :, None]
    return _put(buffer, layout.dot("bgnp,bgp->bgn", h, x), k)


def _flush(gradient, buffer, c):
    """Writes a finished chunk of a weight's gradient; a constant's stays in its buffer."""
    return gradient if layout.is_constant(buffer) else _write(gradient, buffer, c)


def _total(gradient, buffer):
    """`[b l (g n)]`, or the sum over b of a constant's buffer `[1 b g n p]` as `[1 1 g n p]`."""
    return buffer.sum(1, keepdims=True) if layout.is_constant(buffer) else gradient
