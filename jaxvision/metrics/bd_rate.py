"""Bjøntegaard's delta rate: how many per cent more bits one codec needs for equal quality.

A curve is `[n 2]`: rate (bits per pixel, or bytes) and quality in dB, in any order. Bjøntegaard,
VCEG-M33 (2001) fits one cubic to log-rate over quality; the form in use today interpolates by
piecewise cubics that do not overshoot (Fritsch and Carlson 1980), from any number of points.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class BDRates:
    """BD-rates in per cent; the interval is NaN where one image alone says nothing of others."""

    images: Mapping[str, float]
    mean: float
    low: float  # bootstrap 95 % interval of the mean over images
    high: float


def bd_rate(anchor: ArrayLike, test: ArrayLike, *, form: str = "pchip") -> float:
    """Mean difference of rate of `test` to `anchor` at equal quality, in per cent.

    Args:
        form: "pchip" (from 2 points a curve) or "cubic", the classical one (from 4 points).
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r} is unknown; there are {', '.join(map(repr, FORMS))}")
    integral, least = FORMS[form]
    curves = [_curve(name, x, least) for name, x in (("anchor", anchor), ("test", test))]
    low, high = quality_overlap(anchor, test)
    first, second = (integral(quality, log_rate, low, high) for quality, log_rate in curves)
    return float(100 * np.expm1((second - first) / (high - low)))


def quality_overlap(anchor: ArrayLike, test: ArrayLike) -> tuple[float, float]:
    """The qualities that both curves reach, over which rates are compared."""
    a, b = (_curve(name, x, 2)[0] for name, x in (("anchor", anchor), ("test", test)))
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    if low >= high:
        raise ValueError(
            f"the curves have no quality in common: anchor {a[0]:.4g} to {a[-1]:.4g}, "
            f"test {b[0]:.4g} to {b[-1]:.4g}; add points"
        )
    return float(low), float(high)


def bd_rates(
    anchors: Mapping[str, ArrayLike],
    tests: Mapping[str, ArrayLike],
    *,
    form: str = "pchip",
    seed: int = 0,
) -> BDRates:
    """BD-rate of every image, by name, and their mean with a bootstrap 95 % interval.

    The images are resampled: the interval says how far the mean would move with other images of
    the same kind (percentiles: Efron and Tibshirani 1993, chapter 13).
    """
    if anchors.keys() != tests.keys() or not anchors:
        raise ValueError(
            f"both must have the same images: anchor {sorted(anchors)}, test {sorted(tests)}"
        )
    images = {}
    for name in anchors:
        try:
            images[name] = bd_rate(anchors[name], tests[name], form=form)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    values = np.array(list(images.values()))
    low = high = np.nan
    if len(values) > 1:
        chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
        low, high = np.percentile(values[chosen].mean(axis=1), (2.5, 97.5))
    return BDRates(images=images, mean=float(values.mean()), low=float(low), high=float(high))


def _curve(name: str, points: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Quality, ascending, and log-rate."""
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} must be [n 2] of rate and quality, not {points.shape}")
    if len(points) < least:
        raise ValueError(f"{name} has {len(points)} points; {least} are needed")
    if not np.isfinite(points).all() or points[:, 0].min() <= 0:
        bad = points[~np.isfinite(points).all(axis=1) | ~(points[:, 0] > 0)][0]
        raise ValueError(f"{name} has the point {bad.tolist()}; rates must be positive and finite")
    rate, quality = points[np.argsort(points[:, 1])].T
    if not np.diff(quality).all():
        double = quality[:-1][np.diff(quality) == 0][0]
        raise ValueError(f"{name} has two points of quality {double:g}; leave one out")
    return quality, np.log(rate)


def _cubic_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    middle = (low + high) / 2  # powers of centred qualities keep the fit well conditioned
    area = np.polynomial.Polynomial.fit(x - middle, y, deg=3).convert().integ()
    return area(high - middle) - area(low - middle)


def _pchip_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    step, slope = np.diff(x), np.diff(y) / np.diff(x)
    tangent = _tangents(step, slope)
    total = 0.0
    for i, width in enumerate(step):
        # Hermite's cubic y + t (d + t (c + t b)) on 0 <= t <= width
        d = tangent[i]
        c = (3 * slope[i] - 2 * tangent[i] - tangent[i + 1]) / width
        b = (tangent[i] + tangent[i + 1] - 2 * slope[i]) / width**2
        area = np.polynomial.Polynomial([0, y[i], d / 2, c / 3, b / 4])
        begin, end = np.clip((low - x[i], high - x[i]), 0, width)
        total += area(end) - area(begin)
    return total


def _tangents(step: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Slopes at the points that keep each piece monotone (Fritsch and Butland 1984)."""
    if len(step) == 1:
        return np.repeat(slope, 2)
    left, right = slope[:-1], slope[1:]
    w1, w2 = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    turns = left * right <= 0
    safe_left, safe_right = np.where(turns, 1, left), np.where(turns, 1, right)
    inner = np.where(turns, 0, (w1 + w2) / (w1 / safe_left + w2 / safe_right))
    begin = _end_tangent(step[0], step[1], slope[0], slope[1])
    end = _end_tangent(step[-1], step[-2], slope[-1], slope[-2])
    return np.concatenate([[begin], inner, [end]])


def _end_tangent(h0: float, h1: float, slope0: float, slope1: float) -> float:
    """The three-point formula, limited so that the end stays monotone (Moler 2004, section 3.6)."""
    tangent = ((2 * h0 + h1) * slope0 - h0 * slope1) / (h0 + h1)
    if tangent * slope0 <= 0:
        return 0.0
    if slope0 * slope1 <= 0 and abs(tangent) > 3 * abs(slope0):
        return 3 * slope0
    return tangent


FORMS: Mapping[str, tuple[Callable[..., float], int]] = {  # with the least number of points
    "pchip": (_pchip_integral, 2),
    "cubic": (_cubic_integral, 4),
}
