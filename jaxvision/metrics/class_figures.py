"""Pictures of a classifier: its confusion matrix, and how much its confidence is worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.metrics.classes import Calibration, ClassScores


def confusion_figure(path: Path, found: ClassScores, names: Sequence[str], *, title: str) -> None:
    """Writes a PNG: counts, coloured by their share of the row, with recall and F1 beside them."""
    k = len(names)
    side = float(np.clip(2.5 + 0.62 * k, 4, 14))
    figure = Figure(figsize=(side + 1, side), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = found.confusion
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(k):
        for j in range(k):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=colour, size=8)
    rows = [f"{n}  F1 {f1:.2f}" for n, f1 in zip(names, found.f1, strict=True)]
    axes.set_xticks(range(k), names, rotation=45, ha="right")
    axes.set_yticks(range(k), rows)
    axes.set(xlabel="predicted", ylabel="in the encoder's tree")
    axes.set_title(f"{title}: accuracy {found.accuracy:.3f}, macro-F1 {found.macro_f1:.3f}")
    figure.savefig(path, format="png")


def reliability_figure(path: Path, curves: dict[str, Calibration], *, title: str) -> None:
    """Writes a PNG: share of right answers over confidence, a line for each model."""
    figure = Figure(figsize=(5, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    for name, curve in curves.items():
        met = curve.counts > 0
        label = f"{name}, error {curve.error:.3f}"
        axes.plot(curve.confidence[met], curve.accuracy[met], marker="o", markersize=3, label=label)
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, format="png")
