"""The command line of the baselines: a table of codecs on a folder of images."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from jaxvision.baselines.catalogue import available, dvc
from jaxvision.baselines.codec import Codec, CodecError
from jaxvision.baselines.compare import compare, mean_curve, points
from jaxvision.baselines.measure import Results, checksum, measure, rate_of
from jaxvision.baselines.report import bd_table, table
from jaxvision.data.images import read_image
from jaxvision.data.video import IMAGES, is_image
from jaxvision.errors import one_line
from jaxvision.metrics.rd_figures import rd_figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvision.baselines",
        description="Measures classical codecs on a folder of images. Interrupted, it goes on "
        "where it stopped when it is started again.",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="folder of images")
    parser.add_argument(
        "--codecs",
        nargs="+",
        metavar="NAME[:Q,Q]",
        help="codecs, with qualities of your choice (all that run here, with their own)",
    )
    parser.add_argument("--output", type=Path, default="results.csv", help="CSV (results.csv)")
    parser.add_argument("--anchor", help="codec that BD-rates compare with")
    parser.add_argument("--figure", type=Path, help="writes FIGURE.pdf and FIGURE.png")
    parser.add_argument("--dvc-checkpoint", type=Path, help="weights of DVC, whose authors have it")
    parser.add_argument("--list", action="store_true", help="tell which codecs run here, and end")
    options = parser.parse_args(arguments)
    try:
        if options.list:
            return _list()
        if options.folder is None:
            raise ValueError("name a folder of images, or --list")
        return _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, {'--output': Path(options.output)})}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {options.output}", file=sys.stderr)
        return 130


def _list() -> int:
    found = available()
    for name, codec in found.codecs.items():
        print(f"{name:14} qualities {', '.join(f'{q:g}' for q in codec.qualities)}")
    for name, reason in found.missing.items():
        print(f"{name:14} missing: {reason}")
    print(f"{'dvc':14} {dvc()}")
    return 0


def _run(options: argparse.Namespace) -> int:
    chosen = _chosen(options.codecs)
    not_run = [dvc(options.dvc_checkpoint)]
    images = _images(options.folder)
    results = Results(options.output)
    wanted, todo = _jobs(chosen, images, results)
    print(f"{len(images)} images, {len(wanted)} results, {len(wanted) - len(todo)} are there")
    failures = []
    for number, (path, codec, quality) in enumerate(todo, 1):
        what = f"{codec.name} {quality:g} {path.name}"
        try:
            row = measure(codec, read_image(path), quality, name=path.name)
        except CodecError as error:
            failures.append(f"{what}: {error}")
            continue
        results.add(row)
        print(f"{number}/{len(todo)} {what}: {row.bpp:.3f} bpp, {row.psnr:.2f} dB", flush=True)
    rows = [results.rows[key] for key in wanted if key in results.rows]
    print("\n" + table(rows, not_run))
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if options.anchor:
        print(bd_table(compare(rows, options.anchor), options.anchor))
    if options.figure:
        curves = {name: mean_curve(images) for name, images in points(rows).items()}
        print("drawn:", *rd_figure(options.figure, curves, title=f"{len(images)} images"))
    return 1 if failures else 0


def _chosen(names: list[str] | None) -> list[tuple[Codec, tuple[float, ...]]]:
    """Codecs with the qualities to measure."""
    if names is None:
        found = available()
        for name, reason in found.missing.items():
            print(f"{name} is left out: {reason}")
        return [(codec, codec.qualities) for codec in found.codecs.values()]
    parts = [name.partition(":") for name in names]
    found = available(name for name, _, _ in parts)
    for name, reason in found.missing.items():
        raise ValueError(f"{name} cannot run: {reason}")
    return [(found.codecs[n], _qualities(n, q) or found.codecs[n].qualities) for n, _, q in parts]


def _qualities(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(int(q) if q.isdigit() else float(q) for q in text.split(",") if q)
    except ValueError as error:
        raise ValueError(f"--codecs {name}:{text} must be numbers, as {name}:20,50") from error


def _images(folder: Path) -> dict[Path, str]:
    """The images of a folder with their checksums; all are read, so that a bad one is told now."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.iterdir() if is_image(p))
    if not paths:
        raise ValueError(f"{folder} holds no image ({' '.join(sorted(IMAGES))})")
    return {path: checksum(read_image(path)) for path in paths}


def _jobs(chosen, images: dict[Path, str], results: Results):
    """The keys of all rows wanted, and what has to be measured for those not there yet."""
    wanted, todo = [], []
    for codec, quality, path in _grid(chosen, images):
        key = (codec.name, f"{quality:g}", path.name, images[path], rate_of(codec))
        wanted.append(key)
        if key not in results.rows:
            todo.append((path, codec, quality))
    return wanted, todo


def _grid(chosen, images) -> Iterator[tuple[Codec, float, Path]]:
    return ((codec, q, path) for codec, qualities in chosen for q in qualities for path in images)


if __name__ == "__main__":
    sys.exit(main())
