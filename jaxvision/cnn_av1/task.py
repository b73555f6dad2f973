"""CNN-AV1 for the training program: config -> stages, prediction, report."""

import functools
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.cnn_av1.data import DataConfig, PartitionData
from jaxvision.cnn_av1.levels import INPUT
from jaxvision.cnn_av1.predict import PredictConfig, predict
from jaxvision.cnn_av1.report import write_report
from jaxvision.cnn_av1.stage_model import StageModel, model_config
from jaxvision.cnn_av1.stages import answers, make_stage
from jaxvision.spelling import nearest
from jaxvision.stage import Experiment


def build(config: ConfigDict) -> Experiment:
    """The stages of `config.run`, each a field of `config.stages`."""
    data = PartitionData(
        configs.from_config(DataConfig, config.data, path="data."), seed=config.seed
    )
    model = model_config(config)
    settings = configs.from_config(PredictConfig, config.predict, path="predict.")
    if model.four_way != data.cfg.four_way:
        raise ValueError(
            f"model.four_way={model.four_way} and data.four_way={data.cfg.four_way} must be alike"
        )
    for name in config.run:
        if name not in config.stages:
            raise ValueError(f"run: no stage {name!r}{nearest(name, config.stages)}")
    stages = {name: make_stage(name, config, data, model) for name in config.run}
    last = config.stages[config.run[-1]].kind if config.run else ""
    return Experiment(
        stages=stages,
        predict=functools.partial(predict, cfg=settings),
        forward=forward,
        example=example(data.cfg, levels=last == "multitask"),
        report=functools.partial(write_report, stages=stages, config=config, data=data),
    )


def forward(net: nnx.Module, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Probabilities of a stage's classes, or all that a pipeline or a multi-task net says."""
    if isinstance(net, StageModel):
        return {"probabilities": nnx.softmax(net(batch["block"], batch["qp"]))}
    return answers(net, batch)


def example(cfg: DataConfig, *, levels: bool) -> dict[str, np.ndarray]:
    """A batch of one block."""
    side = cfg.size + 2 * cfg.context
    block = np.zeros((1, INPUT, INPUT, 2), np.float32)
    return {
        "block": block if levels else np.zeros((1, side, side), np.uint16),
        "qp": np.zeros(1, np.int32),
        "level": np.zeros(1, np.int32),
    }
