"""The threshold of stage 1: below which probability of a partition a block is left whole."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.cnn_av1.classes import BINARY, NONE, TYPES
from jaxvision.metrics import classes
from jaxvision.written import whole_file

GRID = np.round(np.arange(0.05, 0.96, 0.05), 2)


def sweep(binary: np.ndarray, parts: np.ndarray, truth: np.ndarray) -> list[dict[str, float]]:
    """A row for each threshold: F1 of stage 1, accuracy and macro-F1 of the ten types.

    `binary [n]` are probabilities of a partition, `parts [n]` the types chosen if there is one,
    `truth [n]` the labels.
    """
    rows = []
    for threshold in GRID:
        partitioned = binary >= threshold
        stage = classes.scores(classes.confusion(truth != NONE, partitioned, len(BINARY)))
        found = np.where(partitioned, parts, NONE)
        types = classes.scores(classes.confusion(truth, found, len(TYPES)))
        rows.append(
            {
                "threshold": float(threshold),
                "stage1_f1": float(stage.f1[1]),
                "stage1_macro_f1": stage.macro_f1,
                "accuracy": types.accuracy,
                "macro_f1": types.macro_f1,
            }
        )
    return rows


def best(rows: list[dict[str, float]], metric: str = "macro_f1") -> float:
    """The threshold with the highest value; of equals the one nearest to one half."""
    return max(rows, key=lambda row: (row[metric], -abs(row["threshold"] - 0.5)))["threshold"]


def write(folder: Path, rows: list[dict[str, float]]) -> None:
    """`thresholds.csv` and `thresholds.png`."""
    with whole_file(folder / "thresholds.csv") as part:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: f"{v:.4f}" for k, v in row.items()} for row in rows)
    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name in list(rows[0])[1:]:
        axes.plot([row["threshold"] for row in rows], [row[name] for row in rows], label=name)
    axes.axvline(best(rows), color="grey", linestyle=":")
    axes.set(xlabel="threshold of stage 1", ylabel="score", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with whole_file(folder / "thresholds.png") as part:
        figure.savefig(part, format="png")
