"""The partition types and the block sizes of AV1, numbered as in its bitstream.

AV1 Bitstream & Decoding Process Specification (2019), 6.10.4 (`partition`) and 6.10.4's table of
`MiSize`. These numbers are the ids of labels everywhere in this library.
"""

NAMES = (
    "NONE",
    "HORZ",
    "VERT",
    "SPLIT",
    "HORZ_A",
    "HORZ_B",
    "VERT_A",
    "VERT_B",
    "HORZ_4",
    "VERT_4",
)
NONE, HORZ, VERT, SPLIT, HORZ_A, HORZ_B, VERT_A, VERT_B, HORZ_4, VERT_4 = range(10)
BASIC = (NONE, HORZ, VERT, SPLIT)

# Width and height in pixels, by the number of the block size.
BLOCK_SIZES = (
    (4, 4),
    (4, 8),
    (8, 4),
    (8, 8),
    (8, 16),
    (16, 8),
    (16, 16),
    (16, 32),
    (32, 16),
    (32, 32),
    (32, 64),
    (64, 32),
    (64, 64),
    (64, 128),
    (128, 64),
    (128, 128),
    (4, 16),
    (16, 4),
    (8, 32),
    (32, 8),
    (16, 64),
    (64, 16),
)
NODE_SIZES = (64, 32, 16, 8)  # of nodes whose type is predicted, in a superblock of 64 pixels
UNIT = 4  # pixels; positions in streams are counted in these ("mode info")


def possible(size: int) -> tuple[int, ...]:
    """The types that a node of `size` × `size` pixels can have."""
    if size == 8:
        return BASIC
    if size in (16, 32, 64):
        return tuple(range(10))
    if size == 128:
        return tuple(range(8))
    raise ValueError(f"size={size}: nodes are of 8, 16, 32, 64 or 128 pixels")
