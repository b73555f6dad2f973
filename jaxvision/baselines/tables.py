"""Integer probability tables of rounded Laplacian and Gaussian values, and what they cost."""

import math

import numpy as np

PRECISION = 16  # bits: the frequencies of a table sum to 2**16
FAMILIES = ("laplace", "gauss")
SCALES = 80  # standard deviations 2**(-4 + i/4), which one byte names
SEARCHED = 4  # scales tried on either side of the one that the variance suggests


def scale(index: int) -> float:
    """The standard deviation that an index names, in quantiser steps."""
    return 2.0 ** (index / 4 - 4)


def cumulative(index: int, low: int, high: int, *, family: str) -> np.ndarray:
    """Cumulative frequencies `[high - low + 2]`, from 0 to 2**16, of the integers low..high.

    Each integer has a frequency of at least one; the tails belong to the two ends. Computed from
    the index alone, which a stream carries: encoder and decoder have one table.
    """
    edges = np.arange(low, high) + 0.5
    mass = np.diff(_distribution(edges / scale(index), family), prepend=0, append=1)
    count = high - low + 1
    if count > 2 ** (PRECISION - 1):
        raise ValueError(f"values from {low} to {high} are too many for {PRECISION} bits")
    frequency = 1 + np.floor(mass * (2**PRECISION - count)).astype(np.int64)
    frequency[np.argmax(frequency)] += 2**PRECISION - frequency.sum()
    return np.concatenate([[0], np.cumsum(frequency)])


def best_scale(values: np.ndarray, *, family: str) -> int:
    """The index of the scale that codes these integers in the fewest bits."""
    low, high = int(values.min()), int(values.max())
    deviation = max(float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))), 2.0**-4)
    guess = round(4 * (math.log2(deviation) + 4))
    tried = range(max(0, guess - SEARCHED), min(SCALES, guess + SEARCHED + 1))
    counts = np.bincount((values - low).ravel(), minlength=high - low + 1)
    return min(tried, key=lambda i: bits(counts, cumulative(i, low, high, family=family)))


def bits(counts: np.ndarray, table: np.ndarray) -> float:
    """-Σ log2 p of values that occur `counts` times each: what an ideal coder writes."""
    return float(counts @ (PRECISION - np.log2(np.diff(table))))


def _distribution(x: np.ndarray, family: str) -> np.ndarray:
    """The cumulative distribution of unit variance."""
    if family == "laplace":
        tail = np.exp(-math.sqrt(2) * np.abs(x)) / 2
        return np.where(x < 0, tail, 1 - tail)
    return np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])
