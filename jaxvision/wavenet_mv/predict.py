"""Files of pictures, what they decode to, and what heads read in them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from PIL import Image

from jaxvision.data.images import read_image
from jaxvision.data.inputs import expand
from jaxvision.data.video import is_image
from jaxvision.draw import draw_boxes
from jaxvision.metrics.image_quality import psnr
from jaxvision.wavenet_mv.codec import Codec, Decoded
from jaxvision.wavenet_mv.heads.model import AIHeads, predictions
from jaxvision.wavenet_mv.model import WavenetMV
from jaxvision.wavenet_mv.reader import Names
from jaxvision.wavenet_mv.tasks import SCORE, tinted
from jaxvision.written import whole_file


def predict(
    net: nnx.Module, inputs: Sequence[Path], output: Path, *, names: Names
) -> Iterable[dict]:
    """Codes each picture at the middle quality: `model.npz`, `….wvmv`, and with heads `….png`.

    `net` is a `WavenetMV` or a `Reader`; yields a record for each picture.
    """
    codec = Codec(net if isinstance(net, WavenetMV) else net.codec)
    look = None if isinstance(net, WavenetMV) else _looking(net.heads)
    output.mkdir(parents=True, exist_ok=True)
    codec.save(output / "model.npz")
    quality = (codec.qualities - 1) / 2
    for path, relative in expand(inputs, without=output).items():
        if not is_image(path):
            raise ValueError(f"{path}: wavenet_mv codes pictures, no videos")
        image = read_image(path)
        data = codec.encode(image, quality)
        target = output / relative.with_name(f"{relative.name}.wvmv")
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part:
            part.write_bytes(data)
        decoded = codec.decode(data)
        record = {
            "file": str(path),
            "bytes": len(data),
            "bpp": 8 * len(data) / (image.shape[0] * image.shape[1]),
            "psnr": float(psnr(*(x[None] / np.float32(255) for x in (decoded.image, image)))[0]),
        }
        if look is not None:
            found, drawn = _read(look, net.heads.cfg.stride, decoded, names)
            with whole_file(target.with_suffix(".png")) as part:
                Image.fromarray(drawn).save(part, format="PNG")
            record |= found
        yield record


def _looking(heads: AIHeads):
    """The heads as a function of features `[h w k]`: `predictions` of a batch of one."""
    graph, state = nnx.split(heads)
    stride = heads.cfg.stride

    def run(state, features):
        canvas = tuple(stride * n for n in features.shape[1:3])
        return predictions(nnx.merge(graph, state)(features), canvas)

    program = jax.jit(run)
    return lambda features: jax.tree.map(np.asarray, program(state, features[None]))


def _read(look, stride: int, decoded: Decoded, names: Names) -> tuple[dict, np.ndarray]:
    """What the heads say of a file's latents, and its picture with it."""
    image, said = decoded.image, look(decoded.features)
    found: dict = {}
    if "segments" in said:
        image = tinted(image, said["segments"][0][: image.shape[0], : image.shape[1]])
    if "boxes" in said:
        height, width = (stride * n for n in decoded.features.shape[:2])
        size = np.float32([width, height, width, height])
        sure = said["scores"][0] >= SCORE
        boxes, labels = said["boxes"][0][sure] * size, said["labels"][0][sure]
        scores = said["scores"][0][sure]
        found["boxes"] = [
            {"box": [round(float(v), 1) for v in box], "class": names.classes[k], "score": float(s)}
            for box, k, s in zip(boxes, labels, scores, strict=True)
        ]
        image = draw_boxes(image, boxes, labels, names.classes, scores)
    if "action" in said:
        found["action"] = names.actions[int(said["action"][0])]
    return found, image
