"""Frames of a video one at a time, and videos and GIFs written from frames."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

VIDEOS = frozenset(
    ".3gp .avi .flv .gif .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv .y4m".split()
)
IMAGES = frozenset(".bmp .jpeg .jpg .jp2 .pgm .png .ppm .tif .tiff .webp".split())
COMPLETE = 0.9  # of the frames that the container states; for some formats it only estimates them


def is_video(path: Path) -> bool:
    """Whether the name ends like a video's; a GIF counts as one."""
    return Path(path).suffix.lower() in VIDEOS


def is_image(path: Path) -> bool:
    """Whether the name ends like a still picture's."""
    return Path(path).suffix.lower() in IMAGES


class Video:
    """The frames of a file, uint8 `[h w 3]` RGB, decoded while they are iterated over.

    Each iteration starts anew. `count` is what the container states and may be off by a few frames,
    0 where it states none. Iterating over a file that ends well before raises ValueError at the
    place, after the frames that could be decoded.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        with _opened(self.path) as capture:
            read, frame = capture.read()
            if not read:
                raise ValueError(f"{self.path}: no frame can be decoded; is the file whole?")
            self.fps = float(capture.get(cv2.CAP_PROP_FPS))
            self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.height, self.width = frame.shape[:2]  # of the frame: the container's ignore rotation
        if not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise ValueError(
                f"{self.path}: states {self.fps} frames per second; re-encode the video"
            )

    def __iter__(self) -> Iterator[np.ndarray]:
        done = 0
        with _opened(self.path) as capture:
            while True:
                read, frame = capture.read()
                if not read:
                    break
                done += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if done < COMPLETE * self.count:
            raise ValueError(
                f"{self.path}: decoding ends after {done} of {self.count} frames; is it whole?"
            )


class VideoWriter:
    """Writes frames, uint8 `[h w 3]` RGB of one size, to an mp4 file; a context manager.

    The codec is MPEG-4 part 2 ("mp4v"), which every build of OpenCV can encode: its wheels carry no
    H.264 encoder. VLC, mpv and ffmpeg play it, browsers do not; `ffmpeg -i in.mp4 -c:v libx264
    out.mp4` makes one for them. Odd sizes are padded by repeating the last column or row. The file
    is complete when the context ends, also by an exception.
    """

    def __init__(self, path: Path, *, fps: float, height: int, width: int):
        self.path = Path(path)
        self.shape = (height, width, 3)
        self._written = 0
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"{self.path}: videos are written as .mp4")
        size = (width + width % 2, height + height % 2)
        code = cv2.VideoWriter_fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, code, fps, size)
        if not self._writer.isOpened():
            raise OSError(
                f"{self.path}: cannot be written as an mp4 of {width}x{height} at {fps:g} frames "
                "per second; is the folder there and writable?"
            )

    def write(self, frame: np.ndarray) -> None:
        if frame.shape != self.shape or frame.dtype != np.uint8:
            raise ValueError(
                f"{self.path}: frames are uint8 {self.shape}, not {frame.dtype} {frame.shape}"
            )
        height, width, _ = frame.shape
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self._written += 1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        self._writer.release()
        if kind is None and self._written:  # OpenCV does not say when it cannot write
            arrived = Video(self.path).count
            if arrived != self._written:
                raise OSError(
                    f"{self.path}: {arrived} of {self._written} frames arrived; is the disk full?"
                )


def write_gif(path: Path, frames: Iterable[np.ndarray], *, fps: float) -> None:
    """Writes a GIF that repeats for ever, of frames uint8 `[h w 3]` RGB of one size.

    GIFs count time in hundredths of a second, to which a frame's duration is rounded; viewers slow
    down what is faster than 50 frames a second.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"{path}: a GIF has 0 < fps <= 50, not {fps}")
    fast = (
        Image.Quantize.FASTOCTREE
    )  # a palette for each frame; thirty times faster than median cut
    pictures = (Image.fromarray(frame).quantize(method=fast) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: there are no frames to write")
    duration = 10 * round(100 / fps)
    first.save(path, save_all=True, append_images=pictures, duration=duration, loop=0)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise ValueError(
                f"{path}: cannot be opened as a video; is it whole, and its codec known?"
            )
        yield capture
    finally:
        capture.release()
