"""What is known of libaom's public interface: its structures, the numbers of its controls.

From the headers `aom_codec.h`, `aom_image.h`, `aom_encoder.h`, `aom_decoder.h` and `aomdx.h` of
libaom 3.6. Only the beginnings of structures are described. Where libaom writes a whole one the
memory is far larger than any release needs, and what is read back is checked before it is believed.
"""

import ctypes
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]

OK, ABI_MISMATCH = 0, 3  # of the codes that every call returns
FRAME_PACKET, KEY_FRAME = 0, 1  # a packet's kind, and a bit of its flags
HIGH_DEPTH = 0x40000  # a flag of an encoder: samples are of 16 bits
I420, WIDE = 0x102, 0x800  # formats of images; WIDE with samples of 16 bits
CONSTANT_QUALITY = 3  # a mode of rate control, AOM_Q
CONTEXT = 512  # bytes kept for a codec's context; libaom 3.6 uses 56
BLOCK_BYTES = 8192  # bytes kept for what is known of a block; libaom uses fewer than 256

GET_CORRUPTED, GET_FRAME_SIZE = 257, 259  # controls of a decoder
GET_BASE_Q_INDEX, GET_BLOCK = 293, 295  # AOMD_GET_BASE_Q_IDX, AV1D_GET_MI_INFO


class AomError(ValueError):
    """libaom is missing, is not as it was known, or refuses a stream or an option."""


class Packet(NamedTuple):
    """A temporal unit of a stream: its time in frames, its bytes, whether it is a key frame."""

    pts: int
    data: bytes
    key: bool


class Image(ctypes.Structure):
    """The beginning of `aom_image_t`, which libaom allocates itself."""

    _fields_ = [
        ("format", ctypes.c_int),
        ("colours", ctypes.c_int * 3),
        ("monochrome", ctypes.c_int),
        ("chroma_position", ctypes.c_int),
        ("range", ctypes.c_int),
        ("stored", ctypes.c_uint * 2),
        ("depth", ctypes.c_uint),
        ("width", ctypes.c_uint),
        ("height", ctypes.c_uint),
        ("intended", ctypes.c_uint * 2),
        ("chroma_shifts", ctypes.c_uint * 2),
        ("planes", ctypes.c_void_p * 3),
        ("strides", ctypes.c_int * 3),
    ]

    def views(self) -> Planes:
        """The planes where they lie: valid as long as libaom keeps the image."""
        dtype = np.uint16 if self.format & WIDE else np.uint8
        size = np.dtype(dtype).itemsize
        half = (self.height + 1) // 2, (self.width + 1) // 2
        views = []
        for index, (rows, columns) in enumerate([(self.height, self.width), half, half]):
            stride, address = self.strides[index], self.planes[index]
            if not address or stride < columns * size:
                raise AomError(f"plane {index} of {columns} columns has rows of {stride} bytes")
            length = stride * (rows - 1) + columns * size
            memory = (ctypes.c_uint8 * length).from_address(address)
            views.append(np.ndarray((rows, columns), dtype, memory, strides=(stride, size)))
        return tuple(views)


