"""What a file needs to know of a model's symbols: their shapes, order, and which make up a level.

A tile's substreams are the side information, if there is any, and of each plane, coarse to fine,
the two passes of `contexts.board`.
"""

from collections.abc import Sequence

import numpy as np

from jaxvision.wavenet_mv.contexts import board
from jaxvision.wavenet_mv.model import WavenetMV

PASSES = 2


def has_side(model: WavenetMV) -> bool:
    return model.cfg.compressor.sigma == "hyper"


def shapes(model: WavenetMV, height: int, width: int) -> list[tuple[int, ...]]:
    """Of the side information, if there is any, and the planes of a picture of whole multiples."""
    net = model.compressor
    coarsest = 2 ** (len(net.planes) - 1) * model.finest
    found = [
        (1, height // (coarsest >> i), width // (coarsest >> i), k)
        for i, k in enumerate(net.planes)
    ]
    if has_side(model):
        size = [n // coarsest // net.coarser for n in (height, width)]
        found = [(1, *size, model.cfg.compressor.hyper), *found]
    return found


def ends(model: WavenetMV) -> tuple[int, ...]:
    """With how many of the substreams each level is whole."""
    planes = len(model.compressor.planes)
    return tuple(has_side(model) + PASSES * (i + 1) for i in range(planes))


def passes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which of a plane's numbers each pass holds, bool, as the plane."""
    first = np.broadcast_to(board(shape), shape)
    return first, ~first


def parted(arrays: Sequence[np.ndarray], side: bool) -> list[np.ndarray]:
    """The side information and planes, by substream, flat."""
    found = [arrays[0].reshape(-1)] if side else []
    for plane in arrays[side:]:
        found += [plane[part] for part in passes(plane.shape)]
    return found


def margin(model: WavenetMV) -> int:
    """Pixels around a tile that its networks see, or almost all of them.

    A level's lifting step and its inverse see 8 cells each way, the mixer one of its grid: of J
    levels 8 (2 + … + 2^J) + 2^J, below 17 of the mixer's cells.
    """
    return min(16 * model.cell, 256)
