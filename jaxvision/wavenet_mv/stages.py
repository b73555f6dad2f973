"""The stages of WAVENET-MV: the transform, the compressor, a teacher on pixels, the heads."""

import functools
from collections.abc import Callable, Sequence

import grain
import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.data.labelled import LabelledData
from jaxvision.data.pictures import CentreCrops, Crops, PicturesConfig, split_pictures
from jaxvision.data.pipeline import batches
from jaxvision.spelling import nearest
from jaxvision.stage import Eval, Graft, LossFn, Objective, Stage
from jaxvision.wavenet_mv import evaluation, tasks
from jaxvision.wavenet_mv.heads.distill import Teacher
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig
from jaxvision.wavenet_mv.heads.model import HeadsConfig
from jaxvision.wavenet_mv.loss import rate_distortion, wavelet_reconstruction
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.reader import (
    Names,
    Reader,
    answers,
    pixel_loss,
    reading_loss,
    teacher_answers,
)

CODEC = {"wavelet": wavelet_reconstruction, "compressor": rate_distortion}
READING = ("teacher", "heads")
# How the parameters of a stage are called where it is a part of a later one.
WITHIN = {"heads": {"compressor": "codec/", "wavelet": "codec/", "teacher": "teacher/"}}


def codec_stage(
    name: str, config: ConfigDict, data: PicturesConfig, model: WavenetMvConfig
) -> Stage:
    """`wavelet` or `compressor`: pictures, rates and distortions."""
    lambdas = model.compressor.lambdas
    return _stage(
        name,
        config,
        model=lambda rngs: WavenetMV(model, rngs=rngs),
        data=functools.partial(_pictures, data, config.stages[name].batch, config.seed),
        loss=CODEC[name],
        scalars=evaluation.scalar_names(lambdas),
        predict=lambda net, batch, rngs: evaluation.rates(net, batch["image"]),
        host=lambda directory: (evaluation.RateReport(lambdas, directory),),
    )


def reading_stage(
    name: str,
    config: ConfigDict,
    data: LabelledData,
    *,
    names: Names,
    model: WavenetMvConfig,
    heads: HeadsConfig,
    loss: HeadsLossConfig,
) -> Stage:
    """`heads`, on decoded latents at each lambda, or `teacher`, the same heads on pixels."""
    batch = config.stages[name].batch
    shared = dict(data=lambda split: data.batches(split, batch=batch))
    if name == "teacher":
        channels = model.compressor.latents
        return _stage(
            name,
            config,
            model=lambda rngs: Teacher(channels, heads, rngs=rngs),
            loss=pixel_loss(loss),
            scalars=tasks.scalar_names(("pixels",), names),
            predict=lambda net, batch, rngs: teacher_answers(net, batch["image"]),
            host=lambda folder: (tasks.TaskReport(("pixels",), names, data.source("val"), folder),),
            **shared,
        )
    distils = bool(loss.distil or loss.hint)
    lambdas = model.compressor.lambdas
    return _stage(
        name,
        config,
        model=lambda rngs: Reader(model, heads, teacher=distils, rngs=rngs),
        loss=reading_loss(loss),
        scalars=tasks.scalar_names(lambdas, names),
        predict=lambda net, batch, rngs: answers(net, batch["image"]),
        host=lambda folder: (tasks.TaskReport(lambdas, names, data.source("val"), folder),),
        **shared,
    )


def _stage(
    name: str,
    config: ConfigDict,
    *,
    model: Callable,
    data: Callable[[str], grain.MapDataset],
    loss: LossFn,
    scalars: Sequence[str],
    predict: Callable,
    host: Callable,
) -> Stage:
    cfg = config.stages[name]
    known = [f"val/{scalar}" for scalar in scalars]
    if cfg.best and cfg.best not in known:
        raise ValueError(f"stages.{name}.best: no metric {cfg.best!r}{nearest(cfg.best, known)}")
    optimizer = configs.optimizer(cfg)
    return Stage(
        name=name,
        model=model,
        data=data,
        objectives={name: Objective(loss=loss, optimizer=optimizer, params=cfg.train)},
        steps=cfg.steps,
        init_from=tuple(_graft(name, source) for source in cfg.init_from),
        evals={"val": Eval(split="val", predict=predict, host=host, every=cfg.eval_every)},
        ema=cfg.ema or None,
        save_every=cfg.save_every,
        best=cfg.best or None,
        seed=config.seed,
    )


def _graft(name: str, source: str) -> Graft:
    """`source` is an earlier stage, or a folder of one that ends in its name."""
    place = WITHIN.get(name, {}).get(source.rstrip("/").rpartition("/")[2], "")
    return Graft(source=source, rename=(("^", place),) if place else ())


def _pictures(cfg: PicturesConfig, batch: int, seed: int, split: str) -> grain.MapDataset:
    paths = split_pictures(cfg)[split]
    processes = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if split == "train":
        return batches(Crops(paths, cfg, seed=seed), batch=batch, repeat=True, **processes)
    examples = CentreCrops(paths, crop=cfg.val_crop)
    return batches(examples, batch=batch, repeat=False, **processes)
