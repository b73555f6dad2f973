"""Sets of the seed's layout, folders without a manifest, to sets with one.

`intra_raw_blocks/`, `labels/` and `qps/` hold a file a sequence and size: `Beauty_16.bin` in all
three (labels and QPs uint8), or, as the seed's own scripts name them, `Beauty_sample_16.txt` (in
spite of its name the pixels), `Beauty_labels_16_intra.txt` and `Beauty_qps_16_intra.txt` (numbers
as text). Blocks are uint16, little-endian, of 10 bits.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.align import check_counts, labels_of
from jaxvision.cnn_av1.dataset.check import check_labels, check_pixels
from jaxvision.cnn_av1.dataset.manifest import NAME, STEP, write_manifest
from jaxvision.cnn_av1.dataset.merge import merged
from jaxvision.cnn_av1.dataset.sources import sequence_name
from jaxvision.data.av1 import partitions
from jaxvision.written import whole_file

DEPTH = 10
FORMS = {
    "intra_raw_blocks": ("{}_{size}.bin", "{}_sample_{size}.txt"),
    "labels": ("{}_{size}.bin", "{}_labels_{size}_intra.txt"),
    "qps": ("{}_{size}.bin", "{}_qps_{size}_intra.txt"),
}


def import_raw(
    root: Path,
    folder: Path,
    *,
    size: int = 16,
    share: float = 0.2,
    seed: int = 42,
    val: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Checks and copies the blocks of one size, each sequence a source of its own.

    Raises:
      ValueError: where a folder or a sequence's labels or QPs are missing, where they are not as
        many as its blocks (with the three counts), and for values out of range.
    """
    if size not in partitions.NODE_SIZES:
        raise ValueError(f"size={size} is none of 8, 16, 32, 64")
    root, folder = Path(root), Path(folder)
    sequences = _sequences(folder, size)
    (root / NAME).unlink(missing_ok=True)
    for name, (blocks, labels_file, qps_file) in sequences.items():
        labels, qps = _bytes(labels_file), _bytes(qps_file)
        count = check_counts(blocks, size**2, len(labels), len(qps))
        check_labels(labels_file, labels, size)
        pixels = np.fromfile(blocks, "<u2")
        check_pixels(blocks, pixels, DEPTH)
        sequence = sequence_name(name)
        places = merged(root, sequence, size), *labels_of(root, sequence, size)[:2]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(places[0]) as part:
            shutil.copyfile(blocks, part)
        for place, values in zip(places[1:], (labels, qps), strict=True):
            with whole_file(place) as part:
                part.write_bytes(values.tobytes())
        about = {"name": sequence, "source": sequence, "kind": "raw", "split": None, "variant": 0}
        about |= {"place": blocks.name, "depth": DEPTH, "labels": "imported", "encoder": None}
        facts = {"size": size, "context": 0, "count": count, "of": {}, "sequence": about}
        made_of = {"folder": str(folder.absolute())}
        records.finish(
            root, STEP, f"{sequence}_{size}", made_of=made_of, files=list(places), facts=facts
        )
        say(f"{sequence}: {count} blocks of {size}")
    say(f"{write_manifest(root, share=share, seed=seed, val=val, say=say)}: written")


def _sequences(folder: Path, size: int) -> dict[str, tuple[Path, Path, Path]]:
    """Name -> its three files."""
    for name in FORMS:
        if not (folder / name).is_dir():
            raise ValueError(f"{folder} has no folder {name}: the layout is {', '.join(FORMS)}")
    found: dict[str, dict[str, Path]] = {}
    for name, forms in FORMS.items():
        patterns = [re.escape(form.format("*", size=size)).replace(r"\*", "(.+)") for form in forms]
        for path in sorted((folder / name).iterdir()):
            match = next((m for p in patterns if (m := re.fullmatch(p, path.name))), None)
            if match:
                found.setdefault(match[1], {})[name] = path
    if not found:
        raise ValueError(f"{folder} holds no blocks of {size}: there is no *_{size}.bin in it")
    for sequence, files in found.items():
        lacking = [name for name in FORMS if name not in files]
        if lacking:
            raise ValueError(f"{folder}: {sequence} has no {' and no '.join(lacking)} of {size}")
    return {name: tuple(files[form] for form in FORMS) for name, files in found.items()}


def _bytes(path: Path) -> np.ndarray:
    """Labels or QPs as uint8 `[n]`."""
    if path.suffix == ".bin":
        return np.fromfile(path, np.uint8)
    words = path.read_text(encoding="utf-8", errors="replace").split()
    wrong = next((w for w in words if not w.isdecimal() or int(w) > 255), None)
    if wrong is not None:
        raise ValueError(f"{path}: {wrong[:20]!r} is no number from 0 to 255")
    return np.array(words, np.uint8) if words else np.zeros(0, np.uint8)
