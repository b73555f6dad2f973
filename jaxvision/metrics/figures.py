"""The picture of an evaluation: precision over recall, confusion between classes, AP by size."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.draw import class_colour
from jaxvision.fonts import families
from jaxvision.metrics.detection import CocoScores

CURVES = 12  # classes drawn one by one; more would hide one another
NUMBERED = 16  # classes up to which the confusion matrix has its counts written in


def report_figure(
    path: Path, scores: CocoScores, names: Sequence[str], counts: np.ndarray, *, score: float
) -> None:
    """Writes a PNG; `counts [k+1 k+1]` is the confusion matrix at detection score `score`."""
    seen = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    family = families(list(names))
    names = [name.replace("$", r"\$") for name in names]  # no formulas
    shown = np.union1d(seen, [len(names)])  # classes without objects and detections say nothing
    side = float(np.clip(4 + 0.22 * len(shown), 5, 14))
    with matplotlib.rc_context({"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # told by families()
        figure = Figure(figsize=(6 + side + 4, side), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        curves, matrix, sizes = figure.subplots(1, 3, width_ratios=(6, side, 4))
        _draw_curves(curves, scores, names)
        _draw_matrix(matrix, [*names, "nothing"], counts, shown, score)
        _draw_sizes(sizes, scores)
        figure.savefig(path)


def _draw_curves(axes, scores: CocoScores, names: Sequence[str]) -> None:
    recall = np.linspace(0, 1, scores.curve.shape[1])
    present = np.flatnonzero(np.isfinite(scores.ap50))
    for k in present[:CURVES]:
        colour = np.array(class_colour(int(k))) / 255
        label = f"{names[k]} {scores.ap50[k]:.3f}"
        axes.plot(recall, scores.curve[k], color=colour, linewidth=1.2, label=label)
    mean = scores.curve[present].mean(axis=0)
    label = f"all {len(present)} classes {scores.summary['mAP50']:.3f}"
    axes.plot(recall, mean, color="black", linewidth=2.5, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title("Precision over recall, IoU 0.5 (AP50)")
    axes.set_box_aspect(1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")


def _draw_matrix(axes, names, counts: np.ndarray, shown: np.ndarray, score: float) -> None:
    names, counts = [names[k] for k in shown], counts[np.ix_(shown, shown)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(names))
    small = 8 if len(names) <= NUMBERED else 5
    axes.set_xticks(ticks, names, rotation=90, fontsize=small)
    axes.set_yticks(ticks, names, fontsize=small)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Detections at score ≥ {score:g}, IoU 0.5 (colour: share of the row)")
    if len(names) <= NUMBERED:
        for (i, j), n in np.ndenumerate(counts):
            if n:
                ink = "white" if share[i, j] > 0.5 else "black"
                axes.text(j, i, str(n), ha="center", va="center", color=ink, fontsize=8)


def _draw_sizes(axes, scores: CocoScores) -> None:
    bars = {
        "all": "mAP",
        "small\n< 32²": "mAP_small",
        "medium": "mAP_medium",
        "large\n> 96²": "mAP_large",
    }
    values = np.array([scores.summary[key] for key in bars.values()])
    axes.bar(list(bars), np.nan_to_num(values), color=["black", "#d1495b", "#edae49", "#00798c"])
    for i, value in enumerate(values):
        text = "absent" if np.isnan(value) else f"{value:.3f}"
        axes.text(i, np.nan_to_num(value) + 0.01, text, ha="center")
    axes.set_box_aspect(1.3)
    axes.set(ylim=(0, 1.05), ylabel="AP, mean over IoU 0.50:0.95", title="AP by size of the object")
