"""The encoder of libaom: planes to temporal units, at constant quality."""

import ctypes
import weakref
from collections.abc import Iterable, Mapping

import numpy as np

from jaxvision.data.av1 import configuration, structs
from jaxvision.data.av1.structs import AomError, Library, Packet, Planes

DTYPES = {8: np.uint8, 10: np.uint16}
LARGEST = 65535  # of a side
# Decisions by full search at one quantizer a frame, in superblocks of 64, frames in their order.
LABEL_OPTIONS = {"cpu-used": 0, "sb-size": 64, "deltaq-mode": 0, "lag-in-frames": 0}
# Options that are of the encoder's configuration, not among those that libaom takes by name.
CONFIGURED = {
    "lag-in-frames": "lag",
    "kf-min-dist": "least_key_distance",
    "kf-max-dist": "greatest_key_distance",
}
USAGES = (0, 1, 2)  # good quality, real time, all intra


class Encoder:
    """Frames of one size to temporal units. `width` and `height` may be odd.

    Quality is constant: `cq-level`, 0 … 63, is its option. With one thread, equal frames and
    options give equal bytes. `key_frames_only` makes each frame a key frame; without it, key frames
    lie where libaom puts them. `lag-in-frames` is 0 if not given: each frame is coded at once.

    Args:
      options: names and values as of libaom's `aomenc`, without dashes: `{"cq-level": 32}`.

    Raises:
      AomError: for an option that libaom does not take; a layout that is not the known one.
      ValueError: for a size, depth or usage that cannot be.
    """

    def __init__(
        self,
        library: Library,
        width: int,
        height: int,
        *,
        depth: int = 8,
        options: Mapping[str, str | int],
        usage: int = 0,
        threads: int = 1,
        key_frames_only: bool = True,
    ):
        if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
            raise ValueError(f"frames of {width}×{height} are not of 1 to {LARGEST} a side")
        if depth not in DTYPES:
            raise ValueError(f"depth={depth} must be 8 or 10 bits")
        if usage not in USAGES:
            raise ValueError(f"usage={usage} must be 0 (good), 1 (real time) or 2 (all intra)")
        if not 1 <= threads <= 64:
            raise ValueError(f"threads={threads} must be from 1 to 64")
        self.library, self.width, self.height, self.depth = library, width, height, depth
        self._lib, self._count, self._ended = library.lib, 0, False
        config = configuration.defaults(library, usage)
        config.threads, config.width, config.height = threads, width, height
        config.depth = config.input_depth = depth
        config.lag, config.rate_control = 0, structs.CONSTANT_QUALITY
        if key_frames_only:
            config.least_key_distance = config.greatest_key_distance = 0
        for name, field in CONFIGURED.items():
            if name in options:
                setattr(config, field, _distance(name, options[name], key_frames_only))
        self._context = configuration.started(
            library, config, structs.HIGH_DEPTH if depth > 8 else 0
        )
        self._close = weakref.finalize(self, self._lib.aom_codec_destroy, self._context)
        for name, value in options.items():
            if name not in CONFIGURED:
                self._set(name, str(value))
        form = structs.I420 | (structs.WIDE if depth > 8 else 0)
        self._image = self._lib.aom_img_alloc(None, form, width, height, 32)
        if not self._image:
            raise MemoryError(f"no memory for a frame of {width}×{height}")
        self._free = weakref.finalize(self, self._lib.aom_img_free, self._image)
        image = self._image.contents
        if (image.format, image.width, image.height) != (form, width, height):
            raise AomError(f"the layout of images of libaom {library.version} changed")
        image.depth = depth

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def encode(self, planes: Planes) -> list[Packet]:
        """The next frame, `(y [h w], u, v)` of uint8, or uint16 at 10 bits; chroma is 4:2:0."""
        self._check_open()
        if self._ended:
            raise ValueError("the encoder was flushed: later frames need another one")
        for plane, view in zip(
            checked(planes, self.width, self.height, self.depth),
            self._image.contents.views(),
            strict=True,
        ):
            view[:] = plane
        packets = self._given(self._image, self._count, 1)
        self._count += 1
        return packets

    def flush(self) -> list[Packet]:
        """What is left after the last frame."""
        self._check_open()
        self._ended, packets = True, []
        while more := self._given(None, 0, 0):
            packets += more
        return packets

    def close(self) -> None:
        self._free()
        self._close()

    def _check_open(self) -> None:
        if not self._close.alive:
            raise ValueError("the encoder was closed")

    def _set(self, name: str, value: str) -> None:
        code = self._lib.aom_codec_set_option(self._context, name.encode(), value.encode())
        if code != structs.OK:
            raise self.library.error(self._context, code, f"option {name}={value}")

    def _given(self, image, pts: int, duration: int) -> list[Packet]:
        code = self._lib.aom_codec_encode(self._context, image, pts, duration, 0)
        if code != structs.OK:
            raise self.library.error(self._context, code, f"frame {self._count}")
        packets, iterator = [], ctypes.c_void_p()
        while found := self._lib.aom_codec_get_cx_data(self._context, ctypes.byref(iterator)):
            packet = found.contents
            if packet.kind == structs.FRAME_PACKET:
                data = ctypes.string_at(packet.data, packet.size)
                packets.append(Packet(packet.pts, data, bool(packet.flags & structs.KEY_FRAME)))
        return packets


def encode_clip(
    library: Library,
    frames: Iterable[Planes],
    *,
    depth: int,
    options: Mapping[str, str | int],
    usage: int = 0,
    threads: int = 1,
    key_frames_only: bool = True,
) -> list[Packet]:
    """The temporal units of a clip; its frames are of the size of the first."""
    packets, encoder = [], None
    try:
        for planes in frames:
            if encoder is None:
                height, width = planes[0].shape
                encoder = Encoder(
                    library,
                    width,
                    height,
                    depth=depth,
                    options=options,
                    usage=usage,
                    threads=threads,
                    key_frames_only=key_frames_only,
                )
            packets += encoder.encode(planes)
        if encoder is None:
            raise ValueError("the clip has no frame")
        return packets + encoder.flush()
    finally:
        if encoder is not None:
            encoder.close()


def checked(planes: Planes, width: int, height: int, depth: int) -> Planes:
    """The planes, if they are of a 4:2:0 frame of that size and depth; ValueError otherwise."""
    half = (height + 1) // 2, (width + 1) // 2
    shapes = [plane.shape for plane in planes]
    if shapes != [(height, width), half, half]:
        raise ValueError(f"planes {shapes} are not of a 4:2:0 frame of {width}×{height} pixels")
    for name, plane in zip("yuv", planes, strict=True):
        if plane.dtype != DTYPES[depth]:
            wanted = np.dtype(DTYPES[depth]).name
            raise ValueError(f"plane {name} is {plane.dtype}; {depth} bits are given as {wanted}")
        if depth > 8 and plane.max() >= 1 << depth:
            raise ValueError(f"plane {name} holds {plane.max()}, which {depth} bits do not")
    return planes


def _distance(name: str, value: str | int, key_frames_only: bool) -> int:
    if not str(value).isdecimal() or len(str(value)) > 9:
        raise ValueError(f"option {name}={value} is no number of frames")
    if key_frames_only and name != "lag-in-frames" and int(value):
        raise ValueError(f"option {name}={value} is against key_frames_only")
    return int(value)
