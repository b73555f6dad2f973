"""Step 4: labels and quantizers beside the blocks, one to one, and the manifest.

`labels/<sequence>_<size>.bin` uint8, partitions; `qps/<sequence>_<size>.bin` uint8, base indices;
`index/<sequence>_<size>.csv` the rows of the tables, where each block is from.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.dataset import blocks as step2
from jaxvision.cnn_av1.dataset import merge as step3
from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.manifest import NAME, STEP, write_manifest
from jaxvision.cnn_av1.dataset.progress import Progress
from jaxvision.written import whole_file


def labels_of(root: Path, sequence: str, size: int) -> tuple[Path, Path, Path]:
    """The places of labels, QPs and index."""
    root, name = Path(root), f"{sequence}_{size}"
    return (
        root / "labels" / f"{name}.bin",
        root / "qps" / f"{name}.bin",
        root / "index" / f"{name}.csv",
    )


def align(
    root: Path,
    *,
    share: float = 0.2,
    seed: int = 42,
    val: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Writes labels, QPs and index of all merged blocks, then `manifest.json` with the split.

    Raises:
      ValueError: where blocks are not merged, or are not as many as their labels.
    """
    root, found = Path(root), step2.units(root)
    names = step3.sizes_of(root)
    if not names:
        raise ValueError(f"{root} holds no blocks: run `blocks` and `merge` first")
    (root / NAME).unlink(missing_ok=True)  # void from now on
    progress = Progress(len(names), "files", say=say, pause=2)
    for sequence, size in names:
        name = f"{sequence}_{size}"
        joined = records.finished(root, step3.STEP, name)
        blocks = records.finished(root, step2.STEP, name)
        sums = {f: v["sha256"] for f, v in blocks["files"].items()} if blocks else None
        if joined is None or sequence not in found or joined["made_of"]["blocks"] != sums:
            raise ValueError(f"{root}: blocks {name} are not merged: run `merge` again")
        of = found[sequence]
        made_of = {"tables": step2.sum_of(of), "merged": joined["files"]}
        record = records.finished(root, STEP, name)
        if record and record["made_of"] == made_of:
            progress.skipped()
            continue
        _align(root, sequence, size, of, joined, made_of)
        progress.made(f"{name}: {joined['count']} labels")
    progress.end()
    say(f"{write_manifest(root, share=share, seed=seed, val=val, say=say)}: written")


def _align(root, sequence, size, of, joined, made_of):
    nodes = [
        node
        for table, _ in step2.parts(root, sequence, of)
        for node in rows.read_rows(table)
        if node.size == size
    ]
    path = step3.merged(root, sequence, size)
    check_counts(path, (size + 2 * joined["context"]) ** 2, len(nodes), len(nodes))
    places = labels_of(root, sequence, size)
    for place, values in zip(
        places[:2], ([n.partition for n in nodes], [n.qindex for n in nodes]), strict=True
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as part:
            part.write_bytes(np.array(values, np.uint8).tobytes())
    rows.write_rows(places[2], nodes)
    first = next(iter(of.values()))
    source = first["made_of"]["source"]
    made = [record["made_of"] for record in of.values()]
    encoders = [one["encoder"] for one in made if "encoder" in one]
    about = {
        "name": sequence,
        **{key: source[key] for key in ("source", "kind", "split", "variant")},
        "place": Path(source["place"]).name,
        **{key: first[key] for key in ("width", "height", "depth")},
        "qualities": list(of),
        "labels": _told(source["kind"], list(of)),
        "encoder": encoders[0] if encoders else None,
        "frames": {label: len(record["luma"]) for label, record in of.items()},
        **{key: sum(record[key] for record in of.values()) for key in ("hidden", "compared")},
        "edge": {str(s): _sum(of, "edge", str(s)) for s in (64, 32, 16, 8)},
        "luma": {frame: total for record in of.values() for frame, total in record["luma"].items()},
    }
    tables = {file: facts for record in of.values() for file, facts in record["files"].items()}
    records.finish(
        root,
        STEP,
        f"{sequence}_{size}",
        made_of=made_of,
        files=list(places),
        of=joined["files"] | tables,
        sequence=about,
        **{key: joined[key] for key in ("size", "context", "count")},
    )


def _sum(of, key: str, size: str) -> int:
    return sum(record[key].get(size, 0) for record in of.values())


def _told(kind: str, labels: list[str]) -> str:
    """Whose decisions on which pixels the labels are."""
    if kind == "stream":
        return "of an AV1 stream; the pixels are the decoded ones"
    return "of an encoder's log" if labels == ["log"] else "of an encoder, on its input's pixels"


def check_counts(path: Path, pixels: int, labels: int, qps: int) -> int:
    """The number of blocks in a file; ValueError, with all three counts, if they are unequal."""
    data = path.stat().st_size
    blocks, rest = divmod(data, 2 * pixels)
    if rest or not blocks == labels == qps:
        whole = f"{blocks} blocks" + (f" and {rest} bytes" if rest else "")
        raise ValueError(
            f"{path}: {whole}, {labels} labels, {qps} QPs: all three must be as many (blocks are "
            f"{pixels} pixels of 16 bits)"
        )
    return blocks
