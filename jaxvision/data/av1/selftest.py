"""Whether a libaom answers as it is known to: a made clip, encoded, decoded and compared."""

import numpy as np

from jaxvision.data.av1 import tree
from jaxvision.data.av1.decoder import Decoder
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.structs import AomError, Library, Planes

WIDTH, HEIGHT = 136, 72  # of two superblocks and of parts of others
OPTIONS = LABEL_OPTIONS | {"cpu-used": 3, "cq-level": 30}
LARGEST_ERROR = 24  # of the mean square of 10-bit luma's errors, by their root
FEWEST_TYPES = 4  # of partitions in the made frame; known versions use 7 and more
LONGEST_BLOCK = 1024  # bytes kept of a block; 3.14 keeps fewer than 256


def made_frame() -> Planes:
    """A frame of 10 bits: rings on a slope, and a mottled corner, for partitions of many types."""
    row, col = np.mgrid[:HEIGHT, :WIDTH]
    luma = 200 + 2 * col + row + 90 * ((row * row + col * col) // 450 % 3)
    luma += (row * 37 + col * 61 + row * col * 17) % 61 * (col + row > 110)
    chroma = np.full((HEIGHT // 2, WIDTH // 2), 512, np.uint16)
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
    if different:
        raise _changed(library, f"{different} of {compared} blocks name another partition")
    kinds = {node.partition for node in nodes}
    if len(kinds) < FEWEST_TYPES:
        raise _changed(library, f"all nodes are of the types {sorted(kinds)}")


def _check_controls(library: Library, decoder: Decoder) -> None:
    """That blocks can be asked for at all, and stay within the memory that is kept for one."""
    length = decoder.block_bytes()
    if not length:
        raise AomError(
            f"libaom {library.version} ({library.path}) does not tell its blocks"
            " (AV1D_GET_MI_INFO): use 3.3 or a later one (pip install imagecodecs)"
        )
    if length > LONGEST_BLOCK:
        raise _changed(library, f"{length} bytes are kept of a block")
    if decoder.size() != (WIDTH, HEIGHT):
        raise _changed(library, f"a frame of {WIDTH}×{HEIGHT} is of {decoder.size()}")


def _changed(library: Library, why: str) -> AomError:
    return AomError(
        f"the layout of libaom {library.version} ({library.path}) changed: {why};"
        " use another version (3.6 to 3.14 are known)"
    )
