"""Step 2: the luminance of every node in the tables, without loss, a file a frame.

`blocks/<sequence>/<cq>_<frame>_<size>.bin` is uint16, little-endian, `[n p p]` in the order of the
table's rows of that size, with p = size + 2 context: pixels around a block may come along, those
beyond the frame's edge being copies of the edge.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.dataset import labelling as step1
from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.progress import Progress
from jaxvision.cnn_av1.dataset.rows import Row
from jaxvision.cnn_av1.dataset.sources import STREAM, Source, pictures
from jaxvision.data.av1 import partitions
from jaxvision.data.av1.library import Library
from jaxvision.written import whole_file

STEP = "blocks"


def blocks_of(luma: np.ndarray, nodes: list[Row], size: int, *, context: int = 0) -> np.ndarray:
    """uint16 `[n p p]` of a frame's luminance `[h w]`, p = size + 2 context."""
    side = size + 2 * context
    if not nodes:
        return np.zeros((0, side, side), np.uint16)
    padded = np.pad(luma.astype(np.uint16), context, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    row, col = (np.array([getattr(n, k) for n in nodes]) for k in ("mi_row", "mi_col"))
    return windows[row * partitions.UNIT, col * partitions.UNIT]


def units(root: Path) -> dict[str, dict[str, records.Record]]:
    """Sequence -> quality -> record of its tables, in the order in which blocks follow one another.

    ValueError if there are none, or if the tables of one are not whole.
    """
    found: dict[str, dict[str, records.Record]] = {}
    for name in records.names(root, step1.STEP):
        record = records.finished(root, step1.STEP, name)
        if record is None:
            raise ValueError(f"{root}: tables of {name} are gone or cut off: run `tables` again")
        sequence, label = name.rsplit("/", 1)
        found.setdefault(sequence, {})[label] = record
    if not found:
        raise ValueError(f"{root} holds no tables: run `tables` or `import-logs` first")
    order = {s: sorted(of, key=lambda u: (not u.isdigit(), u.zfill(3))) for s, of in found.items()}
    return {s: {label: found[s][label] for label in order[s]} for s in found}


def sum_of(of: dict[str, records.Record]) -> str:
    """What a sequence's tables are, in a word that changes with any of them."""
    files = [(u, sorted((f, v["sha256"]) for f, v in r["files"].items())) for u, r in of.items()]
    return hashlib.sha256(repr(files).encode()).hexdigest()


def parts(root: Path, sequence: str, of: dict[str, records.Record]) -> Iterator[tuple[Path, Path]]:
    """Table and stem of the blocks' files, for each quality and frame of a sequence, in order."""
    for label, record in of.items():
        for frame in sorted(map(int, record["luma"])):
            table = rows.table(root, sequence, label, frame)
            yield table, Path(root) / "blocks" / sequence / table.stem


def make_blocks(
    root: Path,
    *,
    sizes: tuple[int, ...] = (16,),
    context: int = 0,
    library: Callable[[], Library],
    say: Callable[[str], None] = print,
) -> None:
    """Writes the blocks of all sequences; `library` opens libaom, for sequences that are streams.

    Raises:
      ValueError: for a size that is none of 8, 16, 32, 64, for tables that are not whole, and where
        a source no longer has the pixels that it was labelled with.
    """
    wrong = [size for size in sizes if size not in partitions.NODE_SIZES]
    if wrong or not sizes or not 0 <= context <= 64:
        raise ValueError(f"sizes={wrong or sizes} are not of 8, 16, 32, 64; context={context} 0-64")
    root, found = Path(root), units(root)
    progress = Progress(len(found), "sequences", say=say)
    for sequence, of in found.items():
        made_of = {"tables": sum_of(of), "context": context}
        stale = [size for size in sizes if not _known(root, f"{sequence}_{size}", made_of)]
        if not stale:
            progress.skipped()
            continue
        made = _make(root, sequence, of, stale, context, library)
        for size in stale:
            facts = {"context": context, "size": size, "count": made[size][1]}
            name = f"{sequence}_{size}"
            records.finish(root, STEP, name, made_of=made_of, files=made[size][0], facts=facts)
        told = ", ".join(f"{made[size][1]} of {size}" for size in stale)
        progress.made(f"{sequence}: blocks {told}")
    progress.end()


def _known(root: Path, name: str, made_of: records.Record) -> bool:
    record = records.finished(root, STEP, name)
    return record is not None and record["made_of"] == made_of


def _make(root, sequence, of, sizes, context, library) -> dict[int, tuple[list[Path], int]]:
    """Size -> files and the number of blocks in them."""
    for size in sizes:  # void from now on, until the new one is written
        records.place(root, STEP, f"{sequence}_{size}").unlink(missing_ok=True)
    source = Source.from_json(next(iter(of.values()))["made_of"]["source"])
    made: dict[int, tuple[list[Path], int]] = {size: ([], 0) for size in sizes}
    lacking = {(label, int(frame)) for label, record in of.items() for frame in record["luma"]}
    for number, planes in pictures(source, library() if source.kind == STREAM else None):
        labels = [label for label, record in of.items() if str(number) in record["luma"]]
        luma_sum = step1.luma_sum(planes[0]) if labels else None
        for label in labels:
            if of[label]["luma"][str(number)] != luma_sum:
                raise ValueError(
                    f"{source.place}: frame {number} has other pixels than when it was labelled: "
                    f"delete {root / 'records' / step1.STEP / sequence} and label it again"
                )
            lacking.discard((label, number))
            table = rows.table(root, sequence, label, number)
            nodes = rows.read_rows(table)
            for size in sizes:
                chosen = [node for node in nodes if node.size == size]
                stem = root / "blocks" / sequence / table.stem
                path = stem.with_name(f"{stem.name}_{size}.bin")
                _write(path, blocks_of(planes[0], chosen, size, context=context))
                made[size] = [*made[size][0], path], made[size][1] + len(chosen)
    if lacking:
        label, number = min(lacking)
        raise ValueError(f"{source.place}: frame {number} is gone since it was labelled ({label})")
    return made


def _write(path: Path, blocks: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(blocks.astype("<u2").tobytes())
