"""The picture of a comparison: bits given up over time saved, and over search saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.cnn_av1.steering.comparison import MEAN, Trade
from jaxvision.draw import class_colour
from jaxvision.fonts import families

PRESETS, ORACLES, OTHERS = "libaom's presets", "oracles", "several taus"
MARKERS = {PRESETS: "s", ORACLES: "*", OTHERS: "D"}  # the rest: the model's curves over tau
DARKER = 0.8  # of the palette of boxes, whose colours are bright for dark photographs


def trade_figure(target: Path | BinaryIO, trades: Sequence[Trade], *, title: str = "") -> None:
    """Writes a PNG of the means over clips; presets are joined by a line."""
    means = [trade for trade in trades if trade.clip == MEAN]
    if not means:
        raise ValueError("there are no trades to draw")
    with matplotlib.rc_context({"font.family": families([title])}):
        figure = Figure(figsize=(13, 5.2), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        _draw(left, means, [trade.time_saved_in_all for trade in means])
        _draw(right, means, [trade.search_saved for trade in means])
        left.set(xlabel="encoder's and model's time saved (%)", ylabel="BD-rate of PSNR-Y (%)")
        right.set(xlabel="luma pixels not searched (%)")
        lines, names = left.get_legend_handles_labels()
        figure.legend(lines, names, fontsize=9, loc="outside lower center", ncols=len(names))
        if title:
            figure.suptitle(title.replace("$", r"\$"))
        figure.savefig(target, format="png")


def group(name: str) -> tuple[str, str]:
    """The curve that a contestant is a point of, and the point's name there."""
    if name.startswith("cpu-used"):
        return PRESETS, name
    if name.startswith("oracle"):
        return ORACLES, name.removeprefix("oracle, ")
    levels, _, tau = name.partition("@")
    return (f"model at {levels}", tau) if name.count("@") == 1 else (OTHERS, name)


def _draw(axes, means: Sequence[Trade], across: Sequence[float]) -> None:
    points = [
        (*group(trade.name), 100 * x, trade.bd_rate) for trade, x in zip(means, across, strict=True)
    ]
    for k, kind in enumerate(dict.fromkeys(point[0] for point in points)):
        chosen = sorted((point[1:] for point in points if point[0] == kind), key=lambda p: p[1])
        colour = DARKER * np.array(class_colour(k)) / 255
        axes.plot(
            [x for _, x, _ in chosen],
            [y for _, _, y in chosen],
            marker=MARKERS.get(kind, "o"),
            linestyle="" if kind in (ORACLES, OTHERS) else "-",
            color=colour,
            label=kind,
        )
        for name, x, y in chosen:
            axes.annotate(name, (x, y), fontsize=7, xytext=(3, 4), textcoords="offset points")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlim(min(0, *(x for *_, x, _ in points)) - 2, 105)
    axes.grid(alpha=0.3)
