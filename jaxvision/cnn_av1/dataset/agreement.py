"""How far two encoders' partitions of the same frames agree: nodes, types, and pixels' blocks.

Nodes across the frame's edge, whose types are in part forced, do not count; all pixels do. A node
is "either's" if it is in one coded tree at least, "both's" if it is in the two:

  shared   both's nodes, of either's              equal  both's and of equal type, of either's
  type     of equal type, of both's nodes         macro_f1  the same by type, mean over types
  pixels   whose block has the same place and size in both; for a size of nodes, of those pixels
           whose block is a part of such a node in one tree at least
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.cnn_av1.dataset.labelling import within
from jaxvision.data.av1 import tree
from jaxvision.data.av1.blocks import SIDES, extent
from jaxvision.data.av1.partitions import NAMES, NODE_SIZES, UNIT
from jaxvision.metrics import classes

ABSENT = len(NAMES)  # in place of a type: the tree has no such node
KINDS = len(NAMES) + 1
SHARES = ("shared", "equal", "type", "macro_f1", "pixels")
DRAWS = 2000


class Labels(NamedTuple):
    """A frame's coded tree. `types` are `[h/s w/s]` for nodes of `s` pixels within the frame.

    Of each pixel, `[h w]`: the number of its block, which is of its place and size, and the pixels
    of the node that the block is a part of.
    """

    types: dict[int, np.ndarray]
    blocks: np.ndarray
    holders: np.ndarray


class Counts(NamedTuple):
    """Nodes `[4 11 11]` by NODE_SIZES and both types, pixels `[5 2]`: alike, and of how many.

    The first row of pixels is of the whole frame, the others are by NODE_SIZES.
    """

    nodes: np.ndarray
    pixels: np.ndarray


def labels_of(nodes: Iterable[tree.Node], width: int, height: int) -> Labels:
    """The labels of a frame of `width` × `height` pixels with these nodes."""
    rows, cols = extent(width, height)
    types = {s: np.full((height // s, width // s), ABSENT, np.int8) for s in NODE_SIZES}
    blocks, holders = np.full((rows, cols), -1, np.int32), np.zeros((rows, cols), np.int16)
    for node in nodes:
        if node.size in types and within(node.row, node.col, node.size, width, height):
            types[node.size][node.row * UNIT // node.size, node.col * UNIT // node.size] = (
                node.partition
            )
        for row, col, number, _ in tree.leaves([node], rows, cols):
            tall, wide = SIDES[number]
            where = np.s_[row : row + tall, col : col + wide]
            blocks[where] = (row * cols + col) * len(SIDES) + number
            holders[where] = node.size

    def by_pixel(units: np.ndarray) -> np.ndarray:
        return units.repeat(UNIT, 0).repeat(UNIT, 1)[:height, :width]

    return Labels(types, by_pixel(blocks), by_pixel(holders))


def compare(a: Labels, b: Labels) -> Counts:
    """The counts of two trees of one frame; ValueError for frames of different sizes."""
    if a.blocks.shape != b.blocks.shape:
        raise ValueError(f"frames of {a.blocks.shape} and {b.blocks.shape} pixels do not compare")
    nodes = np.stack(
        [classes.confusion(a.types[s].ravel(), b.types[s].ravel(), KINDS) for s in NODE_SIZES]
    )
    nodes[:, ABSENT, ABSENT] = 0
    same = a.blocks == b.blocks
    parts = [np.ones_like(same)] + [(a.holders == s) | (b.holders == s) for s in NODE_SIZES]
    return Counts(nodes, np.array([(np.sum(same & part), part.sum()) for part in parts]))


def shares(nodes: np.ndarray, pixels: np.ndarray) -> dict[str, float]:
    """SHARES of counted nodes `[11 11]` and pixels `[2]`; NaN where there are none."""
    both, either = nodes[:ABSENT, :ABSENT], nodes.sum()
    equal, found = np.trace(both), both.sum()
    return {
        "shared": found / either if either else np.nan,
        "equal": equal / either if either else np.nan,
        "type": equal / found if found else np.nan,
        "macro_f1": classes.scores(both).macro_f1 if found else np.nan,
        "pixels": pixels[0] / pixels[1] if pixels[1] else np.nan,
    }


def bounded(nodes: np.ndarray, pixels: np.ndarray, *, seed: int = 0) -> dict[str, object]:
    """Counts and SHARES of clips, nodes `[clips 11 11]` and pixels `[clips 2]`, pooled.

    A share is `[value, low, high]`, or the value alone for one clip, and None where nothing counts.
    """
    clips, total = len(nodes), nodes.sum(0)
    both = total[:ABSENT, :ABSENT]
    found: dict[str, object] = {
        "nodes_either": int(total.sum()),
        "nodes_both": int(both.sum()),
        "nodes_equal": int(np.trace(both)),
    }
    drawn = np.random.default_rng(seed).multinomial(clips, [1 / clips] * clips, DRAWS)
    weights, times = np.unique(drawn, axis=0, return_counts=True)
    values = [
        shares(np.tensordot(w, nodes, 1), np.tensordot(w, pixels, 1)) for w in weights
    ]  # few clips are drawn alike again and again
    for key, value in shares(total, pixels.sum(0)).items():
        draws = np.repeat([one[key] for one in values], times)
        draws = draws[np.isfinite(draws)]
        if np.isnan(value):
            found[key] = None
        elif clips == 1:
            found[key] = round(float(value), 4)
        else:
            found[key] = np.round([value, *np.quantile(draws, (0.025, 0.975))], 4).tolist()
    return found


def counted(first: Sequence[Labels], second: Sequence[Labels]) -> Counts:
    """The counts of all frames of a clip in two trees each."""
    found = [compare(a, b) for a, b in zip(first, second, strict=True)]
    return Counts(*(np.sum(part, 0) for part in zip(*found, strict=True)))
