"""Whether a labelled set is whole: every file's sum, and as many labels and QPs as blocks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.align import check_counts, labels_of
from jaxvision.cnn_av1.dataset.manifest import read_manifest
from jaxvision.cnn_av1.dataset.merge import merged
from jaxvision.data.av1 import partitions


def check(root: Path, *, say: Callable[[str], None] = print) -> None:
    """Holds all files of `manifest.json` against it.

    Raises:
      ValueError: by name, for a file that is gone or changed, for unequal counts, and for labels or
        pixels that cannot be.
    """
    root = Path(root)
    manifest = read_manifest(root)
    check_files(root, manifest["files"])
    totals: dict[str, int] = {}
    for sequence, about in manifest["sequences"].items():
        for size, count in about["blocks"].items():
            check_sequence(root, manifest, sequence, int(size))
            totals[size] = totals.get(size, 0) + count
    told = ", ".join(f"{count} blocks of {size}" for size, count in sorted(totals.items()))
    say(f"{root}: {len(manifest['files'])} files and {told}, as in manifest.json")


def check_files(root: Path, files: records.Record) -> None:
    for name, facts in files.items():
        path = root / name
        if not path.is_file():
            raise ValueError(f"{path} is gone: run the steps again")
        if path.stat().st_size != facts["bytes"] or records.sha256(path) != facts["sha256"]:
            raise ValueError(f"{path} is not the file of manifest.json: run the steps again")


def check_sequence(root: Path, manifest: records.Record, sequence: str, size: int) -> None:
    """Counts and values of one sequence's blocks of one size."""
    about = manifest["sequences"][sequence]
    path = merged(root, sequence, size)
    labels, qps, index = labels_of(root, sequence, size)
    side = size + 2 * manifest["contexts"][str(size)]
    count = check_counts(path, side**2, labels.stat().st_size, qps.stat().st_size)
    wanted = about["blocks"][str(size)]
    if count != wanted:
        raise ValueError(f"{path}: {count} blocks, where manifest.json tells of {wanted}")
    if index.is_file() and len(rows.read_rows(index)) != count:
        raise ValueError(f"{index}: {len(rows.read_rows(index))} rows for {count} blocks")
    check_labels(labels, np.fromfile(labels, np.uint8), size)
    check_pixels(path, np.fromfile(path, "<u2"), manifest["depth"])


def check_labels(path: Path, labels: np.ndarray, size: int) -> None:
    wrong = ~np.isin(labels, partitions.possible(size))
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"{path}: label {at} is {labels[at]}, which no node of {size} pixels can have"
        )


def check_pixels(path: Path, pixels: np.ndarray, depth: int) -> None:
    if pixels.size and pixels.max() >= 1 << depth:
        raise ValueError(f"{path}: a pixel is {pixels.max()}, beyond {depth} bits")
