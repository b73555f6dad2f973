"""Writes `embedded.npz`: what libaom chose, and what it thought of, in panned photographs.

    python -m jaxvision.cnn_av1.embedding OUT.npz

Takes some twenty minutes on one core, and the library that can be steered (`steering.build`): its
log has the nodes that were tried and left as well. A clip that is done is kept beside OUT.npz, so
that a stopped run goes on where it was.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1 import embedded
from jaxvision.cnn_av1.clips import photo_clip
from jaxvision.cnn_av1.embedded import CODED, UNKNOWN, ClipLabels, Labels
from jaxvision.cnn_av1.steering.coding import encode_masked
from jaxvision.cnn_av1.steering.library import Steered, open_steered
from jaxvision.data.av1.encoder import LABEL_OPTIONS
from jaxvision.data.av1.partitions import NODE_SIZES, UNIT
from jaxvision.data.av1.tree import Node
from jaxvision.data.photographs import photographs
from jaxvision.data.y4m import Planes
from jaxvision.written import whole_file

WIDTH, HEIGHT, FRAMES = 352, 288, 2
QUALITIES = (20, 32, 43, 55)  # cq-levels
HELD_OUT = ("camera", "gravel")  # training photographs that thresholds are chosen on
VARIANTS = {"train": 4, "val": 2, "test": 3}
REGRETS = (32, 16)  # sizes whose regrets are kept: the file is to stay below 1 MB
GIVEN_UP = 0.1  # the regret that stands for a type whose search was broken off as too dear
CAPACITY = 1 << 15  # records of a frame


def clips() -> list[tuple[str, int, str]]:
    """Photograph, variant and split of every clip; a photograph is of one split."""
    found = []
    for listed, paths in photographs().items():
        for path in paths:
            split = "test" if listed == "val" else "val" if path.stem in HELD_OUT else "train"
            found += [(path.stem, variant, split) for variant in range(VARIANTS[split])]
    return found


def label_clip(steered: Steered, photograph: str, variant: int, split: str) -> ClipLabels:
    """Codes a clip at every quality. ValueError where log and coded tree do not agree."""
    frames = photo_clip(photograph, width=WIDTH, height=HEIGHT, frames=FRAMES, variant=variant)
    shape = {size: (FRAMES, len(QUALITIES), HEIGHT // size, WIDTH // size) for size in NODE_SIZES}
    labels = {size: np.full(shape[size], UNKNOWN, np.uint8) for size in NODE_SIZES}
    regrets = {size: np.full((*shape[size], 4), UNKNOWN, np.uint8) for size in REGRETS}
    qindex = np.zeros((FRAMES, len(QUALITIES)), np.uint8)
    for number, cq in enumerate(QUALITIES):
        for frame, planes in enumerate(frames):
            records, nodes, index = _coded(steered, planes, cq)
            qindex[frame, number] = index
            for size in NODE_SIZES:
                here = records[records["size"] == size]
                at = (frame, number, here["row"] * UNIT // size, here["col"] * UNIT // size)
                labels[size][at] = here["type"]
                if size in REGRETS:
                    regrets[size][at] = embedded.regret_steps(_relative(here))
            _mark(labels, (frame, number), nodes, name=f"{photograph}_{variant}, cq {cq}")
    luma = np.stack([planes[0] for planes in frames])
    return ClipLabels(photograph, variant, split, embedded.checksum(luma), qindex, labels, regrets)


def _coded(steered: Steered, planes: Planes, cq: int) -> tuple[np.ndarray, tuple[Node, ...], int]:
    """Records of the nodes with a best type, the coded tree's nodes, and the base index."""
    with steered.logged(CAPACITY) as log:
        report = encode_masked(steered, [planes], depth=10, cq=cq)
    if log.lost:
        raise ValueError(f"{log.lost} nodes of a frame found no room: raise CAPACITY={CAPACITY}")
    records = log.records()
    return records[records["type"] < 10], report.trees[0], report.base_qindex


def _relative(records: np.ndarray) -> np.ndarray:
    """Costs `[n 4]` over the least of all types; NaN where unknown."""
    relative = records["cost"] / records["final"][:, None]
    return np.where(np.isinf(relative), 1 + GIVEN_UP, relative)


def _mark(labels, at: tuple[int, int], nodes: Iterable[Node], *, name: str) -> None:
    """Sets the bit of the nodes in the coded tree."""
    for node in nodes:
        if node.whole and node.size in labels:
            place = (*at, node.row * UNIT // node.size, node.col * UNIT // node.size)
            if labels[node.size][place] != node.partition:
                raise ValueError(f"{name}: the log has type {labels[node.size][place]} for {node}")
            labels[node.size][place] |= CODED


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args(arguments).out
    steered, wanted, begun = open_steered(), clips(), time.monotonic()
    done, parts = [], out.with_suffix("")
    parts.mkdir(parents=True, exist_ok=True)
    about = dict(
        library=steered.library.version,
        options={key: str(value) for key, value in LABEL_OPTIONS.items()},
        qualities=QUALITIES,
    )
    for number, clip in enumerate(wanted, 1):
        part = parts / f"{clip[0]}_{clip[1]}.npz"
        if not part.is_file():
            one = label_clip(steered, *clip)
            with whole_file(part) as place, place.open("wb") as file:
                embedded.write(file, Labels(WIDTH, HEIGHT, about, (one,)))
        done += embedded.read(part).clips
        left = (time.monotonic() - begun) / number * (len(wanted) - number)
        print(f"{number}/{len(wanted)} {part.stem}, {left:.0f} s left", flush=True)
    with whole_file(out) as place, place.open("wb") as file:
        embedded.write(file, Labels(WIDTH, HEIGHT, about, tuple(done)))
    print(f"{out}: {out.stat().st_size} bytes, {len(done)} clips")


if __name__ == "__main__":
    main(sys.argv[1:])
