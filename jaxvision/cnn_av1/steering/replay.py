"""Whether a steered library does as it is told: what a first encode chose, given back as masks.

python -m jaxvision.cnn_av1.steering.replay LIBRARY
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1 import masks
from jaxvision.cnn_av1.steering.build import SteeringError
from jaxvision.cnn_av1.steering.coding import encode_masked, oracle_tables
from jaxvision.cnn_av1.steering.library import Steered
from jaxvision.data.av1 import tree
from jaxvision.data.av1.library import open_library
from jaxvision.data.av1.partitions import NODE_SIZES, SPLIT, possible
from jaxvision.data.av1.structs import Planes
from jaxvision.errors import one_line

WIDTH, HEIGHT, DEPTH = 136, 104, 10
QUALITIES = (20, 50)  # cq-levels of the test
RECORDS = 10_000
SPLIT_SHARES = {64: 0.8, 32: 0.6, 16: 0.4, 8: 0.2}


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
    """One type for every node, SPLIT at half of them, and more often at the large ones."""
    table = masks.full(height, width)
    for index, level in enumerate(NODE_SIZES):
        types = rng.choice(possible(level), table.shape[1:])
        split = rng.random(table.shape[1:]) < SPLIT_SHARES[level]
        table[index] = 1 << np.where(split, SPLIT, types)
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
            first = encode_masked(steered, frames, depth=DEPTH, cq=cq)
        insane = steered.counters().insane
        tables = oracle_tables(first, HEIGHT, WIDTH)
        again = encode_masked(steered, frames, depth=DEPTH, cq=cq, tables=tables)
        found = steered.counters()
        if insane or found.insane or not found.narrowed:
            raise SteeringError(
                f"the layout changed: {insane + found.insane} nodes with impossible numbers,"
                f" {found.narrowed} narrowed"
            )
        if [p.data for p in first.packets] != [p.data for p in again.packets]:
            raise SteeringError(f"a replay at cq-level {cq} gave other bytes")
        nodes += _check_log(first.trees, log.records(), log.lost)
        drawn = [random_table(HEIGHT, WIDTH, rng=rng) for _ in frames]
        forced = encode_masked(
            steered, frames, depth=DEPTH, cq=cq, tables=lambda number, _, drawn=drawn: drawn[number]
        )
        for one, table in zip(forced.trees, drawn, strict=True):
            kept, whole = obeyed(one, table)
            if kept < whole or not whole:
                raise SteeringError(f"{kept} of {whole} masks were obeyed at cq-level {cq}")
        times = [times[0] + first.encoder_seconds, times[1] + again.encoder_seconds]
    return {
        "version": steered.library.version,
        "nodes": nodes,
        "faster": round(times[0] / max(times[1], 1e-9), 2),
    }


def _check_log(found: Sequence[Sequence[tree.Node]], records: np.ndarray, lost: int) -> int:
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
