"""WAVENET-MV: `--config=configs/wavenet_mv.py[:preset]`.

(none)     the photographs that come with scikit-image: for two CPU cores, and larger on a GPU
long       a folder of yours, --config.data.root=FOLDER: hours on two CPU cores
recipe     the original widths, batch, rates and epochs, on COCO 2017 (launch/setup_coco.sh)
tiny       a check that everything works, in about two minutes
"""

from jaxvision.config import base, fields_of, has_gpu
from jaxvision.data.labelled import LabelledConfig
from jaxvision.data.pictures import PicturesConfig
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig
from jaxvision.wavenet_mv.model import WavenetMvConfig

PRESETS = ("base", "long", "recipe", "tiny")
EPOCHS = (30, 40, 50)  # of the recipe's stages, on COCO's 118,287 training pictures
EPOCH = 118_287 // 8


def get_config(preset: str = "base"):
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is none of {PRESETS}")
    gpu, tiny = has_gpu(), preset == "tiny"
    large = gpu or preset == "recipe"
    config = base(system="wavenet_mv", preset=preset)
    config.run = ("wavelet", "compressor", "heads")
    config.seed = 42

    width = 8 if tiny else 64 if large else 16
    config.model = fields_of(
        WavenetMvConfig,
        dict(
            wavelet=dict(width=width, levels=2 if tiny else 3),
            compressor=dict(
                width=8 if tiny else 64 if large else 32,
                latents=32 if tiny else 128,
                deeper=1 if tiny else 2,
            ),
        ),
    )
    config.heads = dict(
        width=16 if tiny else 64, depth=1 if tiny else 2, dtype="bfloat16" if large else "float32"
    )
    config.names = dict(classes=(), segments=(), actions=())  # filled in from the labelled data
    config.loss = fields_of(HeadsLossConfig)

    crops = dict(crop=32, val_crop=64) if tiny else dict(crop=256 if large else 128)
    config.data = fields_of(PicturesConfig, crops)
    scenes = dict(train=64, val=8) if tiny else {}
    config.labelled = fields_of(
        LabelledConfig,
        dict(size=64 if tiny else 128, val_size=64 if tiny else 128, scenes=scenes),
    )

    shared = dict(
        batch=2 if tiny else 8 if large else 4,
        optimizer="adam",
        schedule="cosine",
        clip=1.0,
        accumulate=1,
        ema=None,
        best="val/score",
    )
    rate = 2e-4 if large else 2e-3
    steps = {
        "tiny": (4, 4, 4),
        "recipe": tuple(EPOCH * n for n in EPOCHS),
        "long": (0, 30_000, 10_000),
    }.get(preset, (30_000, 300_000, 60_000) if gpu else (200, 2_400, 2_200))
    config.stages.wavelet = shared | dict(
        steps=steps[0], lr=rate, train="^wavelet/", init_from=(), best=""
    )
    config.stages.compressor = shared | dict(
        steps=steps[1],
        lr=rate,
        # The recipe freezes the wavelet; the steps are right from the start.
        train="^(mixer|compressor/(?!steps))" if preset == "recipe" else "^(?!compressor/steps)",
        init_from=("wavelet",) if steps[0] else (),
    )
    config.stages.teacher = shared | dict(steps=steps[2], lr=rate, train=".*", init_from=())
    config.stages.heads = shared | dict(
        steps=steps[2],
        batch=2 if tiny else 8,
        lr=rate,
        train="^heads/",
        init_from=("compressor",),
    )
    if preset == "long":
        config.run = ("compressor", "heads")
    for stage in config.stages.values():
        stage.save_every = max(stage.steps // 20, 2)
        stage.eval_every = max(stage.steps // 4, 2)
        stage.warmup = stage.steps // 20
    return config
