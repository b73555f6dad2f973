"""Which streams can be labelled: what is looked at before libaom sees them."""

from jaxvision.data.av1 import obu
from jaxvision.data.av1.structs import AomError


def supported(sequence: obu.Sequence) -> obu.Sequence:
    """The sequence, if it can be labelled; AomError otherwise."""
    if sequence.monochrome:
        raise AomError("the stream is monochrome; 4:2:0 is read")
    if sequence.subsampling != "420":
        raise AomError(f"the stream is {':'.join(sequence.subsampling)}; 4:2:0 is read")
    if sequence.depth > 10:
        raise AomError(f"the stream has {sequence.depth} bits; 8 and 10 are read")
    return sequence


def looked_through(
    data: bytes, sequence: obu.Sequence | None
) -> tuple[obu.Sequence | None, list[obu.FrameStart]]:
    """The sequence from there on, and the frames in the data, where `sequence` was before.

    libaom passes over frames without a sequence header and of layers that are left out, and then
    still has the blocks of an earlier frame. These are refused here.

    Raises:
      AomError: for a stream that is not supported.
      ValueError: for data that are no units of AV1.
    """
    frames = []
    for unit in obu.units(data):
        payload = data[unit.payload : unit.end]
        if unit.kind == obu.SEQUENCE_HEADER:
            sequence = supported(obu.parsed(payload))
        elif unit.kind == obu.TILE_LIST:
            raise AomError("lists of tiles are not decoded")
        elif unit.kind in obu.FRAMES:
            if sequence is None:
                raise AomError("a frame before the first sequence header")
            if unit.spatial or sequence.layers and not sequence.layers >> unit.temporal & 1:
                raise AomError(
                    f"a frame of spatial layer {unit.spatial}, temporal layer {unit.temporal}:"
                    " streams of several layers are not decoded"
                )
            frames.append(obu.frame_start(payload, reduced=sequence.reduced))
    return sequence, frames
