"""`RESULTS.md`, written from the tables of a report: what their numbers say, and no more."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxvision.baselines.compare import METRICS, Comparison, mean_curve, points
from jaxvision.baselines.measure import Row
from jaxvision.baselines.report import markdown
from jaxvision.metrics.bd_rate import quality_overlap
from jaxvision.wavenet_mv.report import facts as about
from jaxvision.wavenet_mv.report import others, rates
from jaxvision.wavenet_mv.report.facts import Facts
from jaxvision.wavenet_mv.report.rates import NAME, Rate
from jaxvision.written import whole_file

FEW = 10  # pictures
UNITS = {"PSNR": "dB", "MS-SSIM": "dB"}


def write(workdir: Path, facts: Facts, missing: Mapping[str, str] | None = None) -> None:
    """From `codec.csv`, and `baselines.csv` and `tasks.csv` where there are any."""
    workdir = Path(workdir)
    measured = rates.read(workdir / "codec.csv")
    there = (workdir / "baselines.csv").is_file()
    rows = others.read_rows(workdir / "baselines.csv") if there else []
    sections = [
        ["# Results", *about.sentences(facts)],
        ["## Files", *files(measured, facts.lambdas)],
        ["## Against other codecs", *against(measured, rows, missing or {})],
        ["## Tasks", *tasks(workdir / "tasks.csv")],
        ["## Limits", *limits(measured, facts)],
    ]
    text = "\n\n".join("\n\n".join(section) for section in sections) + "\n"
    with whole_file(workdir / "RESULTS.md") as part:
        part.write_text(text, encoding="utf-8")


def means(measured: Sequence[Rate]) -> dict[float, dict[str, float]]:
    """Quality -> means over pictures, quality by quality; times are those of a megapixel."""
    found = {}
    for quality in sorted({rate.quality for rate in measured}):
        own = [rate for rate in measured if rate.quality == quality]
        names = ("weight", "bpp", "model_bpp", "psnr", "ms_ssim", "encode_s", "decode_s")
        found[quality] = {n: float(np.mean([getattr(r, n) for r in own])) for n in names}
        found[quality]["over"] = found[quality]["bpp"] / found[quality]["model_bpp"]
        megapixels = sum(8e-6 * r.bytes / r.bpp for r in own)
        for name in ("encode", "decode"):
            seconds = sum(getattr(r, f"{name}_s") for r in own)
            found[quality][f"{name}_rate"] = megapixels / seconds if seconds else math.inf
    return found


def files(measured: Sequence[Rate], lambdas: Sequence[int]) -> list[str]:
    """The table of means at the model's lambdas, and whether files keep what they promise."""
    table = means(measured)
    names = ["λ", "BPP", "PSNR", "MS-SSIM", "file / model", "encode s", "decode s", "decode MP/s"]
    lines = []
    for values in (table[q] for q in table if float(q).is_integer()):
        cells = ("weight", "bpp", "psnr", "ms_ssim", "over", "encode_s", "decode_s", "decode_rate")
        shown = ("{:.0f}", "{:.4f}", "{:.2f}", "{:.4f}", "{:.4f}", "{:.3f}", "{:.3f}", "{:.2f}")
        numbers = (f.format(values[c]) for c, f in zip(cells, shown, strict=True))
        lines.append([n.replace("nan", "–") for n in numbers])
    pictures = {rate.picture for rate in measured}
    wrong = [rate for rate in measured if not rate.same]
    kept = f"All {len(measured)} files decode to the pixels that the encoder meant."
    if wrong:
        named = ", ".join(f"{r.picture} at quality {r.quality:g}" for r in wrong[:5])
        kept = f"{len(wrong)} of {len(measured)} files decode to other pixels: {named}."
    over = [100 * (values["over"] - 1) for values in table.values()]
    coded = ""
    if np.isfinite(over).all():
        coded = (
            f" Beside what the model's own probabilities ask for, files are {min(over):+.2f} to "
            f"{max(over):+.2f} %, headers and checksums included."
        )
    title = f"{_counted(len(pictures), 'picture')}, means; λ {', '.join(map(str, lambdas))}."
    return [title, markdown(names, lines).rstrip(), kept + coded]


