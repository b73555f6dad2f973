"""The quality at which a codec's file of a picture has the size of another's."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxvision.baselines.codec import Codec

NEAR = 0.005  # of the wanted rate: nearer than this no dial is turned
TURNS = 12  # of a dial that is not of whole numbers

# From few bits to many, as far as each dial goes with sense; True: whole numbers alone.
DIALS = {
    "jpeg": (1, 100, True),
    "webp": (0, 100, True),
    "jpeg-2000": (15.0, 60.0, False),
    "jpeg-xl": (20.0, 0.1, False),
    "avif": (0, 100, True),
    "hevc": (51, 0, True),
    "av1": (63, 1, True),
    "vvc": (63, 0, True),
    "wavelet": (1000.0, 0.5, False),
    "jaxwt": (1000.0, 0.5, False),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A quality, and the bits a pixel of the images that it was found by.

    `clamped`: it is the end of the codec's dial, and its bits are still not near those wanted.
    """

    quality: float
    bpp: float
    clamped: bool


def dial_of(codec: Codec) -> tuple[float, float, bool]:
    """The ends of a codec's quality, from few bits to many, and whether it is whole."""
    names = [name for name in DIALS if codec.name == name or codec.name.startswith(f"{name}-")]
    if not names:
        raise ValueError(f"codec {codec.name!r} has no dial; there are {', '.join(DIALS)}")
    return DIALS[max(names, key=len)]


def at_bpp(codec: Codec, images: Sequence[np.ndarray], bpp: float) -> Setting:
    """The quality whose files of `images` have on average the bits a pixel nearest to `bpp`.

    By bisection, which takes for granted that more quality is more bits. Where the dial's end is
    still too large or too small, that end, which is said to be clamped.
    """
    if not bpp > 0 or not images:
        raise ValueError(f"bpp={bpp} of {len(images)} images: give a rate above 0, and an image")

    def rate(quality: float) -> float:
        return float(np.mean([8 * len(codec.encode(x, quality)) / x[..., 0].size for x in images]))

    few, many, whole = dial_of(codec)
    return _nearest(rate, few, many, bpp, whole=whole)


def _nearest(
    rate: Callable[[float], float], few: float, many: float, wanted: float, *, whole: bool
) -> Setting:
    """Of the qualities tried between the ends the one whose rate is nearest, in its logarithm."""
    tried: dict[float, float] = {}

    def distance(quality: float) -> float:
        return abs(np.log(tried[quality] / wanted))

    for _ in range(TURNS):
        middle = (few + many) / 2 if not few * many > 0 or whole else (few * many) ** 0.5
        middle = round(middle) if whole else middle
        if middle in tried:
            break
        tried[middle] = rate(middle)
        if distance(middle) < NEAR:
            break
        if tried[middle] > wanted:
            many = middle
        else:
            few = middle
    best = min(tried, key=distance)
    ends = (few, many) if whole and distance(best) > NEAR else ()  # whose neighbours were tried
    tried |= {end: rate(end) for end in ends if end not in tried}
    best = min(tried, key=distance)
    sides = {found > wanted for found in tried.values()}  # one alone: the dial was turned one way
    return Setting(best, tried[best], len(sides) == 1 and bool(distance(best) > NEAR))
