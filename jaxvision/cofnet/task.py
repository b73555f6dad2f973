"""COFNet for the training program: config -> stages, prediction, export."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.cofnet.loss import LossConfig, detection_loss
from jaxvision.cofnet.model import COFNet, CofnetConfig
from jaxvision.cofnet.predict import predict as predict_files
from jaxvision.cofnet.sampler import SamplerConfig, detect
from jaxvision.data.detection import DataConfig, DetectionData
from jaxvision.metrics.detection import scalar_names
from jaxvision.metrics.report import DetectionReport
from jaxvision.metrics.throughput import Throughput
from jaxvision.spelling import nearest
from jaxvision.stage import Eval, Experiment, Graft, Objective, Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What `predict` draws and writes: see `jaxvision.cofnet.predict`."""

    score: float = 0.3
    tile: int = 0  # pixels; 0: whole images only
    batch: int = 8
    gif: int = 0  # its width; 0: none

    def __post_init__(self):
        if not 0 <= self.score <= 1:
            raise ValueError(f"predict.score={self.score} must be from 0 to 1")
        for name, least in (("tile", 0), ("gif", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"predict.{name}={getattr(self, name)} must be at least {least}")


def build(config: ConfigDict) -> Experiment:
    """The stages of `config.run`, all of them detection on `config.data`.

    Fills in `config.data.names` and `category_ids`, so that a saved config predicts without the
    data set. An entry of a stage's `init_from` is an earlier stage or a folder, alone or with
    renames of its parameters' paths, (regex, replacement):
    `--config.stages.detect.init_from="('ssl', ('runs/old/detect', ('^encoder/', 'backbone/')))"`.
    """
    predicting = configs.from_config(PredictConfig, config.predict, path="predict.")
    data_cfg = configs.from_config(DataConfig, config.data, path="data.")
    size = tuple(config.model.size)
    data = DetectionData(data_cfg, size=size, seed=config.seed, echo=_say)
    config.data.names, config.data.category_ids = data.names, data.category_ids
    model = configs.from_config(CofnetConfig, config.model, path="model.", classes=len(data.names))
    loss = configs.from_config(LossConfig, config.loss, path="loss.")
    sampler = configs.from_config(SamplerConfig, config.sampler, path="sampler.")
    _check_together(model, loss, sampler)
    stages = {
        name: _stage(name, config, data, model=model, loss=loss, sampler=sampler)
        for name in config.run
    }

    def forward(model: COFNet, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return detect(model, batch["image"], jax.random.key(config.seed), cfg=sampler)

    def predict(model: COFNet, inputs: Sequence[Path], output: Path) -> Iterable[dict]:
        graph, state = nnx.split(model)
        run = jax.jit(lambda state, images: forward(nnx.merge(graph, state), {"image": images}))
        return predict_files(
            functools.partial(run, state),
            inputs,
            output,
            names=data.names,
            category_ids=data.category_ids or None,
            size=size,
            score=predicting.score,
            tile=predicting.tile or None,
            batch=predicting.batch,
            gif=predicting.gif or None,
        )

    example = {"image": np.zeros((1, *size, 3), np.uint8)}
    return Experiment(stages=stages, predict=predict, forward=forward, example=example)


def _check_together(model: CofnetConfig, loss: LossConfig, sampler: SamplerConfig) -> None:
    slots, starts = loss.slots, sampler.proposals == "learned" and sampler.steps > 0
    if starts and sampler.start > slots.start:
        raise ValueError(
            f"sampler.start={sampler.start} is later than loss.slots.start={slots.start}, up to "
            "which proposals learn: lower the first, or raise the second and train"
        )
    if model.objective == "eps" and (slots.assigner != "iou" or not slots.n_aligned):
        raise ValueError(
            f"model.objective 'eps' learns from aligned slots, and assigns by 'iou': slots.aligned="
            f"{slots.aligned}, slots.assigner={slots.assigner!r} cannot be trained"
        )


def _stage(
    name: str,
    config: ConfigDict,
    data: DetectionData,
    *,
    model: CofnetConfig,
    loss: LossConfig,
    sampler: SamplerConfig,
) -> Stage:
    cfg = config.stages[name]
    known = [f"val/{scalar}" for scalar in scalar_names(data.names)]
    if cfg.best and cfg.best not in known:
        raise ValueError(f"stages.{name}.best: no metric {cfg.best!r}{nearest(cfg.best, known)}")

    def predict(net: COFNet, batch, rngs: nnx.Rngs):
        return detect(net, batch["image"], rngs.sample(), cfg=sampler)

    def reports(directory: Path):
        measured: dict[str, float] = {}
        report = DetectionReport(data.source("val"), directory, measurements=measured)
        return (Throughput(measured), report)

    return Stage(
        name=name,
        model=lambda rngs: COFNet(model, rngs=rngs),
        data=lambda split: data.batches(split, batch=cfg.batch),
        objectives={
            "detect": Objective(
                loss=functools.partial(detection_loss, cfg=loss),
                optimizer=configs.optimizer(cfg),
                params=cfg.train,
            )
        },
        steps=cfg.steps,
        init_from=tuple(map(_graft, cfg.init_from)),
        evals={
            "val": Eval(split="val", predict=predict, host=reports, every=cfg.eval_every),
        },
        accumulate=cfg.accumulate,
        ema=cfg.ema or None,
        save_every=cfg.save_every,
        best=cfg.best or None,
        seed=config.seed,
    )


def _graft(entry: Any) -> Graft:
    """`source`, or `(source, (regex, replacement), …)`."""
    source, *rename = [entry] if isinstance(entry, str) else entry
    pairs = [p for p in rename if isinstance(p, list | tuple) and len(p) == 2]
    if len(pairs) < len(rename):
        raise ValueError(f"init_from: {entry!r} is not (source, (regex, replacement), …)")
    return Graft(source=source, rename=tuple(map(tuple, pairs)))


def _say(text: str) -> None:
    """Prints, in the first process."""
    if jax.process_index() == 0:
        print(text, flush=True)
