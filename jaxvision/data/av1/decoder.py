"""The decoder of libaom: pictures, and the block sizes and partitions of each frame."""

import ctypes
import dataclasses
import struct
import weakref
from collections.abc import Iterable, Iterator

import numpy as np

from jaxvision.data.av1 import obu, stream, structs
from jaxvision.data.av1.blocks import BlockMap, extent, read_map
from jaxvision.data.av1.structs import AomError, Library, Packet, Planes

ABI_VERSIONS = range(15, 60)  # it is 22 in 3.6, and rises with releases
BLOCK = struct.Struct("=BBxxi")  # size, partition and qindex, at the start of what libaom keeps
FILLING = 0xA5


class Decoder:
    """Decodes 4:2:0 streams of 8 and 10 bits. One that met an error takes no more data."""

    def __init__(self, library: Library):
        self.library, self._lib = library, library.lib
        self._context = _started(library)
        self._close = weakref.finalize(self, self._lib.aom_codec_destroy, self._context)
        self._block = (ctypes.c_uint8 * structs.BLOCK_BYTES)()
        self._sequence: obu.Sequence | None = None
        self._frame: obu.FrameStart | None = None
        self._pictures: list[Planes] = []
        self._failed = ""

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def sequence(self) -> obu.Sequence:
        """Of the last sequence header."""
        if self._sequence is None:
            raise AomError("no sequence header was decoded")
        return self._sequence

    @property
    def frame(self) -> obu.FrameStart:
        """The last frame that was decoded."""
        if self._frame is None:
            raise AomError("no frame was decoded")
        return self._frame

    def decode(self, data: bytes) -> None:
        """A temporal unit, or one of its `frames_of`.

        Raises:
          AomError: for damage; a stream that is monochrome, not 4:2:0, of more than 10 bits or of
            layers that are left out. The decoder is then of no more use.
        """
        if not self._close.alive:
            raise ValueError("the decoder was closed")
        if self._failed:
            raise AomError(f"the decoder stopped before: {self._failed}")
        self._pictures = []
        try:
            self._sequence, frames = stream.looked_through(data, self._sequence)
            code = self._lib.aom_codec_decode(self._context, data, len(data), None)
            if code != structs.OK:
                raise self.library.error(self._context, code, "damaged or truncated data")
            self._take_pictures(frames)
        except ValueError as error:
            self._failed, self._frame = str(error), None
            raise error if isinstance(error, AomError) else AomError(str(error)) from error
        if frames:
            self._frame = frames[-1]

    def frames(self) -> list[Planes]:
        """The pictures of the last data: `(y [h w], u, v)`, uint8, or uint16 at 10 bits."""
        return self._pictures

    def block_map(self, width: int, height: int) -> BlockMap:
        """The blocks of the last frame that was decoded, shown or hidden.

        Raises:
          AomError: if there is none, it is not of that size, or it only shows an earlier one again.
        """
        if self.frame.existing:
            raise AomError("the frame shows an earlier one again and has no blocks of its own")
        if (width, height) != self.size():
            found = "×".join(map(str, self.size()))
            raise AomError(f"the frame is of {found} pixels, not of {width}×{height}")
        control, context = self._lib.aom_codec_control, self._context
        block, where, unpack = self._block, ctypes.byref(self._block), BLOCK.unpack_from

        def read(row: int, col: int) -> tuple[int, int, int]:
            code = control(context, structs.GET_BLOCK, row, col, where)
            if code:
                raise self.library.error(context, code, f"no block at row {row}, column {col}")
            return unpack(block)

        try:
            return read_map(read, *extent(width, height))
        except AomError:
            raise
        except ValueError as error:
            raise AomError(
                f"the layout of libaom {self.library.version} is not the known one: {error}"
            ) from error

    def base_qindex(self) -> int:
        """The quantizer's index of the last frame, 0 … 255."""
        return self._number(structs.GET_BASE_Q_INDEX, 1)[0]

    def shown_existing(self) -> bool:
        """Whether the last frame is an earlier one, shown again."""
        return self.frame.existing

    def size(self) -> tuple[int, int]:
        """Width and height at which the last frame is coded, before any super-resolution."""
        return self._number(structs.GET_FRAME_SIZE, 2)

    def block_bytes(self) -> int:
        """How many bytes libaom keeps of a block of the last frame; 0 if it does not give them."""
        self.frame  # noqa: B018  (raises before there is one)
        ctypes.memset(self._block, FILLING, structs.BLOCK_BYTES)
        control = self._lib.aom_codec_control
        if control(self._context, structs.GET_BLOCK, 0, 0, ctypes.byref(self._block)):
            return 0
        return len(bytes(self._block).rstrip(bytes([FILLING])))

    def close(self) -> None:
        self._close()
        self._frame = None

    def _number(self, control: int, count: int) -> tuple[int, ...]:
        self.frame  # noqa: B018  (raises before there is one)
        values = (ctypes.c_int * 16)()
        code = self._lib.aom_codec_control(self._context, control, ctypes.byref(values))
        if code != structs.OK:
            raise self.library.error(self._context, code, f"control {control}")
        return tuple(values[:count])

    def _take_pictures(self, frames: list[obu.FrameStart]) -> None:
        """Copies what is shown; AomError if the last frame is not, or is not whole."""
        iterator = ctypes.c_void_p()
        while found := self._lib.aom_codec_get_frame(self._context, ctypes.byref(iterator)):
            self._pictures.append(_copied(found.contents, self.sequence))
        if frames and frames[-1].shown and not self._pictures:
            raise AomError("a frame is not shown: the data are truncated")
        corrupted = ctypes.c_int()
        code = self._lib.aom_codec_control(
            self._context, structs.GET_CORRUPTED, ctypes.byref(corrupted)
        )
        if frames and (code != structs.OK or corrupted.value):
            raise AomError("the frame is damaged")


