"""Squares that a large picture is coded in, and the windows around them that networks look at.

A window is a tile with a margin, moved where it would leave the picture, so that all windows of a
picture have one size and one compiled program. Where the margin covers all that a network sees,
what is cut out of a window is what the whole picture would have given: there are no seams.
"""

import dataclasses

from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv.container import LARGEST, MOST, Header

LEAST = 64  # of a tile's side
USUAL = 1024  # the side where none is asked for
WHOLE = 1 << 21  # pixels up to which a picture is one piece, where nothing is asked for


@dataclasses.dataclass(frozen=True)
class Span:
    """A tile `begin … end` of one axis, and its window `first … last`."""

    begin: int
    end: int
    first: int
    last: int

    def part(self, scale: int = 1) -> slice:
        """The tile, on a grid of 1/scale of the size, as all of these."""
        return slice(self.begin // scale, self.end // scale)

    def window(self, scale: int = 1) -> slice:
        return slice(self.first // scale, self.last // scale)

    def inside(self, scale: int = 1) -> slice:
        """The tile within its window."""
        return slice((self.begin - self.first) // scale, (self.end - self.first) // scale)


def spans(total: int, tile: int, *, margin: int = 0) -> list[Span]:
    """Tiles of an axis of `total` cells, each `tile` long but the last; `tile=0` for one of all."""
    tile = tile or total
    length = min(total, tile + 2 * margin)
    found = []
    for begin in range(0, total, tile):
        first = min(max(begin - margin, 0), total - length)
        found.append(Span(begin, min(begin + tile, total), first, first + length))
    return found


def count(height: int, width: int, tile: int) -> int:
    """How many tiles there are, without listing them."""
    return -(-height // tile) * -(-width // tile) if tile else 1


def chosen(tile: int | None, height: int, width: int) -> int:
    """The side of the tiles; None for what suits memory: 0, one piece, up to WHOLE pixels.

    ValueError for pieces larger than a file can have.
    """
    if tile is None:
        return USUAL if height * width > WHOLE else 0
    sides = [min(n, tile or n) for n in (height, width)]
    if sides[0] * sides[1] > MOST:
        raise ValueError(
            f"tile={tile}: {sides[0]}×{sides[1]} pixels are more than the {MOST} of the largest "
            f"tile; {USUAL} is usual"
        )
    return tile


def check(tile: int, multiple: int) -> None:
    """ValueError unless `tile` is 0 or can be the side of tiles."""
    if tile % multiple or tile and not LEAST <= tile <= LARGEST:
        raise ValueError(
            f"tile={tile} must be 0, or a multiple of {multiple} from {LEAST} to {LARGEST}"
        )


def checked(header: Header, levels: int, multiple: int) -> int:
    """How many tiles a file has; BitstreamError unless it has their substreams."""
    try:
        check(header.tile, multiple)
    except ValueError as error:
        raise BitstreamError(f"the file's {error}") from error
    number = count(header.height, header.width, header.tile)
    if len(header.lengths) != levels * number:
        raise BitstreamError(
            f"the file has {len(header.lengths)} substreams, not {levels} of {number} tiles"
        )
    return number


def wanted(levels: int | None, most: int, whole: int, length: int) -> int:
    """How many levels to decode of a file of `length` bytes that has so many whole of `most`."""
    found = most if levels is None else levels
    if not 1 <= found <= most:
        raise ValueError(f"levels={levels} must be from 1 to {most}")
    if whole < found:
        raise BitstreamError(
            f"the file is cut off, at {length} bytes: {whole} of its {most} levels are whole"
            + (f", which levels={whole} decodes" if whole else "")
        )
    return found
