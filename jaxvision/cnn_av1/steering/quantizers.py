"""From `cq-level`, 0 … 63, to the base quantizer index of the key frames that libaom makes of it.

At constant quality, without a difference between blocks, the index follows from the level alone:
neither the size, the depth nor the picture changes it (measured: libaom 3.6.0 and 3.14.1).
"""

LAST = {62: 249, 63: 255}  # the steps of 4 end there
LEVELS = range(64)


def base_qindex(cq_level: int) -> int:
    """The base index of key frames at a level, 0 … 255."""
    if cq_level not in LEVELS:
        raise ValueError(f"cq-level={cq_level} must be a whole number from 0 to 63")
    return LAST.get(cq_level, 4 * cq_level)
