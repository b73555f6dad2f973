"""Made-up partition trees, whole and drawn at random, and their labels."""

import numpy as np

from jaxvision.cnn_av1.dataset.agreement import labels_of
from jaxvision.data.av1 import tree
from jaxvision.data.av1.blocks import extent
from jaxvision.data.av1.partitions import NONE, SPLIT

SIZE = 142, 86  # pixels: nodes of all sizes cross the edges, and the map is larger than the frame


def made(types, width, height):
    """The nodes of the tree whose types, by row, column and size in pixels, are these or NONE."""

    def told(row, col, size):
        return types.get((4 * row, 4 * col, size), NONE)

    return tree.walk(told, *extent(width, height), 64)


def drawn(seed, width=SIZE[0], height=SIZE[1]):
    rng, (rows, cols) = np.random.default_rng(seed), extent(width, height)

    def told(row, col, size):
        kinds = tree.allowed(row, col, size, rows, cols)
        split = SPLIT in kinds and rng.random() < 0.5
        return SPLIT if split else int(rng.choice(kinds))

    return tree.walk(told, rows, cols, 64)


def labels(nodes, width=SIZE[0], height=SIZE[1]):
    return labels_of(nodes, width, height)
