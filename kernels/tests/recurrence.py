"""The selective scan in float64 NumPy, step by step, and how far float32 may be from it."""

import numpy as np

EPS = float(np.finfo(np.float32).eps)


def selective_scan(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, h0=None, *, softplus, reverse, ids
):
    """Returns y, the last state, and error bounds for both. Complex inputs differentiate it.

    The bounds are a first-order running error analysis (Higham 2002, ch. 3): the error of h obeys
    `e[t] = a e[t-1] + |a h[t-1]| (da + 1) eps + |x| (dx + 1) eps`, where da and dx count roundings
    in a = exp(dt A) and x = dt u B. Any order of the sums keeps them within a factor of 2.
    """
    b, length, d = u.shape
    n = A.shape[1]
    B, C = _full(B, (b, length, d, n)), _full(C, (b, length, d, n))
    dt = delta + (0 if delta_bias is None else delta_bias)
    dt_roundings = 1 + 4 * softplus  # log1p, exp and their sum
    dt = np.log1p(np.exp(dt)) if softplus else dt
    h = np.zeros((b, d, n)) if h0 is None else h0
    e = np.zeros((b, d, n))
    y = np.zeros((b, length, d), np.result_type(u, dt, A, B, C, h))
    y_error = np.zeros((b, length, d))
    for t in range(length)[:: -1 if reverse else 1]:
        before = t + 1 if reverse else t - 1
        if ids is not None and 0 <= before < length:
            same = (ids[:, t] == ids[:, before])[:, None, None]
            h, e = h * same, e * same
        exponent = dt[:, t, :, None] * A
        a, x = np.exp(exponent), (dt * u)[:, t, :, None] * B[:, t]
        a_roundings = abs(exponent) * (dt_roundings + 1) + 2
        rounded = abs(a * h) * (a_roundings + 1) + abs(x) * (dt_roundings + 3)
        e = abs(a) * e + EPS * rounded
        h = a * h + x
        y[:, t] = (C[:, t] * h).sum(-1)
        y_error[:, t] = (abs(C[:, t]) * (e + (n + 1) * EPS * abs(h))).sum(-1)
    if D is not None:
        y_error += EPS * (2 * abs(D * u) + abs(y))
        y = y + D * u
    if z is not None:
        gate = z / (1 + np.exp(-z))
        y_error = abs(gate) * y_error + 6 * EPS * abs(y * gate)
        y = y * gate
    return y, h, 2 * y_error + 1e-30, 2 * e + 1e-30


def _full(w, shape):
    """`[d n]`, `[b l n]` or `[b l g n]` -> `[b l d n]`."""
    w = w[None, None] if w.ndim == 2 else w[:, :, None] if w.ndim == 3 else w
    return np.broadcast_to(np.repeat(w, shape[2] // w.shape[2], axis=2), shape)
