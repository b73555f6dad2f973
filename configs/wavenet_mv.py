"""WAVENET-MV: `--config=configs/wavenet_mv.py[:preset] --config.data.root=FOLDER`.

(none)     a folder of pictures; for two CPU cores, and larger where there is a GPU
tiny       a check that everything works, in a minute
"""

from jaxvision.config import base, fields_of, has_gpu
from jaxvision.data.pictures import PicturesConfig
from jaxvision.wavenet_mv.model import WavenetMvConfig

PRESETS = ("base", "tiny")


def get_config(preset: str = "base"):
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is none of {PRESETS}")
    gpu, tiny = has_gpu(), preset == "tiny"
    config = base(system="wavenet_mv", preset=preset)
    config.run = ("wavelet", "compressor")
    config.seed = 42

    width = 8 if tiny else 64 if gpu else 32
    config.model = fields_of(
        WavenetMvConfig,
        dict(
            wavelet=dict(width=width, levels=2 if tiny else 3),
            compressor=dict(width=width, latents=32 if tiny else 128),
        ),
    )
    crops = dict(crop=32, val_crop=64) if tiny else dict(crop=256 if gpu else 96)
    config.data = fields_of(PicturesConfig, crops)

    steps = {"tiny": (4, 4)}.get(preset, (30_000, 300_000) if gpu else (500, 6_000))
    shared = dict(
        batch=2 if tiny else 8,
        optimizer="adam",
        schedule="cosine",
        clip=1.0,
        accumulate=1,
        ema=None,
    )
    config.stages.wavelet = shared | dict(
        steps=steps[0], lr=2e-4, train="^wavelet/", init_from=(), best=""
    )
    config.stages.compressor = shared | dict(
        steps=steps[1],
        lr=2e-4 if gpu else 1e-3,
        train="^(mixer|compressor)/",  # the wavelet is frozen; ".*" trains it too
        init_from=("wavelet",),
        best="val/score",
    )
    for stage in (config.stages.wavelet, config.stages.compressor):
        stage.save_every = max(stage.steps // 20, 2)
        stage.eval_every = max(stage.steps // 4, 2)
        stage.warmup = stage.steps // 20
    return config
