"""WAVENET-MV for the training program: config -> stages, prediction, export."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.data.images import read_image
from jaxvision.data.labelled import LabelledConfig, LabelledData
from jaxvision.data.pictures import PicturesConfig, split_pictures
from jaxvision.spelling import nearest
from jaxvision.stage import Experiment
from jaxvision.wavenet_mv.evaluation import rates
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig
from jaxvision.wavenet_mv.heads.model import HeadsConfig
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.predict import predict
from jaxvision.wavenet_mv.reader import Names, Reader, answers
from jaxvision.wavenet_mv.report.write import write_report
from jaxvision.wavenet_mv.stages import CODEC, READING, codec_stage, reading_stage

REPORTED = 24  # pictures, at most


def build(config: ConfigDict) -> Experiment:
    """The stages of `config.run`: `wavelet`, `compressor`, `teacher`, `heads`.

    Fills in `config.names`, so that a saved config predicts without the labelled data.
    """
    data = configs.from_config(PicturesConfig, config.data, path="data.")
    model = configs.from_config(WavenetMvConfig, config.model, path="model.")
    for name in config.run:
        if name not in (*CODEC, *READING):
            raise ValueError(f"run: no stage {name!r}{nearest(name, (*CODEC, *READING))}")
    multiple = 4
    if model.wavelet.mode == "lifting":
        multiple = 2 ** (model.wavelet.levels + model.compressor.deeper)
    sizes = {f"data.{name}": getattr(data, name) for name in ("crop", "val_crop")}

    reading = {}
    if set(config.run) & set(READING):
        labelled = configs.from_config(LabelledConfig, config.labelled, path="labelled.")
        sizes |= {f"labelled.{name}": getattr(labelled, name) for name in ("size", "val_size")}
        reading = _reading(config, labelled, model)
    for name, size in sizes.items():
        if size % multiple:
            raise ValueError(f"{name}={size} must be a multiple of {multiple}")
    stages = {
        name: codec_stage(name, config, data, model)
        if name in CODEC
        else reading_stage(name, config, model=model, **reading)
        for name in config.run
    }

    def forward(net: nnx.Module, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        if isinstance(net, WavenetMV):
            return rates(net, batch["image"])
        return answers(net, batch["image"])

    names = reading.get("names", Names())
    size = labelled.size if reading else data.val_crop
    return Experiment(
        stages=stages,
        predict=functools.partial(predict, names=names),
        forward=forward,
        example={"image": np.zeros((1, size, size, 3), np.uint8)},
        report=functools.partial(_report, data),
    )


def _report(
    data: PicturesConfig,
    net: nnx.Module,
    workdir: Path,
    output: Path,
    say: Callable[[str], None],
):
    """Real files of the pictures held out; `tasks.csv` is the heads' last."""
    paths = split_pictures(data)["val"][:REPORTED]
    reader = net if isinstance(net, Reader) else None
    tables = sorted(workdir.glob("heads/eval/*/tasks.csv"), key=lambda p: p.stat().st_mtime)
    return write_report(
        reader.codec if reader else net,
        {path.stem: read_image(path) for path in paths},
        workdir,
        output=output,
        reader=reader,
        tasks=tables[-1] if reader and tables else None,
        echo=say,
    )


def _reading(config: ConfigDict, labelled: LabelledConfig, model: WavenetMvConfig) -> dict:
    """What the stages with heads share."""
    data = LabelledData(labelled, seed=config.seed)
    if not any(config.names.values()):
        config.names = dict(classes=data.classes, segments=data.segments, actions=data.actions)
    names = configs.from_config(Names, config.names, path="names.")
    heads = configs.from_config(
        HeadsConfig,
        config.heads,
        path="heads.",
        detect_classes=len(names.classes),
        segment_classes=len(names.segments),
        actions=len(names.actions),
        stride=2**model.wavelet.levels,
    )
    loss = configs.from_config(HeadsLossConfig, config.loss, path="loss.")
    return dict(data=data, names=names, heads=heads, loss=loss)
