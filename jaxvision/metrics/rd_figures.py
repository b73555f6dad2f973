"""The picture of a comparison of codecs: quality over bits per pixel."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike

from jaxvision.draw import class_colour
from jaxvision.fonts import families

PANELS = ("PSNR (dB)", "MS-SSIM (dB)")
MARKERS = "osD^vP*X<>"
DARKER = 0.85  # of the palette of boxes, whose colours are bright for dark photographs
SCALES = ("log", "linear")
TICKS = tuple(m * 10.0**e for e in range(-4, 3) for m in (1, 2, 5))


def rd_figure(
    stem: Path,
    curves: Mapping[str, ArrayLike],
    *,
    scale: str = "log",
    bold: str | None = None,
    title: str = "",
) -> tuple[Path, Path]:
    """Writes `stem`.pdf and `stem`.png and returns both paths.

    Args:
        curves: name of a codec -> `[n 3]` of bits per pixel, PSNR and MS-SSIM, both in dB. Points
            without a finite quality are left out of that panel.
        scale: of the bits per pixel, "log" or "linear".
        bold: the name of the codec that the picture is about.
    """
    curves = {name: np.asarray(points, np.float64) for name, points in curves.items()}
    _check(curves, scale, bold)
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = stem.with_name(stem.name + ".pdf"), stem.with_name(stem.name + ".png")
    # 42: letters as letters, which can be searched and edited
    style = {"font.family": families([*curves, title]), "pdf.fonttype": 42}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # told by families()
        figure = Figure(figsize=(13, 5.2), layout="constrained")
        FigureCanvasPdf(figure)
        for column, axes in enumerate(figure.subplots(1, 2), 1):
            _draw(axes, curves, column, scale, bold)
        lines, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(lines, names, fontsize=9, loc="outside right center")
        if title:
            figure.suptitle(title.replace("$", r"\$"))
        figure.savefig(paths[0], metadata={"CreationDate": None})  # the same input, the same file
        figure.savefig(paths[1], dpi=130)
    return paths


def _check(curves: Mapping[str, np.ndarray], scale: str, bold: str | None) -> None:
    if not curves:
        raise ValueError("there are no curves to draw")
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r} is unknown; there are {', '.join(SCALES)}")
    if bold is not None and bold not in curves:
        raise ValueError(f"bold {bold!r} is none of the curves {', '.join(curves)}")
    for name, points in curves.items():
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise ValueError(f"curve {name!r} must be [n 3], n >= 1, not {points.shape}")
        if not (points[:, 0] > 0).all():
            raise ValueError(f"curve {name!r} has {points[:, 0].min()} bits per pixel")


def _draw(
    axes, curves: Mapping[str, np.ndarray], column: int, scale: str, bold: str | None
) -> None:
    for k, (name, points) in enumerate(curves.items()):
        points = points[np.isfinite(points[:, column])]
        points = points[np.argsort(points[:, 0])]
        axes.plot(
            points[:, 0],
            points[:, column],
            color="black" if name == bold else DARKER * np.array(class_colour(k)) / 255,
            marker=MARKERS[k % len(MARKERS)],  # tells curves apart without colours
            markersize=4,
            linewidth=2.5 if name == bold else 1.2,
            zorder=3 if name == bold else 2,
            label=name.replace("$", r"\$"),
        )
    axes.set_xscale(scale)
    if scale == "log":
        rates = np.concatenate([points[:, 0] for points in curves.values()])
        ticks = [t for t in TICKS if rates.min() / 1.3 < t < rates.max() * 1.3]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=f"bits per pixel ({scale})", ylabel=PANELS[column - 1])
    axes.grid(alpha=0.3, which="both")
