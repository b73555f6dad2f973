"""The numbers that say how a string's values are predicted and how sure that is; whole ones.

    byte     0: the defaults; 1: the rest follows
    m bytes  weights of the prediction, in 64ths, signed
    a bytes  weights of the expected error, in 64ths
    16 bytes the tables' scale for each size of the expected error

An encoder fits them by least squares in floating point; a decoder reads them and computes in whole
numbers alone.
"""

import dataclasses
import functools
import math

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv.logistic import EIGHTHS, ROWS, tables

UNIT = 64
CLASSES = 16
FARTHEST = 800  # of a value, as far as fits count; the widest row has 636
# Of the expected error in 512ths: a quarter of a value, then in ratios of the square root of 2
EDGES = np.array([math.isqrt(128 * 128 << k) for k in range(1, CLASSES)])
DEFAULT_SCALES = (6, 9, 11, 13, 15, 17, 19, 21, 23, 26, 28, 30, 32, 34, 36, 38)


@dataclasses.dataclass(frozen=True)
class Fit:
    """Weights int64 of the prediction and of the expected error, scales by class."""

    mean: np.ndarray
    error: np.ndarray
    scales: np.ndarray
    default: bool = False

    def predicted(self, known: np.ndarray) -> np.ndarray:
        """`[n m]` -> what to expect, in eighths, int64 `[n]`."""
        return (known @ self.mean + 4) >> 3

    def classes(self, sizes: np.ndarray) -> np.ndarray:
        """`[n a]`, in eighths -> the class of the error that they let expect, `[n]`."""
        return np.searchsorted(EDGES, sizes @ self.error, side="right")

    def to_bytes(self) -> bytes:
        if self.default:
            return b"\0"
        parts = self.mean.astype(np.int8), self.error.astype(np.uint8), self.scales.astype(np.uint8)
        return b"\1" + b"".join(part.tobytes() for part in parts)


def default(means: int, errors: int) -> Fit:
    """No prediction beyond the transform's own; the mean of the neighbours' errors."""
    share = np.full(errors, UNIT // max(errors, 1), np.int64)
    return Fit(np.zeros(means, np.int64), share, np.array(DEFAULT_SCALES), default=True)


def from_bytes(data: bytes, at: int, *, means: int, errors: int) -> tuple[Fit, int]:
    """The fit at byte `at`, and where it ends."""
    if data[at : at + 1] == b"\0":
        return default(means, errors), at + 1
    end = at + 1 + means + errors + CLASSES
    if data[at : at + 1] != b"\1" or len(data) < end:
        raise BitstreamError(f"parameters at byte {at} are cut off, or damaged")
    numbers = np.frombuffer(data, np.uint8, end - at - 1, at + 1)
    scales = numbers[means + errors :].astype(np.int64)
    if scales.max() >= ROWS:
        raise BitstreamError(f"parameters at byte {at} name scale {scales.max()} of {ROWS}")
    mean = numbers[:means].view(np.int8).astype(np.int64)
    return Fit(mean, numbers[means : means + errors].astype(np.int64), scales), end


def centred(eighths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is taken off a value, the sign that it then gets, the eighths of its table, 0 … 4."""
    whole = (eighths + 4) >> 3
    rest = eighths - 8 * whole
    return whole, np.where(rest < 0, -1, 1), abs(rest)


def fitted(known: np.ndarray, sizes: np.ndarray, values: np.ndarray) -> Fit:
    """The fit for values `[n]` by what is known of each, `[n m]` and `[n a]`."""
    mean = _least_squares(known.astype(np.float64), values, ridge=1e-3 * len(values))
    mean = np.clip(np.rint(UNIT * mean), -127, 127).astype(np.int64)
    fit = Fit(mean, np.zeros(sizes.shape[1], np.int64), np.zeros(CLASSES, np.int64))
    eighths = fit.predicted(known)
    error = _expected(sizes.astype(np.float64), abs(8.0 * values - eighths))
    fit = dataclasses.replace(fit, error=error)
    whole, sign, part = centred(eighths)
    scales = _scales(fit.classes(sizes), sign * (values - whole), part)
    return dataclasses.replace(fit, scales=scales)


def cheapest(values: np.ndarray) -> int:
    """The scale by which values `[n]`, expected to be 0, cost the least."""
    nothing = np.zeros(len(values), np.int64)
    return int(_scales(nothing, values, nothing)[0])


def _least_squares(x, y, *, ridge):
    gram = x.T @ x + ridge * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ y) if x.shape[1] else np.zeros(0)


def _expected(sizes, errors):
    """Weights of 0 and more of the neighbours' sizes; large ones, which vary more, count less."""
    trust = 1 / (8 + sizes.mean(1))
    x, y = sizes * trust[:, None], errors * trust
    used = x.any(0)
    weights = np.zeros(x.shape[1])
    while used.any():
        weights[:] = 0
        weights[used] = _least_squares(x[:, used], y, ridge=1e-4 * len(y))
        if (weights >= 0).all():
            break
        used &= weights > 0
    return np.clip(np.rint(UNIT * weights), 0, 255).astype(np.int64)


def _scales(classes, values, part):
    """Of each class the scale by which its values cost the least."""
    values = np.clip(values, -FARTHEST, FARTHEST) + FARTHEST
    costs = _costs()
    each = costs.shape[1]
    place = classes * each + part * (each // EIGHTHS) + values
    counts = np.bincount(place, minlength=CLASSES * each).reshape(CLASSES, each)
    seen = np.flatnonzero(counts.any(0))
    return (counts[:, seen] @ costs[:, seen].T).argmin(1)


@functools.cache
def _costs() -> np.ndarray:
    """Bits of the values `-FARTHEST … FARTHEST` by each row, `[ROWS EIGHTHS * values]`."""
    rows = tables()
    costs = np.empty((ROWS * EIGHTHS, 2 * FARTHEST + 1))
    for out, cdf, length, first in zip(costs, rows.cdf, rows.length, rows.offset, strict=True):
        bits = rows.precision - np.log2(np.diff(cdf[: length + 1]))
        beyond = np.maximum(abs(np.arange(-FARTHEST, FARTHEST + 1)) + first, 1)
        out[:] = bits[-1] + 2 * np.log2(beyond) + 2  # an escape, and the code of how far
        known = bits[:-1][: 2 * FARTHEST + 1]
        out[first + FARTHEST : first + FARTHEST + len(known)] = known
    return costs.reshape(ROWS, -1)
