"""The stages of CNN-AV1: what each sees, learns by, starts from and is measured by."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import grain
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.cnn_av1.classes import TYPES, class_counts, names, stage_labels
from jaxvision.cnn_av1.data import PartitionData, level_batches, stage_batches
from jaxvision.cnn_av1.dataset.ensembles import MEMBERS
from jaxvision.cnn_av1.evaluation import (
    TYPE_SCALARS,
    LevelReport,
    StageReport,
    TypesReport,
    level_scalars,
)
from jaxvision.cnn_av1.levels import INPUT, LEVELS, level_of
from jaxvision.cnn_av1.loss import LossConfig, multitask_loss, stage_loss, temperature_loss
from jaxvision.cnn_av1.pipeline import MultiTask, Pipeline
from jaxvision.cnn_av1.stage_model import STAGES, ModelConfig, StageModel
from jaxvision.metrics import classes
from jaxvision.spelling import nearest
from jaxvision.stage import Eval, Graft, Objective, Stage

KINDS = ("stage", "calibrate", "multitask", "pipeline")
WITHIN = {"binary": "stage1", "macro": "stage2", "rect": "rect"}  # names of a pipeline's parts
LAST = 1 << 30  # more steps than there are: an evaluation at the end alone


def make_stage(name: str, config: ConfigDict, data: PartitionData, model: ModelConfig) -> Stage:
    """The stage `name` of a config: of one task, its calibration, of all tasks, or the pipeline."""
    cfg = config.stages[name]
    if cfg.kind not in KINDS:
        raise ValueError(f"stages.{name}.kind {cfg.kind!r}{nearest(cfg.kind, KINDS)}")
    if cfg.kind in ("stage", "calibrate") and cfg.task not in STAGES:
        raise ValueError(f"stages.{name}.task {cfg.task!r}{nearest(cfg.task, STAGES)}")
    loss = configs.from_config(LossConfig, cfg.loss, path=f"stages.{name}.loss.")
    model = made_of(cfg, model)
    if cfg.kind == "multitask":
        return _multitask(name, config, data, model, loss)
    if cfg.kind == "pipeline":
        return _pipeline(name, config, data, model)
    return _one_task(name, config, data, model, loss)


def _one_task(name, config, data, model, loss) -> Stage:
    cfg, four_way = config.stages[name], data.cfg.four_way
    if cfg.task == "ab" and not 0 <= cfg.member < MEMBERS:
        raise ValueError(f"stages.{name}.member={cfg.member} must be from 0 to {MEMBERS - 1}")
    calibrates = cfg.kind == "calibrate"

    @functools.cache
    def train():
        if calibrates:
            return data.stage_blocks("val", cfg.task)
        if cfg.task == "ab":
            return data.member_blocks(cfg.member)
        return data.stage_blocks("train", cfg.task)

    def blocks(split: str) -> grain.MapDataset:
        found = train() if split == "train" else data.stage_blocks(split, cfg.task)
        return stage_batches(
            found,
            labels=stage_labels(found.labels, cfg.task, four_way=four_way),
            batch=cfg.batch if split == "train" else cfg.eval_batch,
            train=split == "train",
            balance=cfg.balance,
            seed=config.seed + cfg.member,
        )

    def objective(net, batch, rngs):
        if calibrates:
            return temperature_loss(cfg.task, four_way=four_way)(net, batch, rngs)
        counts = class_counts(train().labels, cfg.task, four_way=four_way)
        return stage_loss(cfg.task, loss, counts=counts, four_way=four_way)(net, batch, rngs)

    def predict(net, batch, rngs):
        return {"probabilities": nnx.softmax(net(batch["block"], batch["qp"]))}

    report = functools.partial(StageReport, cfg.task, four_way=four_way)
    return _stage(
        name,
        config,
        model=lambda rngs: StageModel(cfg.task, model, rngs=rngs),
        data=blocks,
        loss=objective,
        scalars=classes.scalar_names(names(cfg.task, four_way=four_way)),
        evals={"val": (predict, lambda folder: (report(folder),), cfg.eval_every)},
    )


def _multitask(name, config, data, model, loss) -> Stage:
    cfg = config.stages[name]
    if len(cfg.shares) != len(cfg.sizes) or min(cfg.shares) <= 0 or cfg.left < 0:
        raise ValueError(
            f"stages.{name}.shares {tuple(cfg.shares)} must be above 0, one for each of the sizes "
            f"{tuple(cfg.sizes)}, and left={cfg.left} at least 0"
        )

    def blocks(split: str) -> grain.MapDataset:
        train = split == "train"
        sets = [data.level_blocks(split, level_of(size)) for size in cfg.sizes]
        shares = list(cfg.shares)
        if train and cfg.left:
            left = [data.level_blocks(split, level_of(size), "left") for size in cfg.sizes]
            pairs = [
                (found, share)
                for found, share in zip(left, shares, strict=True)
                if found is not None and len(found)
            ]
            sets += [found for found, _ in pairs]
            shares += [share * cfg.left for _, share in pairs]
        batch = cfg.batch if train else cfg.eval_batch
        return level_batches(sets, shares=shares, batch=batch, train=train, seed=config.seed)

    def objective(net, batch, rngs):
        four_way = data.cfg.four_way
        found = [data.level_blocks("train", level_of(size)).labels for size in cfg.sizes]
        types = np.concatenate(found)
        counts = {stage: class_counts(types, stage, four_way=four_way) for stage in STAGES}
        counts["types"] = np.bincount(types, minlength=len(TYPES))
        return multitask_loss(loss, counts=counts, four_way=four_way)(net, batch, rngs)

    return _stage(
        name,
        config,
        model=lambda rngs: MultiTask(model, rngs=rngs),
        data=blocks,
        loss=objective,
        scalars=level_scalars(),
        evals={
            split: (answers, functools.partial(_by_level, sizes=cfg.sizes, split=split), every)
            for split, every in (("val", cfg.eval_every), ("test", LAST))
        },
    )


def _pipeline(name, config, data, model) -> Stage:
    cfg = config.stages[name]

    def blocks(split: str) -> grain.MapDataset:
        found = data.typed_blocks(split)
        return stage_batches(
            found, labels=found.labels, batch=cfg.eval_batch, train=False, balance="none", seed=0
        )

    def report(split):
        return lambda folder: (TypesReport(folder, title="pipeline", prefix=f"{split}_"),)

    return _stage(
        name,
        config,
        model=lambda rngs: Pipeline(model, rngs=rngs),
        data=blocks,
        loss=None,
        scalars=TYPE_SCALARS,
        evals={split: (answers, report(split), LAST) for split in ("val", "test")},
    )


def made_of(cfg: ConfigDict, model: ModelConfig) -> ModelConfig:
    """What the model of a stage is made of, from the stage's fields and the config's model."""
    model = dataclasses.replace(model, adapters=cfg.adapters)
    if cfg.kind == "multitask":
        return levelled(model)
    centers = cfg.kind == "pipeline" or cfg.task == "ab"
    return dataclasses.replace(model, centers=centers)


def levelled(model: ModelConfig) -> ModelConfig:
    """The same net for nodes of all sizes."""
    resnet = dataclasses.replace(model.backbone.resnet, channels=2)
    backbone = dataclasses.replace(
        model.backbone,
        resnet=resnet,
        input="levels",
        levels=len(LEVELS),
        qp_conditioning=True,
        size=INPUT // 2,
        context=INPUT // 4,
    )
    return dataclasses.replace(model, backbone=backbone, centers=False)


def answers(net: nnx.Module, batch: Mapping, rngs: nnx.Rngs | None = None) -> dict:
    """What a `Pipeline` or a `MultiTask` says of blocks."""
    return net(batch["block"], batch["qp"], batch["level"])


def _by_level(folder: Path, *, sizes: Sequence[int], split: str) -> tuple[LevelReport]:
    return (LevelReport(folder, split, sizes),)


def _stage(name, config, *, model, data, loss, scalars, evals) -> Stage:
    cfg = config.stages[name]
    known = [f"val/{scalar}" for scalar in scalars]
    if cfg.best and cfg.best not in known:
        raise ValueError(f"stages.{name}.best: no metric {cfg.best!r}{nearest(cfg.best, known)}")
    objectives = {}
    if cfg.steps:
        optimizer = configs.optimizer(cfg)
        objectives[name] = Objective(loss=loss, optimizer=optimizer, params=cfg.train)
    return Stage(
        name=name,
        model=model,
        data=data,
        objectives=objectives,
        steps=cfg.steps,
        init_from=tuple(_graft(name, source, config) for source in cfg.init_from),
        evals={
            split: Eval(split=split, predict=predict, host=host, every=every)
            for split, (predict, host, every) in evals.items()
        },
        ema=cfg.ema or None,
        save_every=cfg.save_every,
        best=cfg.best or None,
        patience=cfg.patience or None,
        seed=config.seed + cfg.member,
    )


def _graft(name: str, source: str, config: ConfigDict) -> Graft:
    """Into a pipeline a stage goes as a part; between tasks, the backbone goes without the head."""
    there = config.stages.get(source.rstrip("/").rpartition("/")[2])
    here = config.stages[name]
    if there is None:
        return Graft(source=source)
    if here.kind == "pipeline":
        part = WITHIN.get(there.task, f"ab{there.member}")
        return Graft(source=source, rename=(("^", f"{part}/"),))
    if there.task != here.task:
        return Graft(source=source, rename=(("^head/", f"{there.task}_head/"),))
    return Graft(source=source)