class EncoderConfig(ctypes.Structure):
    """`aom_codec_enc_cfg_t` to the distances of key frames, and room for the rest of it."""

    _fields_ = [
        ("usage", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("profile", ctypes.c_uint),
        ("width", ctypes.c_uint),
        ("height", ctypes.c_uint),
        ("limit", ctypes.c_uint),
        ("forced_size", ctypes.c_uint * 2),
        ("depth", ctypes.c_int),
        ("input_depth", ctypes.c_uint),
        ("time_base", ctypes.c_int * 2),
        ("resilient", ctypes.c_uint32),
        ("passes", ctypes.c_int),
        ("lag", ctypes.c_uint),
        ("drop_frames", ctypes.c_uint),
        ("resize", ctypes.c_uint * 3),
        ("super_resolution", ctypes.c_uint * 5),
        ("rate_control", ctypes.c_int),
        ("statistics", ctypes.c_size_t * 4),
        ("bitrate", ctypes.c_uint),
        ("least_quantizer", ctypes.c_uint),
        ("greatest_quantizer", ctypes.c_uint),
        ("rate_limits", ctypes.c_uint * 8),
        ("forward_key_frames", ctypes.c_int),
        ("key_frames", ctypes.c_int),
        ("least_key_distance", ctypes.c_uint),
        ("greatest_key_distance", ctypes.c_uint),
        ("rest", ctypes.c_uint8 * 8192),
    ]


class EncodedPacket(ctypes.Structure):
    """`aom_codec_cx_pkt_t` of a frame."""

    _fields_ = [
        ("kind", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("pts", ctypes.c_int64),
        ("duration", ctypes.c_ulong),
        ("flags", ctypes.c_uint32),
    ]


class DecoderConfig(ctypes.Structure):
    """`aom_codec_dec_cfg_t`, and room."""

    _fields_ = [
        ("threads", ctypes.c_uint),
        ("width", ctypes.c_uint),
        ("height", ctypes.c_uint),
        ("allow_low_depth", ctypes.c_uint),
        ("rest", ctypes.c_uint8 * 256),
    ]


POINTER, INT, LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
# Name, result, arguments. Of `aom_codec_control` those before the variable ones.
FUNCTIONS = (
    ("aom_codec_version_str", ctypes.c_char_p, ()),
    ("aom_codec_err_to_string", ctypes.c_char_p, (INT,)),
    ("aom_codec_error_detail", ctypes.c_char_p, (POINTER,)),
    ("aom_codec_destroy", INT, (POINTER,)),
    ("aom_codec_control", INT, (POINTER, INT)),
    ("aom_codec_set_option", INT, (POINTER, ctypes.c_char_p, ctypes.c_char_p)),
    ("aom_codec_av1_cx", POINTER, ()),
    ("aom_codec_enc_config_default", INT, (POINTER, POINTER, ctypes.c_uint)),
    ("aom_codec_enc_init_ver", INT, (POINTER, POINTER, POINTER, LONG, INT)),
    ("aom_codec_encode", INT, (POINTER, POINTER, ctypes.c_int64, ctypes.c_ulong, LONG)),
    ("aom_codec_get_cx_data", ctypes.POINTER(EncodedPacket), (POINTER, POINTER)),
    ("aom_codec_av1_dx", POINTER, ()),
    ("aom_codec_dec_init_ver", INT, (POINTER, POINTER, POINTER, LONG, INT)),
    ("aom_codec_decode", INT, (POINTER, ctypes.c_char_p, ctypes.c_size_t, POINTER)),
    ("aom_codec_get_frame", ctypes.POINTER(Image), (POINTER, POINTER)),
    ("aom_img_alloc", ctypes.POINTER(Image), (POINTER, INT, *[ctypes.c_uint] * 3)),
    ("aom_img_free", None, (POINTER,)),
)


@dataclasses.dataclass(frozen=True)
class Library:
    """A libaom that was loaded. `version` is as in "3.14.1"."""

    path: Path | str
    version: str
    lib: ctypes.CDLL

    def error(self, context: ctypes.Array, code: int, what: str) -> AomError:
        """What libaom says of the last call with `context`, which returned `code`."""
        words = [self.lib.aom_codec_err_to_string(code), self.lib.aom_codec_error_detail(context)]
        text = ": ".join(word.decode("utf-8", "replace") for word in words if word)
        return AomError(f"{what}: {text} (libaom {self.version})")


def load(path: Path | str) -> Library:
    """Loads a shared library by its path or its name, and checks that it is a whole libaom."""
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        told = str(error)
        raise AomError(told if str(path) in told else f"{path}: {told}") from error
    for name, result, arguments in FUNCTIONS:
        try:
            function = getattr(lib, name)
        except AttributeError as error:
            raise AomError(
                f"{path} has no {name}: it is no libaom with encoder and decoder"
            ) from error
        function.restype, function.argtypes = result, arguments
    return Library(path, lib.aom_codec_version_str().decode().lstrip("v"), lib)
