"""Key frames of video codecs as image codecs: HEVC, AV1 and VVC through ffmpeg.

A file is the elementary stream alone. Colours are converted here (`colour.py`): ffmpeg is given
planes and gives planes, so that it never converts. The stream does not say that its range is full;
a player will show it too bright or too dark. Times include the start of a process, some 50 ms.
"""

import dataclasses
import re

import numpy as np

from jaxvision.baselines import ffmpeg
from jaxvision.baselines.codec import CodecError, check_image
from jaxvision.baselines.colour import from_planes, to_planes

# What is read first of a stream: HEVC and VVC begin with zeros, AV1 with 0x12. An image of odd
# size is padded for 4:2:0, and one byte before its stream says so.
ODD_HEIGHT, ODD_WIDTH = 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoCodec:
    """An intra frame by one of ffmpeg's encoders."""

    name: str
    qualities: tuple[float, ...]
    coder: str
    options: tuple[str, ...]  # `{q}` is the quality
    stream: str  # ffmpeg's name of the elementary stream
    bits: int = 8
    half: bool = True  # 4:2:0; else 4:4:4

    def missing(self) -> str | None:
        return ffmpeg.missing(self.coder)

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        image = check_image(image)
        planes = to_planes(image, bits=self.bits, half=self.half)
        height, width = planes[0].shape
        command = [
            *("-f", "rawvideo", "-pix_fmt", self._layout(), "-s", f"{width}x{height}", "-r", "25"),
            *("-i", "pipe:0", "-frames:v", "1", "-threads", "1", "-c:v", self.coder),
            *(option.format(q=f"{quality:g}") for option in self.options),
            *("-f", self.stream, "pipe:1"),
        ]
        try:
            data = ffmpeg.run(command, b"".join(plane.tobytes() for plane in planes))
        except CodecError as error:
            raise CodecError(f"{self.name} cannot encode {image.shape}: {error}") from error
        odd = ODD_HEIGHT * (height - image.shape[0]) | ODD_WIDTH * (width - image.shape[1])
        return bytes([odd] * bool(odd)) + data

    def decode(self, data: bytes) -> np.ndarray:
        odd = data[0] if data and 0 < data[0] <= ODD_HEIGHT | ODD_WIDTH else 0
        command = ["-xerror", "-err_detect", "explode", "-f", self.stream, "-i", "pipe:0"]
        command += ["-frames:v", "1"]
        command += ["-pix_fmt", self._layout(), "-strict", "-1", "-f", "yuv4mpegpipe", "pipe:1"]
        try:
            image = from_planes(
                self._planes(ffmpeg.run(command, data[bool(odd) :])), bits=self.bits
            )
        except CodecError as error:
            raise CodecError(f"{self.name} cannot decode {len(data)} bytes: {error}") from error
        height, width = image.shape[:2]
        return image[: height - bool(odd & ODD_HEIGHT), : width - bool(odd & ODD_WIDTH)]

    def _layout(self) -> str:
        """ffmpeg's name of the planes."""
        return ("yuv420p" if self.half else "yuv444p") + ("10le" if self.bits == 10 else "")

    def _planes(self, y4m: bytes) -> list[np.ndarray]:
        """The planes of the first frame of a YUV4MPEG2 stream."""
        head, _, rest = y4m.partition(b"\n")
        size = re.search(rb" W(\d+) H(\d+)", head)
        if not size:
            raise CodecError(f"ffmpeg wrote {head[:40]!r} instead of planes")
        width, height = map(int, size.groups())
        small = (height // 2, width // 2) if self.half else (height, width)
        values = np.frombuffer(
            rest.partition(b"\n")[2], np.uint8 if self.bits == 8 else np.dtype("<u2")
        )
        shapes = ((height, width), small, small)
        parts = np.split(values, np.cumsum([h * w for h, w in shapes]))
        return [part.reshape(shape) for part, shape in zip(parts[:3], shapes, strict=True)]


# info=0: no message with the encoder's options, which is 2 kB in every file. psy-rd, psy-rdoq
# and aq-mode trade PSNR for looks.
X265 = (
    *("-preset", "slow", "-x265-params"),
    "qp={q}:info=0:log-level=none:keyint=1:pools=1:frame-threads=1:aq-mode=0:psy-rd=0:psy-rdoq=0",
)
X265_QP = (44, 40, 36, 32, 28, 24, 20)
HEVC_444 = VideoCodec(
    name="hevc-444", qualities=X265_QP, coder="libx265", options=X265, stream="hevc", half=False
)
HEVC_420 = VideoCodec(
    name="hevc-420", qualities=X265_QP, coder="libx265", options=X265, stream="hevc"
)
AV1_420 = VideoCodec(
    name="av1-420",
    qualities=(60, 52, 44, 36, 28, 20),
    coder="libsvtav1",
    options=("-preset", "4", "-crf", "{q}", "-svtav1-params", "tune=1:lp=1"),  # tune 1 is PSNR
    stream="obu",
    bits=10,
)
AV1_444 = VideoCodec(
    name="av1-444",
    qualities=(60, 52, 44, 36, 28, 20),
    coder="libaom-av1",
    options=("-usage", "allintra", "-cpu-used", "6", "-crf", "{q}", "-b:v", "0"),
    stream="obu",
    half=False,
)


def _vvc(preset: str) -> VideoCodec:
    return VideoCodec(
        name=f"vvc-{preset}",
        qualities=(42, 37, 32, 27, 22),
        coder="libvvenc",
        options=("-preset", preset, "-qp", "{q}", "-qpa", "0"),  # qpa trades PSNR for looks
        stream="vvc",
        bits=10,  # vvenc has 4:2:0 at 10 bits only
    )


VVC_FASTER, VVC_MEDIUM = _vvc("faster"), _vvc("medium")
VIDEO = (HEVC_444, HEVC_420, AV1_420, AV1_444, VVC_FASTER, VVC_MEDIUM)
