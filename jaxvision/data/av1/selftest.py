"""Whether a libaom answers as it is known to: a made clip, encoded, decoded and compared."""

import numpy as np

from jaxvision.data.av1 import tree
from jaxvision.data.av1.decoder import Decoder
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.structs import AomError, Library, Planes

WIDTH, HEIGHT = 136, 72  # of two superblocks and of parts of others
OPTIONS = LABEL_OPTIONS | {"cpu-used": 6, "cq-level": 30}
LARGEST_ERROR = 24  # of the mean square of 10-bit luma's errors, by their root


def made_frame() -> Planes:
    """A frame of 10 bits with flat, striped and mottled parts, for blocks of many sizes."""
    row, col = np.mgrid[:HEIGHT, :WIDTH]
    luma = 300 + 2 * col + 40 * ((row // 3 + col // 5) % 2) * (col > 40) * (row > 20)
    luma += (row * 37 + col * 61 + row * col * 17) % 97 * ((col > 90) & (row < 40))
    luma += 300 * (row - 50 > (col - 20) // 2)
    half = (HEIGHT // 2, WIDTH // 2)
    chroma = np.full(half, 512, np.uint16)
    return luma.astype(np.uint16), chroma, chroma + 60


def check(library: Library) -> None:
    """Encodes, decodes, and compares the tree of sizes with the partitions that blocks name.

    Raises:
      AomError: "the layout … changed", or what this libaom lacks.
    """
    frame = made_frame()
    packets = encode_clip(library, [frame], depth=10, options=OPTIONS)
    if len(packets) != 1 or not packets[0].key:
        raise _changed(library, f"one frame became {len(packets)} packets")
    with Decoder(library) as decoder:
        decoder.decode(packets[0].data)
        pictures = decoder.frames()
        _check_controls(library, decoder)
        blocks = decoder.block_map(WIDTH, HEIGHT)
        qindex = decoder.base_qindex()
    error = np.sqrt(np.mean((pictures[0][0].astype(float) - frame[0]) ** 2))
    if error > LARGEST_ERROR:
        raise _changed(library, f"the picture differs by {error:.0f} of 1023")
    if not 0 < qindex < 256 or (blocks.qindex != qindex).any():
        raise _changed(library, f"blocks have qindex {np.unique(blocks.qindex)}, not {qindex}")
    try:
        nodes = tree.nodes(blocks.sizes)
    except ValueError as error:
        raise _changed(library, str(error)) from error
    compared, different = tree.mismatches(blocks, nodes)
    if different or len(np.unique(blocks.sizes)) < 3:
        raise _changed(library, f"{different} of {compared} blocks are of another partition")


def _check_controls(library: Library, decoder: Decoder) -> None:
    """That blocks can be asked for at all, and stay within the memory that is kept for one."""
    if not decoder.block_is_told():
        raise AomError(
            f"libaom {library.version} ({library.path}) does not tell its blocks"
            " (AV1D_GET_MI_INFO): use 3.3 or a later one (pip install imagecodecs)"
        )
    if decoder.size() != (WIDTH, HEIGHT):
        raise _changed(library, f"a frame of {WIDTH}×{HEIGHT} is of {decoder.size()}")


def _changed(library: Library, why: str) -> AomError:
    return AomError(
        f"the layout of libaom {library.version} ({library.path}) changed: {why};"
        " use another version (3.6 to 3.14 are known)"
    )
