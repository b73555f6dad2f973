"""What a file needs to know of a model's symbols: their shapes, and their order.

There is a level for each plane, coarse to fine. It holds the two passes of `contexts.board`; the
first level begins with the side information, if there is any.
"""

from collections.abc import Sequence

import numpy as np

from jaxvision.wavenet_mv.contexts import board
from jaxvision.wavenet_mv.model import WavenetMV


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


def passes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which of a plane's numbers each pass holds, bool, as the plane."""
    first = np.broadcast_to(board(shape), shape)
    return first, ~first


def by_level(arrays: Sequence[np.ndarray], side: bool) -> list[np.ndarray]:
    """The numbers of each level, flat, of the side information and planes."""
    found = [np.concatenate([x[part] for part in passes(x.shape)]) for x in arrays[side:]]
    if side:
        found[0] = np.concatenate([arrays[0].reshape(-1), found[0]])
    return found


def bands(model: WavenetMV) -> list[tuple[str, ...]]:
    """Which band each plane's channels are of: "lowest", or "1/2 LH" on the grid of half the size.

    They are named as the linear wavelet has them; the networks move a little from one to another.
    """
    net, colours = model.compressor, model.cfg.wavelet.channels
    if model.cfg.wavelet.mode == "literal":
        return [("latents",) * net.planes[0]]
    found = []
    for i in range(len(net.planes)):
        scale = 2 ** (len(net.planes) - i)
        high = [f"1/{scale} {kind}" for kind in ("LH", "HL", "HH") for _ in range(colours)]
        if i + 1 == len(net.planes):
            high = [high[k] for k in model.mixer.kept]
        found.append((("lowest",) * colours if i == 0 else ()) + tuple(high))
    return found


def margin(model: WavenetMV) -> int:
    """Pixels around a tile that its networks see, or almost all of them.

    A level's lifting step and its inverse see 8 cells each way, the mixer one of its grid: of J
    levels 8 (2 + … + 2^J) + 2^J, below 17 of the mixer's cells.
    """
    return min(16 * model.cell, 256)
