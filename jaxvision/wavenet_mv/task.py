"""WAVENET-MV for the training program: config -> stages, prediction, export."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.data.images import read_image
from jaxvision.data.inputs import expand
from jaxvision.data.pictures import CentreCrops, Crops, PicturesConfig, split_pictures
from jaxvision.data.pipeline import batches
from jaxvision.data.video import is_image
from jaxvision.spelling import nearest
from jaxvision.stage import Eval, Experiment, Graft, Objective, Stage
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.evaluation import RateReport, rates, scalar_names
from jaxvision.wavenet_mv.loss import rate_distortion, wavelet_reconstruction
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig

LOSSES = {"wavelet": wavelet_reconstruction, "compressor": rate_distortion}


def build(config: ConfigDict) -> Experiment:
    """The stages of `config.run`: `wavelet` (L2) and `compressor` (rate and distortion)."""
    data = configs.from_config(PicturesConfig, config.data, path="data.")
    model = configs.from_config(WavenetMvConfig, config.model, path="model.")
    for name in config.run:
        if name not in LOSSES:
            raise ValueError(f"run: no stage {name!r}{nearest(name, LOSSES)}")
    multiple = 1 if model.wavelet.mode == "literal" else 2**model.wavelet.levels
    for name in ("crop", "val_crop"):
        if getattr(data, name) % multiple:
            raise ValueError(f"data.{name}={getattr(data, name)} must be a multiple of {multiple}")
    stages = {name: _stage(name, config, data, model) for name in config.run}

    def forward(net: WavenetMV, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return rates(net, batch["image"])

    def predict(net: WavenetMV, inputs: Sequence[Path], output: Path) -> Iterable[dict]:
        """Each picture's file, at the middle quality, and what it decodes to."""
        codec = Codec(net)
        output.mkdir(parents=True, exist_ok=True)
        codec.save(output / "model.npz")
        quality = (codec.qualities - 1) / 2
        for path, relative in expand(inputs, without=output).items():
            if not is_image(path):
                raise ValueError(f"{path}: wavenet_mv codes pictures, no videos")
            image = read_image(path)
            written = codec.encode(image, quality)
            target = output / relative.with_name(f"{relative.name}.wvmv")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(written)
            shown = codec.decode(written).image.astype(np.float64)
            error = max(((shown - image) ** 2).mean(), 1e-10)
            bpp = 8 * len(written) / (image.shape[0] * image.shape[1])
            psnr = float(10 * np.log10(255**2 / error))
            yield {"file": str(path), "bytes": len(written), "bpp": bpp, "psnr": psnr}

    example = {"image": np.zeros((1, data.val_crop, data.val_crop, 3), np.uint8)}
    return Experiment(stages=stages, predict=predict, forward=forward, example=example)


def _stage(name: str, config: ConfigDict, data: PicturesConfig, model: WavenetMvConfig) -> Stage:
    cfg = config.stages[name]
    lambdas = model.compressor.lambdas
    known = [f"val/{scalar}" for scalar in scalar_names(lambdas)]
    if cfg.best and cfg.best not in known:
        raise ValueError(f"stages.{name}.best: no metric {cfg.best!r}{nearest(cfg.best, known)}")

    return Stage(
        name=name,
        model=lambda rngs: WavenetMV(model, rngs=rngs),
        data=functools.partial(_data, data, batch=cfg.batch, seed=config.seed),
        objectives={
            name: Objective(loss=LOSSES[name], optimizer=configs.optimizer(cfg), params=cfg.train)
        },
        steps=cfg.steps,
        init_from=tuple(Graft(source=source) for source in cfg.init_from),
        evals={
            "val": Eval(
                split="val",
                predict=lambda net, batch, rngs: rates(net, batch["image"]),
                host=lambda directory: (RateReport(lambdas, directory),),
                every=cfg.eval_every,
            )
        },
        ema=cfg.ema or None,
        save_every=cfg.save_every,
        best=cfg.best or None,
        seed=config.seed,
    )


def _data(cfg: PicturesConfig, split: str, *, batch: int, seed: int) -> grain.MapDataset:
    paths = split_pictures(cfg)[split]
    processes = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if split == "train":
        return batches(Crops(paths, cfg, seed=seed), batch=batch, repeat=True, **processes)
    examples = CentreCrops(paths, crop=cfg.val_crop)
    return batches(examples, batch=batch, repeat=False, **processes)
