"""One sequence at one quality: encoded, decoded, and its partition nodes written as tables."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.rows import Row
from jaxvision.cnn_av1.dataset.sources import Source, depth_of, opened, stream_frames
from jaxvision.data.av1 import partitions, tree
from jaxvision.data.av1.decoder import LabelledFrame, labelled_frames
from jaxvision.data.av1.encoder import Encoder
from jaxvision.data.av1.library import Library

STEP = "tables"
SETTINGS = {"usage": 0, "threads": 1, "key_frames_only": True}  # the encoder's own, beside options


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


def label_unit(
    root: Path,
    unit: Unit,
    made_of: records.Record,
    library: Library,
    *,
    tell: Callable[[str], None],
) -> records.Record:
    """Writes the tables of a unit, a file a frame, and then its record.

    ValueError where the partition that the decoder keeps with a block is not that of the tree.
    """
    counts = {"nodes": Counter(), "edge": Counter(), "compared": Counter()}
    files, luma, size, hidden = [], {}, None, 0
    records.place(root, STEP, unit.name).unlink(missing_ok=True)  # void from now on
    for frame, planes in _frames(unit, made_of, library):
        if planes is None:
            hidden += 1
            continue
        tell(f"{unit.name}: frame {frame.number}")
        size = frame.width, frame.height
        found = _rows(unit, frame, counts)
        files.append(rows.table(root, unit.source.name, unit.label, frame.number))
        rows.write_rows(files[-1], found)
        luma[str(frame.number)] = luma_sum(planes[0])
    if size is None:
        raise ValueError(f"{unit.source.place}: there is no frame in it")
    facts = {
        "width": size[0],
        "height": size[1],
        "depth": depth_of(unit.source),
        "luma": luma,
        "hidden": hidden,
        "compared": counts.pop("compared").total(),
        **{key: {str(s): n for s, n in sorted(of.items())} for key, of in counts.items()},
    }
    return records.finish(root, STEP, unit.name, made_of=made_of, files=files, facts=facts)


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
            library, clip.width, clip.height, depth=clip.depth, options=options, **SETTINGS
        ) as encoder:
            for number, planes in enumerate(clip.frames):
                shown[number] = planes
                yield from encoder.encode(planes)
            yield from encoder.flush()

    for frame in labelled_frames(library, packets()):
        yield frame, shown.pop(frame.number)


def _rows(unit: Unit, frame: LabelledFrame, counts: dict[str, Counter]) -> list[Row]:
    nodes = tree.nodes(frame.map.sizes, superblock=frame.superblock)
    compared, wrong = tree.mismatches(frame.map, nodes)
    counts["compared"][frame.number] = compared
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
