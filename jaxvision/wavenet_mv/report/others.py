"""The other codecs on the same pictures, and what this one saves against each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxvision.baselines.catalogue import available
from jaxvision.baselines.codec import CodecError
from jaxvision.baselines.compare import Comparison, compare, mean_curve, points
from jaxvision.baselines.measure import Results, Row, measure
from jaxvision.metrics.rd_figures import rd_figure
from jaxvision.wavenet_mv.report.rates import NAME
from jaxvision.written import whole_file

ANCHOR = "jpeg-420"  # runs everywhere
OTHERS = (
    *(ANCHOR, "webp", "jpeg-2000", "jpeg-xl", "avif-444"),
    *("hevc-444", "av1-420", "vvc-faster"),
)


def measure_others(
    pictures: Mapping[str, np.ndarray],
    names: Sequence[str] = OTHERS,
    *,
    echo: Callable[[str], None] = print,
) -> tuple[list[Row], dict[str, str]]:
    """Rows of the codecs that run here, at their own qualities, and why the others do not."""
    found = available(names)
    rows, missing = [], dict(found.missing)
    for name, codec in found.codecs.items():
        try:
            own = [
                measure(codec, image, quality, name=picture)
                for quality in codec.qualities
                for picture, image in pictures.items()
            ]
        except CodecError as error:
            missing[name] = str(error)
            continue
        rows += own
        echo(f"{name}: {len(own)} files")
    return rows, missing


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """`baselines.csv`, which `read_rows` reads."""
    with whole_file(path) as part:
        results = Results(part)
        for row in rows:
            results.add(row)


def read_rows(path: Path) -> list[Row]:
    """ValueError for another file, FileNotFoundError for none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return list(Results(path).rows.values())


def savings(ours: Sequence[Row], others: Sequence[Row]) -> dict[str, dict[str, Comparison | str]]:
    """Other codec -> metric -> BD-rates of ours against it, or the reason why there are none."""
    names = dict.fromkeys(row.label for row in others)
    pairs = {name: [*ours, *(row for row in others if row.label == name)] for name in names}
    return {name: compare(rows, name)[NAME] for name, rows in pairs.items()}


def draw_curves(stem: Path, rows: Sequence[Row]) -> tuple[Path, Path]:
    """Mean quality over mean bits of every codec: `stem`.pdf and `stem`.png."""
    images = points(rows)
    curves = {name: mean_curve(found) for name, found in images.items()}
    count = len(images[NAME])
    title = f"{count} picture{'s' * (count != 1)}, means"
    stem.parent.mkdir(parents=True, exist_ok=True)
    hidden = rd_figure(stem.with_name(f".{stem.name}"), curves, bold=NAME, title=title)
    paths = tuple(path.with_name(path.name.removeprefix(".")) for path in hidden)
    for part, path in zip(hidden, paths, strict=True):
        part.replace(path)
    return paths
