"""What a file needs to know of a model's symbols: their shapes, and which make up a level."""

import math

from jaxvision.wavenet_mv.model import WavenetMV


def shapes(model: WavenetMV, height: int, width: int) -> list[tuple[int, ...]]:
    """Of all substreams' symbols, for a picture of `height` × `width`."""
    size = [-(-n // model.multiple) for n in (height, width)]
    found = [(1, *size, k) for k in model.mixer.sizes]
    if model.cfg.compressor.sigma == "hyper":
        coarse = [math.ceil(math.ceil(n / 2) / 2) for n in size]  # two strides of 2
        found = [(1, *coarse, model.cfg.compressor.hyper), *found]
    return found


def ends(model: WavenetMV) -> tuple[int, ...]:
    """With how many of the substreams each level is whole."""
    side = model.cfg.compressor.sigma == "hyper"
    return tuple(side + i + 1 for i in range(len(model.mixer.sizes)))


def margin(model: WavenetMV) -> int:
    """Pixels around a tile that its networks see, or almost all of them.

    A level's lifting step and its inverse see 6 cells, the mixer one of the coarsest grid: of J
    levels 6 (2 + … + 2^J) + 2^J, below 13 of the coarsest cells.
    """
    return min(16 * model.multiple, 256)
