"""Tables of logistic distributions, whose means lie between whole numbers, the same everywhere.

Computed in decimal arithmetic, which rounds alike on every machine, so that a file needs no tables
beside it. A prediction's errors under one context are nearer to a logistic distribution than to a
Gaussian or to mixtures (measured on photographs).
"""

import functools
from decimal import Decimal, localcontext

import numpy as np

from jaxvision.entropy.tables import Tables, stacked

ROWS = 44  # scales, in equal ratios
LEAST, RATIO = Decimal("0.05"), Decimal("1.18")
EIGHTHS = 5  # means 0, 1/8, … 4/8; the others by symmetry
PRECISION = 14  # bits: a smaller table to look up in, and no loss that could be measured
REACH = Decimal("8.5")  # scales from the mean to where values have no symbol of their own


@functools.cache
def tables() -> Tables:
    """Row `EIGHTHS * i + k` has the scale `LEAST * RATIO ** i` and the mean `k / 8`."""
    with localcontext(prec=28):
        scales = [LEAST * RATIO**i for i in range(ROWS)]
        made = [_row(scale, Decimal(k) / 8) for scale in scales for k in range(EIGHTHS)]
    rows, offsets = zip(*made, strict=True)
    return stacked(list(rows), np.array(offsets), PRECISION)


def _row(scale: Decimal, mean: Decimal) -> tuple[np.ndarray, int]:
    """Cumulative frequencies of the values within REACH and of all others, and the first value."""
    most = int(REACH * scale) + 1
    # F(x) = 1 / (1 + exp((mean - x) / scale)) at the values' edges, each a ratio from the last
    odds, step = ((mean + most + Decimal("0.5")) / scale).exp(), (-1 / scale).exp()
    below = []
    for _ in range(2 * most + 2):
        below.append(1 / (1 + odds))
        odds *= step
    shares = [b - a for a, b in zip(below[:-1], below[1:], strict=True)]
    free = (1 << PRECISION) - len(shares) - 1  # every symbol has 1 at least
    edges, total = [0], Decimal(0)
    for i, share in enumerate(shares, start=1):
        total += share
        edges.append(i + int(total * free))
    return np.array([*edges, 1 << PRECISION], np.int32), -most
