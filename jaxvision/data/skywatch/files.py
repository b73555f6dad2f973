"""Files of scenes and clips, each written whole or not at all."""

import contextlib
import os
import threading
from pathlib import Path

import cv2
import numpy as np

from jaxvision.data.skywatch.motion import Clip, clip
from jaxvision.data.skywatch.preset import Preset
from jaxvision.data.skywatch.scene import scene

FPS = 25


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # where the folder itself is at fault
            part.unlink(missing_ok=True)
        raise OSError(
            f"cannot write {path}: {error.strerror}; free some space or name a folder of yours"
        ) from error


def write_scene(folder: Path, preset: Preset, seed: int, size: int, index: int) -> tuple:
    """Draws and writes one still; returns its image record, boxes and labels."""
    drawn = scene(preset, seed, index, size=size)
    name = f"{index:06d}.jpg"
    write(folder / name, drawn.jpeg())
    return {"file_name": name, "sky": drawn.kind}, drawn.boxes, drawn.labels


def write_clip(
    folder: Path, preset: Preset, seed: int, size: int, frames: int, form: str, index: int
) -> tuple:
    """Draws and writes one clip, as a folder of "frames" or as "mp4".

    Returns its video record and, per frame, (file name, boxes, labels, tracks); the frames of a
    video all bear the video's name.
    """
    drawn = clip(preset, seed, index, frames, size=size)
    if form == "mp4":
        name = f"{index:06d}.mp4"
        _write_video(folder / name, drawn)
        names = [name] * frames
    else:
        name = f"{index:06d}"
        names = [f"{name}/{t:06d}.jpg" for t in range(frames)]
        for t in range(frames):
            write(folder / names[t], drawn.jpeg(t))
    video = {"file_name": name, "length": frames, "fps": FPS, "sky": drawn.kind}
    return video, list(zip(names, drawn.boxes, drawn.labels, drawn.tracks, strict=True))


def _write_video(path: Path, drawn: Clip) -> None:
    part = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = drawn.frames.shape[1:3]
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (width, height))
    try:
        if not writer.isOpened():
            raise OSError(
                f"cannot write {path}: OpenCV has no mp4v encoder here; use frames instead"
            )
        for frame in drawn.frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        os.replace(part, path)
    finally:
        writer.release()
        part.unlink(missing_ok=True)