def against(measured: Sequence[Rate], rows: Sequence[Row], missing: Mapping[str, str]) -> list[str]:
    """BD-rates with intervals, and a sentence for each codec and metric."""
    text = [f"- {name}: not run: {reason}" for name, reason in missing.items()]
    absent = ["\n".join(text)] if text else []
    if not rows:
        return ["No other codec was measured.", *absent]
    ours = [rate.row() for rate in measured]
    found = others.savings(ours, rows)
    lines = [
        [
            name,
            *(f"{_interval(metrics[m])}" for m in METRICS),
            *(_curve(metrics[m]) for m in METRICS),
        ]
        for name, metrics in found.items()
    ]
    names = ["BD-rate against", *METRICS, *(f"{m} of mean curves" for m in METRICS)]
    said = [
        f"- {_sentence(name, metric, comparison, [*ours, *rows])}"
        for name, metrics in found.items()
        for metric, comparison in metrics.items()
    ]
    return [
        "Bits saved (below 0) or spent at equal quality: means over pictures with the bootstrap "
        "95 % interval; ![curves](fig/rd.png)",
        markdown(names, lines).rstrip(),
        "\n".join(said),
        *absent,
    ]


def _sentence(name: str, metric: str, found: Comparison | str, rows: Sequence[Row]) -> str:
    if isinstance(found, str):
        return f"{name}, {metric}: no BD-rate: {found}."
    mean, low, high = found.images.mean, found.images.low, found.images.high
    curves = points(rows)
    columns = [0, METRICS[metric]]
    both = (mean_curve(curves[codec])[:, columns] for codec in (name, NAME))
    try:
        least, most = quality_overlap(*both)
        span = f", from {least:.1f} to {most:.1f} {UNITS[metric]} of the mean curves"
    except ValueError:
        span = ""
    size = f"{abs(mean):.1f} % {'fewer' if mean < 0 else 'more'} bits than {name}"
    sure = f"over {_counted(len(found.images.images), 'picture')}"
    if math.isnan(low):
        return f"At equal {metric} its files take {size} {sure}, of which no interval{span}."
    between = f"[{low:+.1f}, {high:+.1f}] %"
    if low <= 0 <= high:
        said = f"it cannot be told from {name}: {mean:+.1f} %"
        return f"At equal {metric} {said}, {between} {sure}{span}."
    return f"At equal {metric} its files take {size}, {between} {sure}{span}."


def tasks(path: Path) -> list[str]:
    """`tasks.csv` as it is, and how each score moves from the lowest lambda to the highest."""
    if not path.is_file():
        return ["No heads were measured."]
    with path.open(newline="", encoding="utf-8") as file:
        names, *lines = list(csv.reader(file))
    if not lines:
        return ["No heads were measured."]
    shown = [[line[0], *(f"{float(v):.4f}" for v in line[1:])] for line in lines]
    said = []
    for column, name in enumerate(names):
        if name in ("lambda", "bpp") or len(lines) < 2:
            continue
        first, last = float(lines[0][column]), float(lines[-1][column])
        said.append(f"{name} {first:.3f} → {last:.3f} ({last - first:+.3f})")
    ends = f"From λ = {lines[0][0]} to {lines[-1][0]}: {', '.join(said)}." if said else ""
    text = [
        "Heads on decoded features, on pictures that were held out.",
        markdown(names, shown).rstrip(),
    ]
    return [*text, ends] if ends else text


def limits(measured: Sequence[Rate], facts: Facts) -> list[str]:
    """What the numbers do not say."""
    pictures = {rate.picture for rate in measured}
    small = {rate.picture for rate in measured if math.isnan(rate.ms_ssim)}
    tiled = {rate.picture for rate in measured if math.isnan(rate.model_bpp)}
    said = [
        f"{_counted(len(pictures), 'picture')}: "
        + (
            "no interval" if len(pictures) < 2 else "the intervals are over pictures, not over runs"
        ),
        "each time is of one file, after one of the same size; other load on the machine counts",
    ]
    if 1 < len(pictures) < FEW:
        said.append(f"of fewer than {FEW} pictures a bootstrap's interval is too narrow")
    if not facts.stages:
        said.append("whether and how the model was trained is not known here")
    if small:
        said.append(f"no MS-SSIM of {_counted(len(small), 'picture')}, too small for five scales")
    if tiled:
        said.append(f"no model bits of {_counted(len(tiled), 'picture')} coded in tiles")
    return ["\n".join(f"- {line}." for line in said)]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _interval(found: Comparison | str) -> str:
    if isinstance(found, str):
        return "none"
    images = found.images
    between = "" if math.isnan(images.low) else f" [{images.low:+.1f}, {images.high:+.1f}]"
    return f"{images.mean:+.1f} %{between}"


def _curve(found: Comparison | str) -> str:
    return "none" if isinstance(found, str) else f"{found.curve:+.1f} %"
