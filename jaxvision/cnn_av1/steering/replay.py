"""Whether a steered library does as it is told: what a first encode chose, given back as masks.

python -m jaxvision.cnn_av1.steering.replay LIBRARY
"""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1 import masks
from jaxvision.cnn_av1.steering.build import SteeringError
from jaxvision.cnn_av1.steering.library import Steered
from jaxvision.data.av1 import tree
from jaxvision.data.av1.decoder import labelled_frames
from jaxvision.data.av1.encoder import LABEL_OPTIONS, Encoder
from jaxvision.data.av1.library import open_library
from jaxvision.data.av1.partitions import NODE_SIZES, possible
from jaxvision.data.av1.structs import Packet, Planes
from jaxvision.errors import one_line

WIDTH, HEIGHT, DEPTH = 136, 104, 10
QUALITIES = (20, 50)  # cq-levels of the test
RECORDS = 10_000


@dataclasses.dataclass(frozen=True)
class Coded:
    """Some frames' packets, the process's seconds in the encoder, and what was counted."""

    packets: tuple[Packet, ...]
    seconds: float
    pixels: int
    narrowed: int
    insane: int


def coded(
    steered: Steered,
    frames: Sequence[Planes],
    *,
    depth: int,
    cq: int,
    tables: Sequence[np.ndarray | None] | None = None,
    options: dict[str, str | int] | None = None,
) -> Coded:
    """Key frames at one cq-level, each with its masks, or without any."""
    height, width = frames[0][0].shape
    options = LABEL_OPTIONS | (options or {}) | {"cq-level": cq}
    tables = [None] * len(frames) if tables is None else tables
    packets, seconds = [], 0.0
    steered.reset()
    try:
        with Encoder(steered.library, width, height, depth=depth, options=options) as encoder:
            for number, (planes, table) in enumerate(zip(frames, tables, strict=True)):
                steered.set_masks(table, frame=number)
                start = time.process_time()
                packets += encoder.encode(planes)
                seconds += time.process_time() - start
            packets += encoder.flush()
    finally:
        steered.set_masks(None)
    found = steered.counters()
    return Coded(tuple(packets), seconds, found.pixels, found.narrowed, found.insane)


def trees(steered: Steered, packets: Sequence[Packet]) -> list[list[tree.Node]]:
    """The trees of a stream's frames."""
    frames = labelled_frames(steered.library, packets)
    return [tree.nodes(frame.map.sizes, superblock=frame.superblock) for frame in frames]


def oracle(
    steered: Steered, first: Coded, height: int, width: int, *, levels: Sequence[int] = NODE_SIZES
) -> list[np.ndarray]:
    """Masks that allow, at these levels, only what a first encode chose."""
    found = trees(steered, first.packets)
    return [masks.from_tree(nodes, height, width, levels=levels) for nodes in found]


def obeyed(nodes: Sequence[tree.Node], table: np.ndarray) -> tuple[int, int]:
    """Whole nodes whose type their mask allows, and all of them."""
    whole = [node for node in nodes if node.whole and node.size in NODE_SIZES]
    allowed = [
        table[NODE_SIZES.index(node.size), node.row // 2, node.col // 2] >> node.partition & 1
        for node in whole
    ]
    return int(sum(allowed)), len(whole)


def made_frames(*, seed: int = 0) -> list[Planes]:
    """Two frames with edges, ramps, stripes and noise: for nodes of every size and many types."""
    rng, frames = np.random.default_rng(seed), []
    row, col = np.mgrid[:HEIGHT, :WIDTH]
    for shift in (0, 5):
        luma = 200 + 3 * col + 250 * (row + shift > 0.6 * col + 20) * (col < 80)
        luma = luma + 150 * ((row // 6 + shift) % 2) * (col > 90) * (row < 50)
        luma = luma + rng.normal(0, 1, luma.shape) * np.where((row > 60) & (col > 50), 60, 2)
        half = np.full((HEIGHT // 2, WIDTH // 2), 512, np.uint16)
        frames.append((np.clip(luma, 0, 1023).astype(np.uint16), half, half + 40))
    return frames


def random_table(height: int, width: int, *, rng: np.random.Generator) -> np.ndarray:
    """One type for every node, SPLIT as often as any other two."""
    table = masks.full(height, width)
    for index, level in enumerate(NODE_SIZES):
        types = np.array([*possible(level), 3])
        table[index] = 1 << rng.choice(types, table.shape[1:])
    return table


def check(steered: Steered) -> dict[str, float | int | str]:
    """Replays, random masks and the log, on made frames; what was measured.

    Raises:
      SteeringError: unless replays give the same bytes, masks are obeyed and costs are a tree's.
    """
    frames, rng = made_frames(), np.random.default_rng(1)
    nodes, times = 0, [0.0, 0.0]
    for cq in QUALITIES:
        with steered.logged(RECORDS) as log:
            first = coded(steered, frames, depth=DEPTH, cq=cq)
        again = coded(
            steered, frames, depth=DEPTH, cq=cq, tables=oracle(steered, first, HEIGHT, WIDTH)
        )
        if first.insane or again.insane or not again.narrowed:
            raise SteeringError(
                f"the layout changed: {first.insane + again.insane} nodes with impossible numbers,"
                f" {again.narrowed} narrowed"
            )
        if [p.data for p in first.packets] != [p.data for p in again.packets]:
            raise SteeringError(f"a replay at cq-level {cq} gave other bytes")
        nodes += _check_log(trees(steered, first.packets), log.records(), log.lost)
        tables = [random_table(HEIGHT, WIDTH, rng=rng) for _ in frames]
        forced = coded(steered, frames, depth=DEPTH, cq=cq, tables=tables)
        for found, table in zip(trees(steered, forced.packets), tables, strict=True):
            kept, whole = obeyed(found, table)
            if kept < whole or not whole:
                raise SteeringError(f"{kept} of {whole} masks were obeyed at cq-level {cq}")
        times = [times[0] + first.seconds, times[1] + again.seconds]
    return {
        "version": steered.library.version,
        "nodes": nodes,
        "faster": round(times[0] / max(times[1], 1e-9), 2),
    }


def _check_log(found: list[list[tree.Node]], records: np.ndarray, lost: int) -> int:
    """That each whole node of the trees has a record of its type; their number."""
    keys = zip(*(records[key].tolist() for key in ("frame", "row", "col", "size")), strict=True)
    types = dict(zip(keys, records["type"].tolist(), strict=True))
    nodes = [(number, node) for number, nodes in enumerate(found) for node in nodes if node.whole]
    wrong = sum(types.get((i, n.row, n.col, n.size)) != n.partition for i, n in nodes)
    if lost or wrong:
        raise SteeringError(f"of {len(nodes)} nodes {wrong} were logged wrongly, {lost} lost")
    return len(nodes)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(check(Steered(open_library(Path(arguments[0]))))))
    except ValueError as error:
        print(one_line(error, {}), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
