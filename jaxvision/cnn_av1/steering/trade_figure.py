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

GROUPS = {"libaom's presets": "s", "oracles": "*", "steered": "o"}
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


def group(name: str) -> str:
    """Which of GROUPS a contestant belongs to."""
    presets, oracles, steered = GROUPS
    return presets if name.startswith("cpu-used") else oracles if "oracle" in name else steered


def _draw(axes, means: Sequence[Trade], across: Sequence[float]) -> None:
    for k, (kind, marker) in enumerate(GROUPS.items()):
        chosen = [i for i, trade in enumerate(means) if group(trade.name) == kind]
        if not chosen:
            continue
        x = 100 * np.array([across[i] for i in chosen])
        y = np.array([means[i].bd_rate for i in chosen])
        colour = DARKER * np.array(class_colour(k)) / 255
        line = "-" if k == 0 else ""
        axes.plot(x, y, marker=marker, linestyle=line, color=colour, label=kind, markersize=7)
        for i, at in zip(chosen, zip(x, y, strict=True), strict=True):
            axes.annotate(means[i].name, at, fontsize=7, xytext=(4, 4), textcoords="offset points")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.grid(alpha=0.3)
