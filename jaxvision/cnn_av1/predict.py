"""The partitions that a trained net expects of pictures and clips, as pictures and tables."""

import csv
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from flax import nnx

from jaxvision.cnn_av1 import predictor
from jaxvision.cnn_av1.classes import TYPES
from jaxvision.cnn_av1.clips import read_clip
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.stage_model import ModelConfig
from jaxvision.data.av1.partitions import NODE_SIZES, NONE, SPLIT, UNIT, possible
from jaxvision.data.av1.tree import BLOCKS, SIDES, Node, allowed, walk
from jaxvision.data.images import read_image
from jaxvision.data.inputs import expand
from jaxvision.data.video import is_image
from jaxvision.data.y4m import Planes
from jaxvision.written import whole_file

SMALL = 640  # pixels of a frame's side, up to which its picture is enlarged
LINE = (255, 190, 60)
ROW = ("row", "col", "size", "type", "probability")
Predict = Callable[[Planes, int], Mapping[int, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """`qindex`: the base quantiser index to predict for; `frames`: of each clip, at most."""

    qindex: int = 120
    frames: int = 1

    def __post_init__(self):
        if not 0 <= self.qindex <= 255:
            raise ValueError(f"predict.qindex={self.qindex} must be from 0 to 255")
        if self.frames < 1:
            raise ValueError(f"predict.frames={self.frames} must be at least 1")


def predict(
    net: nnx.Module, inputs: Sequence[Path], output: Path, *, cfg: PredictConfig
) -> Iterable[dict]:
    """For each picture or clip `….png`, the expected tree over it, and `….csv`, its nodes.

    Leaves `model.npz` beside them, which `python -m jaxvision.cnn_av1 encode --model=` takes. `net`
    is a `MultiTask`.
    """
    if not isinstance(net, MultiTask):
        raise ValueError("trees are drawn by the net of all sizes: add --stage=multitask")
    made = ModelConfig(
        backbone=net.backbone.cfg,
        hidden=net.heads["types"].hidden.out_features,
        four_way=net.heads["rect"].out.out_features == 4,
    )
    output.mkdir(parents=True, exist_ok=True)
    predictor.save(output / "model.npz", net, made)
    ask = predictor.Predictor(net)
    for path, relative in expand(inputs, without=output).items():
        for number, planes in enumerate(itertools.islice(_frames(path), cfg.frames)):
            found = expected(planes, cfg.qindex, ask)
            name = relative.name if is_image(path) else f"{relative.name}.{number:04d}"
            target = output / relative.with_name(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target.with_name(f"{name}.png")) as part:
                part.write_bytes(_png(drawn(planes[0], [node for node, _ in found])))
            write_nodes(target.with_name(f"{name}.csv"), found)
            counts = np.bincount([node.partition for node, _ in found], minlength=len(TYPES))
            yield {
                "file": str(path),
                "frame": number,
                "nodes": len(found),
                **{name: int(n) for name, n in zip(TYPES, counts, strict=True) if n},
            }


def expected(planes: Planes, qindex: int, ask: Predict) -> list[tuple[Node, float]]:
    """From the superblocks down, the likeliest type of each node, with its probability.

    Nodes that reach beyond the frame are split, which they always may.
    """
    height, width = planes[0].shape
    found, told_of = {}, ask(planes, qindex)
    for size in NODE_SIZES:
        types = np.where(np.isin(range(len(TYPES)), possible(size)), told_of[size], 0)
        found[size] = types.reshape(height // size, width // size, len(TYPES))
    rows, cols = (2 * -(-side // 8) for side in (height, width))

    def told(row: int, col: int, size: int) -> int:
        at = row * UNIT // size, col * UNIT // size
        if at[0] < len(found[size]) and at[1] < found[size].shape[1]:
            return int(found[size][at].argmax())
        return SPLIT if SPLIT in allowed(row, col, size, rows, cols) and size > 8 else NONE

    def sure(node: Node) -> float:
        at = node.row * UNIT // node.size, node.col * UNIT // node.size
        whole = at[0] < len(found[node.size]) and at[1] < found[node.size].shape[1]
        return float(found[node.size][at][node.partition]) if whole else float("nan")

    return [(node, sure(node)) for node in walk(told, rows, cols, 64)]


def drawn(luma: np.ndarray, nodes: Sequence[Node]) -> np.ndarray:
    """The blocks of a tree as lines over luminance `[h w]`: RGB uint8, enlarged if small."""
    scale = 3 if max(luma.shape) <= SMALL else 1
    grey = luma if luma.dtype == np.uint8 else (luma >> 2).astype(np.uint8)
    picture = np.repeat(np.repeat(grey, scale, 0), scale, 1)
    picture = np.ascontiguousarray(np.repeat(picture[..., None], 3, -1))
    for node in nodes:
        for down, along, number in BLOCKS[node.size][node.partition]:
            top, left = (UNIT * scale * at for at in (node.row + down, node.col + along))
            height, width = (UNIT * scale * side for side in SIDES[number])
            cv2.rectangle(picture, (left, top), (left + width, top + height), LINE, 1)
    return picture


def write_nodes(path: Path, found: Sequence[tuple[Node, float]]) -> None:
    """A line for each node: row and column in pixels, size, type, probability."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(ROW)
        for node, sure in found:
            place = (UNIT * node.row, UNIT * node.col, node.size, TYPES[node.partition])
            writer.writerow([*place, f"{sure:.4f}" if sure == sure else ""])


def _frames(path: Path) -> Iterable[Planes]:
    if is_image(path):
        return [(cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY),)]
    if path.suffix.lower() != ".y4m":
        raise ValueError(
            f"{path}: pictures and .y4m clips are read: ffmpeg -i {path.name} clip.y4m"
        )
    return read_clip(path).frames


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
