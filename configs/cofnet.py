"""COFNet: `--config=configs/cofnet.py[:preset]`.

(none)     SkyWatch scenes drawn on the spot: for two CPU cores, and larger where there is a GPU
coco       COCO 2017, the full model on 8 GPUs of 80 GB (launch/setup_coco.sh fetches the data)
skywatch   a folder of yours in COCO form: --config.data.root=FOLDER
tiny       a check that everything works, in a minute
"""

from jaxvision.cofnet.loss import LossConfig
from jaxvision.cofnet.model import CofnetConfig
from jaxvision.cofnet.sampler import SamplerConfig
from jaxvision.cofnet.task import PredictConfig
from jaxvision.config import base, fields_of, has_gpu
from jaxvision.data.detection import DataConfig

PRESETS = ("base", "coco", "skywatch", "tiny")


def get_config(preset: str = "base"):
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is none of {PRESETS}")
    gpu = has_gpu()
    config = base(system="cofnet", preset=preset)
    config.run = ("detect",)
    config.onnx = ("model.backbone.scan.backend=reference",)

    small = dict(  # 0.9 million parameters; convolutions at /4 and /8, scans at /16 and /32
        backbone=dict(
            dims=(32, 48, 96, 128),
            depths=(1, 1, 2, 1),
            mixers=("conv", "conv", "scan", "scan"),
            stem="patch",
            scan=dict(state=4, expand=1),
        ),
        width=64,
        tower=0,
        rounds=2,
        points=3,
    )
    medium = dict(
        backbone=dict(dims=(64, 128, 256, 512), depths=(1, 2, 4, 1)),
        width=128,
        tower=1,
        rounds=3,
        points=5,
        dtype="bfloat16",
    )
    large = dict(  # the recipe's dimensions
        backbone=dict(dims=(96, 192, 384, 768), depths=(2, 2, 6, 2), remat=True),
        width=256,
        tower=2,
        rounds=6,
        points=7,
        dtype="bfloat16",
    )
    tiny = small | dict(
        backbone=dict(
            dims=(8, 16),
            depths=(1, 1),
            mixers=("conv", "scan"),
            stem="patch",
            scan=dict(state=2, expand=1),
        ),
        width=32,
        rounds=1,
    )
    size = {"tiny": (64, 64), "coco": (640, 640), "skywatch": (512, 640) if gpu else (256, 320)}
    model = {"tiny": tiny, "coco": large}.get(preset, medium if gpu else small)
    model = model | dict(size=size.get(preset, (512, 512) if gpu else (256, 256)))
    config.model = fields_of(CofnetConfig, model)

    slots = {"tiny": 16, "coco": 300}.get(preset, 200 if gpu else 64)
    boxes = {"tiny": 16, "coco": 300}.get(preset, 100)
    learning, sampling = dict(count=slots), dict(slots=boxes)
    if preset != "coco":  # small objects
        # Noise at a twentieth of the schedule already moves a centre by 2 % of the picture; the
        # proposals are better than that. Two steps from near them are as good as more.
        learning |= dict(aligned=0.25, learned=0.5, skew=3.0, start=0.01, overlap=0.3)
        sampling |= dict(steps=2, start=0.002, trust=0.5)
    config.loss = fields_of(LossConfig, dict(slots=learning))
    config.sampler = fields_of(SamplerConfig, sampling)
    config.predict = fields_of(PredictConfig)

    root = {
        "base": "data/skywatch-512" if gpu else "data/skywatch-256",
        "coco": "data/coco",
        "tiny": "data/skywatch-tiny",
    }.get(preset, "")
    scenes = {
        "base": dict(train=20_000 if gpu else 3_000, val=400, size=512 if gpu else 256),
        "tiny": dict(train=32, val=8, size=64),
    }.get(preset, {})
    data = dict(
        root=root,
        train={"coco": "train2017"}.get(preset, "train"),
        val={"coco": "val2017"}.get(preset, "val"),
        scenes=scenes,
        augment=dict(scale=(0.8, 1.4), copy_paste=0.5) if preset == "base" else {},
    )
    config.data = fields_of(DataConfig, data)

    schedule = dict(  # steps, batch, learning rate
        base=(20_000, 32, 5e-4) if gpu else (2_000, 8, 1e-3),
        coco=(450_000, 64, 2e-4),
        skywatch=(20_000, 32, 5e-4) if gpu else (5_000, 8, 1e-3),
        tiny=(20, 4, 1e-3),
    )
    steps, batch, lr = schedule[preset]
    config.stages.detect = dict(
        steps=steps,
        batch=batch,
        lr=lr,
        optimizer="adamw",
        schedule="cosine",
        warmup=min(1_000, steps // 10),
        weight_decay=1e-2,
        clip=5.0,
        accumulate=1,
        ema=0.9998 if steps > 10_000 else 0.998,
        train=".*",
        init_from=(),
        save_every=max(steps // 20, 10),
        eval_every=max(steps // 4, 10) if steps < 10_000 else 5_000,
        best="val/mAP50",
    )
    return config
