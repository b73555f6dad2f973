"""Files of pictures without loss: no model is needed, for the transform is linear and whole.

Its parameters are fitted to each picture and stand in the file, which any machine reads for as long
as this program is there, whatever has become of a model.
"""

import itertools

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv import container, integers, lossless, tiles
from jaxvision.wavenet_mv.codec import Decoded, check_image
from jaxvision.wavenet_mv.logistic import tables

MOST = lossless.LEVELS + 1
MULTIPLE = 1 << lossless.LEVELS


def encode(image: np.ndarray, *, tile: int | None = None) -> bytes:
    """uint8 `[h w 3]`; `tile` as for `Codec.encode`."""
    check_image(image)
    tile = tiles.chosen(tile, *image.shape[:2])
    tiles.check(tile, MULTIPLE)
    coded = [
        lossless.encode(image[rows.part(), columns.part()])
        for rows, columns in _tiles(*image.shape[:2], tile)
    ]
    streams = [streams[i] for i in range(MOST) for streams, _ in coded]
    header = container.Header(
        model=tables().digest[: container.HASH],
        height=image.shape[0],
        width=image.shape[1],
        quality=0.0,
        flags=container.LOSSLESS,
        lengths=tuple(map(len, streams)),
        checksums=tuple(
            container.checksum(x[i], container.LOSSLESS) for i in range(MOST) for _, x in coded
        ),
        tile=tile,
    )
    return container.write(header, streams)


def decode(data: bytes, *, levels: int | None = None) -> Decoded:
    """The picture, to the bit; of fewer levels its means. BitstreamError for a broken file."""
    header, streams = container.read(data)
    if not header.lossless:
        raise BitstreamError(f"the file has loss: it needs the model {header.model.hex()}")
    if header.model != tables().digest[: container.HASH]:
        raise BitstreamError(f"the file's tables are {header.model.hex()}, not this program's")
    number = tiles.checked(header, MOST, MULTIPLE)
    wanted = tiles.wanted(levels, MOST, len(streams) // number, len(data))
    scale = 1 << MOST - wanted
    size = [-(-n // scale) for n in (header.height, header.width)]
    image = np.empty((*size, 3), np.uint8)
    for t, (rows, columns) in enumerate(_tiles(header.height, header.width, header.tile)):
        decoder = lossless.Decoder(rows.end - rows.begin, columns.end - columns.begin)
        for i in range(wanted):
            at = i * number + t
            planes = decoder.next(streams[at])
            if container.checksum(planes, header.flags) != header.checksums[at]:
                raise BitstreamError(f"substream {at} is damaged: its checksum is wrong")
        part = integers.to_image(planes)
        top, left = rows.begin // scale, columns.begin // scale
        image[top : top + part.shape[0], left : left + part.shape[1]] = part
    return Decoded(image=image, latents=[], levels=(wanted, MOST), header=header)


def _tiles(height, width, tile):
    return list(itertools.product(tiles.spans(height, tile), tiles.spans(width, tile)))
