"""Scores of a classifier, from its confusion matrix; calibration of its probabilities."""

import dataclasses
from collections.abc import Mapping

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """What a confusion matrix says; per-class arrays are `[k]`, NaN for a class never met.

    `macro_f1` is the mean over the classes that occur in the truth or in the predictions.
    """

    confusion: np.ndarray  # int64 [k k], rows are the truth
    accuracy: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    macro_f1: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Mean confidence and share of right answers by bin of confidence, `[bins]`; counts `[bins]`.

    `error` is the expected calibration error: Guo et al. 2017, eq. 5.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    error: float


def confusion(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Counts int64 `[k k]` of `truth [n]` (rows) and `found [n]`; truths below 0 are left out.

    Raises:
      ValueError: for unequal lengths, or a class that is not below `classes`.
    """
    truth, found = np.asarray(truth, np.int64), np.asarray(found, np.int64)
    if truth.shape != found.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and found {found.shape} must both be [n]")
    counted = truth >= 0
    truth, found = truth[counted], found[counted]
    if truth.size and max(truth.max(), found.max()) >= classes or (found < 0).any():
        raise ValueError(f"a class is not from 0 to {classes - 1}")
    return np.bincount(truth * classes + found, minlength=classes**2).reshape(classes, classes)


def scores(counts: np.ndarray) -> ClassScores:
    """Accuracy, precision, recall and F1 of a confusion matrix; ValueError for an empty one."""
    total = counts.sum()
    if not total:
        raise ValueError("the confusion matrix is empty: no example was counted")
    right, true, said = np.diag(counts), counts.sum(1), counts.sum(0)
    known = true + said > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(said > 0, right / said, np.where(known, 0.0, np.nan))
        recall = np.where(true > 0, right / true, np.where(known, 0.0, np.nan))
        f1 = np.where(known, 2 * right / (true + said), np.nan)
    return ClassScores(
        confusion=counts,
        accuracy=float(right.sum() / total),
        precision=precision,
        recall=recall,
        f1=f1,
        macro_f1=float(f1[known].mean()),
    )


def top_k(probabilities: np.ndarray, truth: np.ndarray, k: int) -> float:
    """The share of examples whose class is among the `k` likeliest; of equals the first counts."""
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    return float((best == np.asarray(truth)[:, None]).any(-1).mean())


def calibration(probabilities: np.ndarray, truth: np.ndarray, *, bins: int = BINS) -> Calibration:
    """Of the likeliest class of `probabilities [n k]`, in `bins` equal bins of confidence."""
    confidence = probabilities.max(-1).astype(np.float64)
    right = probabilities.argmax(-1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, bins) / counts
        accuracy = np.bincount(place, right, bins) / counts
    gap = np.where(counts > 0, abs(np.nan_to_num(mean) - np.nan_to_num(accuracy)), 0)
    return Calibration(mean, accuracy, counts, float((gap * counts).sum() / max(counts.sum(), 1)))


def scalars(found: ClassScores, names: tuple[str, ...]) -> Mapping[str, float]:
    """`accuracy`, `macro_f1`, and `f1/<class>` of the classes that were met."""
    each = {f"f1/{name}": float(f1) for name, f1 in zip(names, found.f1, strict=True) if f1 == f1}
    return {"accuracy": found.accuracy, "macro_f1": found.macro_f1, **each}


def scalar_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of `scalars` where every class is met."""
    return ("accuracy", "macro_f1", *(f"f1/{name}" for name in names))
