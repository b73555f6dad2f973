"""The same heads on what different codecs decode to."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.baselines.codec import Codec as Other
from jaxvision.baselines.search import at_bpp
from jaxvision.step import INFERENCE
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.heads.model import predictions
from jaxvision.wavenet_mv.reader import Names, Reader
from jaxvision.wavenet_mv.tasks import Scores

SEARCHED = 64  # pictures, of all, by which the quality of another codec is found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Read:
    """Mean bits a pixel of the labelled pictures, and scores; NaN where there is no such head.

    A pixel is one of the canvas that they are read on. `clamped` counts those coded at the end of a
    codec's dial although its bits are not near those wanted.
    """

    bpp: float
    clamped: int
    mean_ap: float
    iou: float
    top1: float


class Labelled:
    """Labelled pictures, batch by batch as the stage `heads` evaluates them, and the heads.

    Of this codec's files heads read the decoded latents. Of another codec's picture they read what
    the analysis makes of it, not rounded: the heads' own input, had there been no file of ours.
    """

    def __init__(self, reader: Reader, batches: Sequence[Mapping[str, Any]], names: Names, source):
        if not batches:
            raise ValueError("there are no labelled pictures")
        self.batches, self.names, self.source = batches, names, source
        canvas = np.shape(batches[0]["image"])[1:3]
        graph, self.state = nnx.split(nnx.view(reader, **INFERENCE))

        @jax.jit
        def analysed(state, images):
            codec = nnx.merge(graph, state).codec
            return codec.features(codec.analyse(images.astype(jnp.float32) / 255))

        @jax.jit
        def said(state, features):
            return predictions(nnx.merge(graph, state).heads(features), canvas)

        self._analysed, self._said = analysed, said

    def ours(self, codec: Codec, quality: float) -> Read:
        """By files of the codec that the heads were trained beside."""

        def features(images):
            files = [codec.encode(image, quality) for image in images]
            found = np.stack([codec.decode(data).features for data in files])
            return found, [len(data) for data in files]

        return self._read(features)

    def other(self, codec: Other, bpp: float) -> Read:
        """By files of another codec, at the quality whose bits are nearest to `bpp`."""
        images = [image for batch in self.batches for image in self._images(batch)]
        found = at_bpp(codec, images[:: -(-len(images) // SEARCHED)], bpp)

        def features(images):
            files = [codec.encode(image, found.quality) for image in images]
            shown = np.stack([codec.decode(data) for data in files])
            return self._analysed(self.state, shown), [len(data) for data in files]

        return self._read(features, clamped=len(images) if found.clamped else 0)

    def _read(self, features: Callable, *, clamped: int = 0) -> Read:
        scores = Scores(self.names, self.source)
        for batch in self.batches:
            images = np.asarray(batch["image"])
            found, lengths = features(images)
            bpp = 8 * np.array(lengths) / np.prod(images.shape[1:3])
            said = jax.device_get(self._said(self.state, found))
            scores.add(batch, said | {"bpp": bpp})
        result = scores.result()
        named = {"bpp": "bpp", "mean_ap": "mAP", "iou": "mIoU", "top1": "top1"}
        values = {field: result.get(name, math.nan) for field, name in named.items()}
        return Read(clamped=clamped, **values)

    @staticmethod
    def _images(batch: Mapping[str, Any]) -> list[np.ndarray]:
        return list(np.asarray(batch["image"])[np.asarray(batch["mask"])])
