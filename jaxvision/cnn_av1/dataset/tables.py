"""Step 1: sources to tables of partition nodes, by encoding and decoding them with libaom."""

import concurrent.futures
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.progress import Progress
from jaxvision.cnn_av1.dataset.rows import Row
from jaxvision.cnn_av1.dataset.sources import STREAM, Source, depth_of, opened, stream_frames
from jaxvision.data.av1 import partitions, tree
from jaxvision.data.av1.decoder import LabelledFrame, labelled_frames
from jaxvision.data.av1.encoder import LABEL_OPTIONS, Encoder
from jaxvision.data.av1.library import Library

STEP = "tables"
LARGE = [i for i, size in enumerate(partitions.BLOCK_SIZES) if max(size) == 128]


class Unit(NamedTuple):
    """A sequence at one quality; `cq` is None where the sequence is an AV1 stream."""

    source: Source
    cq: int | None

    @property
    def label(self) -> str:
        return "stream" if self.cq is None else str(self.cq)

    @property
    def name(self) -> str:
        return f"{self.source.name}/{self.label}"


def make_tables(
    root: Path,
    sources: list[Source],
    library: Library,
    *,
    qualities: tuple[int, ...],
    cpu_used: int = 0,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Encodes each source at each quality (0-63) and writes its tables; streams are only decoded.

    Raises:
      ValueError: for qualities out of range, for sources of 8 and of 10 bits in one set, where the
        set's other labels were made by another library or with other options, and where a
        partition that the decoder tells is not that of the tree that the block sizes make.
    """
    if not qualities or not all(0 <= cq <= 63 for cq in qualities):
        raise ValueError(f"cq={','.join(map(str, qualities))}: qualities are from 0 to 63")
    if not 0 <= cpu_used <= 9 or jobs < 1:
        raise ValueError(f"cpu-used={cpu_used} is not from 0 to 9, or jobs={jobs} below 1")
    root = Path(root)
    options = {key: str(value) for key, value in LABEL_OPTIONS.items()} | {"cpu-used": f"{cpu_used}"}
    encoder = {"library": library.version, "options": dict(sorted(options.items()))}
    check_sources(root, sources)
    check_depths(root, {one.name: depth_of(one) for one in sources})
    units = [Unit(one, None) for one in sources if one.kind == STREAM]
    units += [Unit(one, cq) for one in sources if one.kind != STREAM for cq in qualities]
    progress = Progress(len(units), "units", say=say)
    todo = []
    for unit in units:
        made_of = _made_of(unit, encoder)
        if _known(root, unit, made_of):
            progress.skipped()
        else:
            todo.append((unit, made_of))

    def work(job):
        return job[0], _make(root, *job, library)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:  # libaom runs without the GIL
        waiting = [pool.submit(work, job) for job in todo]
        try:
            for future in concurrent.futures.as_completed(waiting):
                unit, record = future.result()
                nodes = sum(record["nodes"].values())
                progress.made(f"{unit.name}: {len(record['luma'])} frames, {nodes} nodes")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.end()


def check_depths(root: Path, depths: dict[str, int]) -> None:
    """ValueError if sequences, and those that `root` holds already, differ in their bits."""
    for name in records.names(root, STEP):
        record = records.read_json(records.place(root, STEP, name))
        depths = {name.split("/")[0]: record["depth"]} | depths
    if len(set(depths.values())) > 1:
        eight = min(name for name, depth in depths.items() if depth == 8)
        ten = min(name for name, depth in depths.items() if depth != 8)
        raise ValueError(
            f"{eight} has 8 bits and {ten} {depths[ten]}: one set is of one depth; --deepen takes "
            "8-bit videos as 10-bit ones"
        )


def _made_of(unit: Unit, encoder: records.Record) -> records.Record:
    made_of = {"source": unit.source.as_json(), "cq": unit.cq}
    if unit.source.kind != STREAM:
        made_of["encoder"] = encoder
    return made_of


def check_sources(root: Path, sources: list[Source]) -> None:
    """ValueError if `root` holds a sequence of the same name that is made of something else."""
    wanted = {one.name: one.as_json() for one in sources}
    for name in records.names(root, STEP):
        path = records.place(root, STEP, name)
        other = records.read_json(path)["made_of"]["source"]
        new = wanted.get(name.rsplit("/", 1)[0], other)
        if new != other:
            differing = ", ".join(f"{k} {other[k]} → {new[k]}" for k in new if new[k] != other[k])
            raise ValueError(
                f"{root} holds {name} already, made otherwise ({differing}): give another --out, or "
                f"delete {path.parent}"
            )


def _known(root: Path, unit: Unit, made_of: records.Record) -> bool:
    """Whether a unit is finished; ValueError if others were encoded in another way."""
    for name in records.names(root, STEP):
        other = records.read_json(records.place(root, STEP, name))["made_of"].get("encoder")
        if other and "encoder" in made_of and other != made_of["encoder"]:
            raise ValueError(
                f"{root} holds labels of another encoder ({name}: libaom {other['library']}, "
                f"cpu-used {other['options']['cpu-used']}): give another --out"
            )
    return records.finished(root, STEP, unit.name) is not None


def _make(root: Path, unit: Unit, made_of: records.Record, library: Library) -> records.Record:
    """Writes the tables of a unit, a file a frame, and then its record."""
    counts = {"nodes": Counter(), "edge": Counter()}
    files, luma, size, hidden = [], {}, None, 0
    for frame, planes in _frames(unit, made_of, library):
        if planes is None:
            hidden += 1
            continue
        size = frame.width, frame.height
        found = _rows(unit, frame, counts)
        files.append(rows.table(root, unit.source.name, unit.label, frame.number))
        rows.write_rows(files[-1], found)
        luma[str(frame.number)] = luma_sum(planes[0])
    if size is None:
        raise ValueError(f"{unit.source.place}: there is no frame in it")
    return records.finish(
        root,
        STEP,
        unit.name,
        made_of=made_of,
        files=files,
        width=size[0],
        height=size[1],
        depth=depth_of(unit.source),
        luma=luma,
        hidden=hidden,
        **{key: {str(s): n for s, n in sorted(of.items())} for key, of in counts.items()},
    )


def within(row: int, col: int, size: int, width: int, height: int) -> bool:
    """Whether a node's pixels are all the frame's: those that cross its edge have forced types.

    The decoder's own grid is of 8 pixels, and goes beyond a frame whose sides are no multiples.
    """
    unit = partitions.UNIT
    return row * unit + size <= height and col * unit + size <= width


def luma_sum(plane: np.ndarray) -> str:
    """SHA-256 of a plane as uint16, little-endian: whether later steps see the same pixels."""
    return hashlib.sha256(plane.astype("<u2").tobytes()).hexdigest()


def _frames(unit: Unit, made_of, library) -> Iterator[tuple[LabelledFrame, tuple | None]]:
    """Decoded frames, each with the planes that its labels are for."""
    if unit.cq is None:
        for frame in stream_frames(unit.source, library):
            yield frame, frame.planes
        return
    clip = opened(unit.source)
    shown: dict[int, tuple] = {}

    def packets():
        options = made_of["encoder"]["options"] | {"cq-level": str(unit.cq)}
        with Encoder(
            library, clip.width, clip.height, depth=clip.depth, options=options
        ) as encoder:
            for number, planes in enumerate(clip.frames):
                shown[number] = planes
                yield from encoder.encode(planes)
            yield from encoder.flush()

    for frame in labelled_frames(library, packets()):
        yield frame, shown.pop(frame.number)


def _rows(unit: Unit, frame: LabelledFrame, counts: dict[str, Counter]) -> list[Row]:
    superblock = 128 if np.isin(frame.map.sizes, LARGE).any() else 64
    nodes = tree.nodes(frame.map.sizes, superblock=superblock)
    compared, wrong = tree.mismatches(frame.map, nodes)
    if wrong:
        raise ValueError(
            f"{unit.name}, frame {frame.number}: {wrong} of {compared} partitions differ from the "
            "tree of the block sizes: this libaom lays out its blocks in another way; give another "
            "--library"
        )
    found = []
    cq, key = -1 if unit.cq is None else unit.cq, int(frame.key)
    for node in nodes:
        if node.size in partitions.NODE_SIZES:
            inside = within(node.row, node.col, node.size, frame.width, frame.height)
            counts["nodes" if inside else "edge"][node.size] += 1
            if inside:
                where = frame.number, node.row, node.col, node.size
                found.append(Row(*where, node.partition, frame.base_qindex, cq, key))
    return found
