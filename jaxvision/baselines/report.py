"""Results in words: Markdown tables of the means and of BD-rates."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxvision.baselines.catalogue import NotRun
from jaxvision.baselines.compare import METRICS, Comparison
from jaxvision.baselines.measure import COLUMNS, NUMBERS, Row

FORMATS = dict(
    bpp="{:.3f}", psnr="{:.2f}", ms_ssim="{:.4f}", encode_ms="{:.0f}", decode_ms="{:.0f}"
)


def means(rows: Iterable[Row]) -> dict[tuple[str, str], tuple[int, dict[str, float]]]:
    """(codec, setting) -> number of images and the mean of every number."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.label, row.setting), []).append(row)
    return {
        key: (len(group), {n: float(np.mean([getattr(r, n) for r in group])) for n in NUMBERS})
        for key, group in groups.items()
    }


def table(rows: Iterable[Row], not_run: Sequence[NotRun] = ()) -> str:
    """The means over images of every codec and setting."""
    names = ["Codec", "Setting", "Images", *(COLUMNS[n] for n in NUMBERS)]
    lines = []
    for (codec, setting), (count, values) in means(rows).items():
        numbers = (FORMATS[n].format(values[n]).replace("nan", "–") for n in NUMBERS)
        lines.append([codec, setting, str(count), *numbers])
    lines += [[missing.name, "not run", *["–"] * (len(names) - 2)] for missing in not_run]
    return markdown(names, lines) + "".join(f"{m.name} {m}\n" for m in not_run)


def bd_table(found: Mapping[str, Mapping[str, Comparison | str]], anchor: str) -> str:
    """BD-rates against `anchor`: the mean over images with its interval, and of mean curves."""
    names = [f"BD-rate against {anchor}", *METRICS, *(f"{name} of mean curves" for name in METRICS)]
    lines, reasons = [], []
    for codec, metrics in found.items():
        lines.append([codec, *map(_images, metrics.values()), *map(_curve, metrics.values())])
        reasons += [f"{codec}, {k}: {v}\n" for k, v in metrics.items() if isinstance(v, str)]
    return markdown(names, lines) + "".join(reasons)


def _images(found: Comparison | str) -> str:
    if isinstance(found, str):
        return "none"
    rates = found.images
    interval = "" if np.isnan(rates.low) else f" [{rates.low:+.1f}, {rates.high:+.1f}]"
    return f"{rates.mean:+.1f} %{interval}"


def _curve(found: Comparison | str) -> str:
    return "none" if isinstance(found, str) else f"{found.curve:+.1f} %"


def markdown(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(names, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    rows = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in (names, rule, *lines)
    ]
    return "\n".join(rows) + "\n"
