"""Probabilities to frequencies: integer tables of Gaussians and of any other distribution."""

import heapq
import math
import statistics
from collections.abc import Sequence

import numpy as np

from jaxvision.entropy.tables import Tables, stacked


def quantize_pmf(pmf: np.ndarray, precision: int = 16) -> np.ndarray:
    """Cumulative frequencies `[n+1]` of a distribution `[n]`, every frequency at least 1.

    Each starts at its rounded share of `2^precision`. Then one at a time is changed by 1 until the
    sum is right: lowered where that costs the least code length `p log2(q / (q - 1))`, raised where
    it saves the most. Of equals the first is taken. As tensorflow-compression does, which leaves
    the choice among equals open.
    """
    pmf = np.asarray(pmf, np.float32)
    top = 1 << precision
    if not 1 <= precision <= 16:
        raise ValueError(f"precision={precision} lies outside 1 … 16")
    if pmf.ndim != 1 or not 1 <= pmf.size <= top:
        raise ValueError(f"pmf of shape {pmf.shape}: give one row of 1 … {top} probabilities")
    if not (0 <= pmf.min() <= pmf.max() <= 1 and pmf.max() > 0):  # NaN fails too
        raise ValueError(f"pmf of values {pmf.min()} … {pmf.max()} is no distribution")
    share = np.maximum(np.rint(pmf * np.float32(top)), 1).astype(np.int64)
    _settle(pmf.astype(float).tolist(), share, top)
    return np.concatenate([[0], np.cumsum(share)]).astype(np.int32)


def _settle(pmf: list[float], share: np.ndarray, top: int) -> None:
    """Changes `share` by single steps, cheapest first, until its sum is `top`."""
    missing = top - int(share.sum())
    step = 1 if missing > 0 else -1

    def cost(i):
        q = int(share[i])
        if q + step < 1:
            return math.inf
        return pmf[i] * (math.log2(q) - math.log2(q + step))

    heap = [(cost(i), i) for i in range(len(pmf))]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        i = heap[0][1]
        share[i] += step
        heapq.heapreplace(heap, (cost(i), i))


def pmf_tables(pmfs: Sequence[np.ndarray], offset: Sequence[int], *, precision: int = 16) -> Tables:
    """Tables of any distributions, such as a factorised prior's channels.

    `pmfs[i][s]` is the mass of the value `offset[i] + s`; what a row lacks of 1 goes to the symbol
    that is appended for all other values.
    """
    rows = [np.asarray(pmf, np.float64) for pmf in pmfs]
    rows = [np.append(row, max(1 - row.sum(), 0.0)) for row in rows]
    return stacked([quantize_pmf(row, precision) for row in rows], np.asarray(offset), precision)


def gaussian_tables(scales: np.ndarray, *, tail_mass: float = 1e-9, precision: int = 16) -> Tables:
    """Tables of zero-mean Gaussians over unit bins, one row a scale.

    A row holds the values that lie within all but `tail_mass` of its Gaussian; the rest goes to its
    last symbol.
    """
    scales = np.asarray(scales, np.float64)
    if scales.ndim != 1 or not scales.size or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"scales={scales}: give one row of positive numbers")
    if not 0 < tail_mass < 1:
        raise ValueError(f"tail_mass={tail_mass} lies outside 0 … 1")
    reach = -statistics.NormalDist().inv_cdf(tail_mass / 2)
    most = np.ceil(scales * reach).astype(int)
    pmfs = [gaussian_pmf(scale, r) for scale, r in zip(scales, most, strict=True)]
    return stacked([quantize_pmf(pmf, precision) for pmf in pmfs], -most, precision)


def gaussian_pmf(scale: float, most: int) -> np.ndarray:
    """Masses of `-most … most` and of all beyond, `[2 most + 2]`."""
    above = np.array([math.erfc((k + 0.5) / (scale * math.sqrt(2))) for k in range(most + 1)]) / 2
    side = above[:-1] - above[1:]
    return np.concatenate([side[::-1], [1 - 2 * above[0]], side, [2 * above[-1]]])
