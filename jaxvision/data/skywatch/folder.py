"""SkyWatch scenes as a folder in COCO's layout."""

import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from jaxvision.data.skywatch.annotations import clips_json, stills_json
from jaxvision.data.skywatch.files import write, write_clip, write_scene
from jaxvision.data.skywatch.preset import DEFAULT_SIZE, VERSION, train_preset, val_preset

MARKER = "skywatch.json"
SMALLEST, LARGEST = 64, 4096
CLIP_FORMATS = ("frames", "mp4")


def generate(
    out: str | os.PathLike,
    *,
    train: int = 2000,
    val: int = 400,
    size: int = DEFAULT_SIZE,
    seed: int = 0,
    rare: float = 0.03,
    val_rare: float = 0.11,
    clips: int = 0,
    frames: int = 48,
    clip_format: str = "frames",
    workers: int = 2,
) -> Path:
    """Writes the data set to folder `out` unless it is there already, and returns the folder.

    The same parameters give the same bytes whatever `workers`. The marker file `skywatch.json` says
    "complete" only when everything is written, so that a generation cut short is done again.

    Args:
        train, val: scenes in each split; `clips`: clips of `frames` frames, drawn like `train`.
        size: height and width of the pictures in pixels.
        rare, val_rare: share of meteorites among the boxes of each split. The validation split has
            more than the training split, so that 400 scenes hold at least 60.
        clip_format: "frames" (a folder of JPEGs for each clip) or "mp4".
        workers: threads that draw.
    """
    out = Path(out)
    parameters = dict(
        train=train, val=val, size=size, seed=seed, rare=rare, val_rare=val_rare,
        clips=clips, frames=frames, clip_format=clip_format,
    )  # fmt: skip
    _check(parameters, workers)
    if _is_complete(out, parameters):
        return out
    presets = {"train": train_preset(rare), "val": val_preset(val_rare)}
    write(out / MARKER, _marker(parameters, complete=False))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pictures are too small to be split; whole scenes run side by side
    try:
        with ThreadPoolExecutor(workers) as pool:
            for split, preset in presets.items():
                draw = functools.partial(write_scene, out / split, preset, seed, size)
                rows = list(pool.map(draw, range(parameters[split])))
                write(
                    out / "annotations" / f"instances_{split}.json", stills_json(rows, parameters)
                )
            if clips:
                draw = functools.partial(
                    write_clip, out / "clips", presets["train"], seed, size, frames, clip_format
                )
                rows = list(pool.map(draw, range(clips)))
                write(out / "annotations" / "instances_clips.json", clips_json(rows, parameters))
    finally:
        cv2.setNumThreads(threads)
    write(out / MARKER, _marker(parameters, complete=True))
    return out


def _check(parameters: dict, workers: int) -> None:
    for name in ("train", "val", "clips", "seed"):
        if parameters[name] < 0:
            raise ValueError(f"{name}={parameters[name]} is negative; give 0 or more")
    if not SMALLEST <= parameters["size"] <= LARGEST:
        raise ValueError(f"size={parameters['size']}: give {SMALLEST} to {LARGEST} pixels")
    if parameters["frames"] < 1 or workers < 1:
        raise ValueError(f"frames={parameters['frames']} and workers={workers} must be at least 1")
    if parameters["clip_format"] not in CLIP_FORMATS:
        raise ValueError(f"clip_format={parameters['clip_format']!r} is none of {CLIP_FORMATS}")


def _is_complete(out: Path, parameters: dict) -> bool:
    """True if `out` holds this very data set, False if it may be written; else `ValueError`."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the scenes")
    marker = out / MARKER
    if not marker.exists():
        if any(out.iterdir()):
            raise ValueError(f"{out} holds something else; name an empty folder for the scenes")
        return False
    try:
        found = json.loads(marker.read_text())
        theirs = {"version": found["version"], **found["parameters"]}
        complete = bool(found["complete"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{marker} is damaged; delete {out} to draw the scenes again") from error
    ours = {"version": VERSION, **parameters}
    odd = [f"{k}={theirs.get(k)} (wanted {v})" for k, v in ours.items() if theirs.get(k) != v]
    if odd:
        raise ValueError(
            f"{out} holds other scenes: {', '.join(odd)}; delete it or name another folder"
        )
    names = [f"instances_{s}.json" for s in ("train", "val")]
    whole = all((out / "annotations" / name).exists() for name in names) and all(
        sum(1 for _ in (out / split).glob("*.jpg")) == parameters[split]
        for split in ("train", "val")
    )
    return complete and whole


def _marker(parameters: dict, *, complete: bool) -> bytes:
    about = "SkyWatch scenes of jaxvision.data.skywatch; written anew until complete is true"
    record = dict(about=about, version=VERSION, parameters=parameters, complete=complete)
    return (json.dumps(record, indent=1) + "\n").encode()
