"""Labels that come with the library: partitions that libaom chose in panned photographs.

`embedded.npz` holds no pixel. Those are made anew, to the bit, from the photographs in
scikit-image's wheel (`clips.photo_clip`), and held against a checksum: blocks of every size, with
any context, can be had without a codec. `embedding.py` writes the file.

A node that the encoder tried has its best type; a bit says whether it is in the tree that was
coded. Regrets of NONE, HORZ, VERT and SPLIT are (cost - best) / best, where the best type may be
another than these, in steps of a logarithm.
"""

import dataclasses
import functools
import hashlib
import json
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxvision.cnn_av1.clips import photo_clip
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.levels import around
from jaxvision.data.av1.partitions import NODE_SIZES

FILE = Path(__file__).parent / "embedded.npz"
UNKNOWN = 255  # a node that the encoder did not try, or one beyond the frame's edge
CODED = 16  # this bit of a label: the node is in the coded tree
STEPS, FINE = 48, 100  # of a regret: 48 log2(1 + 100 regret)
NODES = ("coded", "left")
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class ClipLabels:
    """A clip, and what was made of its frames at each quality.

    `labels[size]` uint8 `[frames qualities rows cols]`, a number for every node of that size, by
    row and column; `regrets[size]` uint8 `[frames qualities rows cols 4]`, of some sizes; `qindex`
    uint8 `[frames qualities]`.
    """

    photograph: str
    variant: int
    split: str
    sha256: str
    qindex: np.ndarray
    labels: dict[int, np.ndarray]
    regrets: dict[int, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Labels:
    """All clips, of one size in pixels, and how they were coded."""

    width: int
    height: int
    about: dict
    clips: tuple[ClipLabels, ...]


@functools.cache
def read(path: Path = FILE) -> Labels:
    """ValueError for a file that holds no such labels."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        clips = tuple(
            ClipLabels(
                **{key: clip[key] for key in ("photograph", "variant", "split", "sha256")},
                qindex=arrays["qindex"][i],
                labels={size: arrays[f"labels_{size}"][i] for size in NODE_SIZES},
                regrets={
                    size: arrays[f"regrets_{size}"][i]
                    for size in NODE_SIZES
                    if f"regrets_{size}" in arrays
                },
            )
            for i, clip in enumerate(about["clips"])
        )
        return Labels(about["width"], about["height"], about, clips)
    except (KeyError, TypeError, ValueError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no labels of clips: {error}") from error


def write(file: BinaryIO, labels: Labels) -> None:
    """Writes the file; the same labels make the same bytes."""
    keys = ("photograph", "variant", "split", "sha256")
    listed = [{key: getattr(clip, key) for key in keys} for clip in labels.clips]
    about = labels.about | dict(width=labels.width, height=labels.height, clips=listed)
    arrays = {"about": np.array(json.dumps(about))}
    arrays["qindex"] = np.stack([clip.qindex for clip in labels.clips])
    for size in NODE_SIZES:
        arrays[f"labels_{size}"] = np.stack([clip.labels[size] for clip in labels.clips])
        if all(size in clip.regrets for clip in labels.clips):
            arrays[f"regrets_{size}"] = np.stack([clip.regrets[size] for clip in labels.clips])
    np.savez_compressed(file, **arrays)


def luma(clip: ClipLabels, labels: Labels) -> np.ndarray:
    """The clip's luminance, uint16 `[frames h w]`; ValueError where it is not what was labelled."""
    size = dict(width=labels.width, height=labels.height, frames=len(clip.qindex))
    found = np.stack(
        [planes[0] for planes in photo_clip(clip.photograph, **size, variant=clip.variant)]
    )
    if checksum(found) != clip.sha256:
        raise ValueError(
            f"{clip.photograph}, variant {clip.variant}: these pixels are not those that were "
            "labelled; scikit-image's photograph or its decoder has changed: label your own with "
            "`python -m jaxvision.cnn_av1 label`"
        )
    return found


def checksum(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.astype("<u2").tobytes()).hexdigest()


def blocks(
    split: str, *, size: int, context: int, nodes: str = "coded", clips: int = 0
) -> BlockSet:
    """Blocks of a split: of the nodes in the "coded" trees, or of those "left" that were tried.

    With `clips`, of its first clips alone.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    if nodes not in NODES:
        raise ValueError(f"nodes {nodes!r} are none of {', '.join(NODES)}")
    labels = read()
    wanted = [i for i, clip in enumerate(labels.clips) if clip.split == split]
    parts = [
        _of_clip(labels, labels.clips[i], i, size=size, context=context, left=nodes == "left")
        for i in wanted[: clips or None]
    ]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    pixels, types, qps, sequence, costs = columns
    return BlockSet(
        blocks=pixels,
        labels=types,
        qps=qps,
        sequence=sequence,
        names=tuple(f"{clip.photograph}_{clip.variant}" for clip in labels.clips),
        size=size,
        context=context,
        costs=costs,
    )


def _of_clip(labels, clip, number, *, size, context, left):
    found = clip.labels[size]
    wanted = (found != UNKNOWN) & ((found & CODED == 0) if left else (found & CODED > 0))
    frames, qualities, rows, cols = np.nonzero(wanted)
    planes = luma(clip, labels)
    pixels = np.empty((len(frames), *(size + 2 * context,) * 2), np.uint16)
    for frame in range(len(planes)):
        here = frames == frame
        place = dict(size=size, context=context)
        pixels[here] = around(planes[frame], rows[here] * size, cols[here] * size, **place)
    costs = np.full((len(frames), 4), np.nan, np.float32)
    if size in clip.regrets:
        costs = 1 + regrets(clip.regrets[size][wanted])
    return (
        pixels,
        (found[wanted] & 15).astype(np.uint8),
        clip.qindex[frames, qualities],
        np.full(len(frames), number, np.int32),
        costs,
    )


def regrets(steps: np.ndarray) -> np.ndarray:
    """What steps of regret stand for, float32; NaN for those that are not known."""
    known = (2 ** (steps.astype(np.float32) / STEPS) - 1) / FINE
    return np.where(steps == UNKNOWN, np.nan, known).astype(np.float32)


def regret_steps(costs: np.ndarray) -> np.ndarray:
    """Costs over that of the best type, `[* 4]`, NaN where unknown, as steps of regret, uint8.

    A large regret is 254. Rounding lets a cost be a little less than the best: that is 0.
    """
    known = np.isfinite(costs)
    regret = np.where(known, np.maximum(costs - 1, 0), 0)
    steps = np.minimum(np.rint(STEPS * np.log2(1 + FINE * regret)), UNKNOWN - 1)
    return np.where(known, steps, UNKNOWN).astype(np.uint8)