@dataclasses.dataclass(frozen=True)
class LabelledFrame:
    """A frame with its blocks. `number` counts temporal units.

    Each unit shows one frame: `number` is that of the picture, of a frame that is `shown`. A hidden
    one is kept for later frames and has no `planes`. `superblock` is the side of the tree's roots.
    """

    number: int
    shown: bool
    key: bool
    base_qindex: int
    width: int
    height: int
    map: BlockMap
    planes: Planes | None
    superblock: int


def labelled_frames(library: Library, packets: Iterable[Packet]) -> Iterator[LabelledFrame]:
    """The frames of a stream in the order of coding, hidden ones too.

    Frames that only show an earlier one again are left out.

    Raises:
      AomError: for a stream that does not decode, with the number of the temporal unit; for frames
        that are coded smaller than the pictures of the sequence, whose blocks fit no picture.
    """
    with Decoder(library) as decoder:
        for number, packet in enumerate(packets):
            try:
                for data in obu.frames_of(packet.data):
                    decoder.decode(data)
                    begun = any(unit.kind in obu.FRAMES for unit in obu.units(data))
                    if begun and not decoder.frame.existing:
                        yield _labelled(decoder, number)
            except ValueError as error:
                raise AomError(f"temporal unit {number}: {error}") from error


def _labelled(decoder: Decoder, number: int) -> LabelledFrame:
    width, height = decoder.size()
    sequence, start = decoder.sequence, decoder.frame
    if (width, height) != (sequence.width, sequence.height):
        raise AomError(
            f"a frame is coded at {width}×{height} for pictures of"
            f" {sequence.width}×{sequence.height}: its blocks are not those of the picture"
        )
    planes = decoder.frames()[-1] if start.shown else None
    blocks, qindex = decoder.block_map(width, height), decoder.base_qindex()
    return LabelledFrame(
        number, start.shown, start.key, qindex, width, height, blocks, planes, sequence.superblock
    )


def _copied(image: structs.Image, sequence: obu.Sequence) -> Planes:
    fits = 0 < image.width <= sequence.width and 0 < image.height <= sequence.height
    if image.format & ~structs.WIDE != structs.I420 or image.monochrome or not fits:
        raise AomError(
            f"libaom gives a picture of {image.width}×{image.height}, format {image.format:#x},"
            f" for 4:2:0 of {sequence.width}×{sequence.height}"
        )
    dtype = np.uint16 if sequence.depth > 8 else np.uint8
    return tuple(view.astype(dtype) for view in image.views())


def _started(library: Library) -> ctypes.Array:
    context, config = ctypes.create_string_buffer(structs.CONTEXT), structs.DecoderConfig()
    config.threads = config.allow_low_depth = 1
    interface = library.lib.aom_codec_av1_dx()
    for version in ABI_VERSIONS:
        code = library.lib.aom_codec_dec_init_ver(
            context, interface, ctypes.byref(config), 0, version
        )
        if code == structs.OK:
            return context
        if code != structs.ABI_MISMATCH:
            raise library.error(context, code, "the decoder does not start")
    raise AomError(f"libaom {library.version} has an unknown version of its decoder's interface")
