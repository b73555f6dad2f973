"""CNN-AV1: `--config=configs/cnn_av1.py[:preset]`.

(none)     labels of panned photographs that come with the library: for two CPU cores
seed       the original recipe: ResNet-18 on blocks of 16 pixels alone, eight types, its epochs
tiny       a check that everything works, in about three minutes

`--config.data.root=FOLDER` takes what `python -m jaxvision.cnn_av1 prepare` wrote.
"""

from jaxvision.cnn_av1.data import DataConfig
from jaxvision.cnn_av1.loss import LossConfig
from jaxvision.cnn_av1.predict import PredictConfig
from jaxvision.cnn_av1.stage_model import ModelConfig
from jaxvision.config import base, fields_of, has_gpu

PRESETS = ("base", "seed", "tiny")
STAGES = ("stage1", "stage2_frozen", "stage2", "rect", "ab0", "ab1", "ab2", "calibrate")
TASKS = dict(stage1="binary", stage2_frozen="macro", stage2="macro", rect="rect")


def get_config(preset: str = "base"):
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is none of {PRESETS}")
    gpu, tiny, seed = has_gpu(), preset == "tiny", preset == "seed"
    config = base(system="cnn_av1", preset=preset)
    config.run = (*STAGES, "pipeline") if seed else (*STAGES, "pipeline", "multitask")
    config.seed = 42
    literal = dict(context=0, four_way=False)
    config.data = fields_of(DataConfig, literal if seed else dict(clips=1) if tiny else {})
    resnet = dict(width=64) if seed or gpu else dict(width=24, blocks=(1, 1, 1, 1))
    if tiny:
        resnet = dict(width=8, blocks=(1, 1), stem="half")
    backbone = dict(resnet=resnet)
    if seed:
        backbone |= dict(input="plain", qp_conditioning=False)
    else:
        # The recipe's dropout is for a net that is wider than these data can fill.
        backbone |= dict(features=512 if gpu else 192, dropout=(0.0, 0.0, 0.0, 0.1))
        backbone |= dict(statistics=256)
    if tiny:
        backbone |= dict(features=16, dropout=(0.1, 0.1), statistics=16)
    hidden = 16 if tiny else 256 if seed or gpu else 128
    config.model = fields_of(
        ModelConfig,
        dict(
            backbone=backbone,
            hidden=hidden,
            dropout=0.0 if seed else 0.2,
            four_way=not seed,
        ),
    )
    for name in ("size", "context"):  # as the data's
        del config.model.backbone[name]
    config.predict = fields_of(PredictConfig)

    shared = dict(
        kind="stage",
        task="binary",
        member=0,
        adapters=0,
        batch=16 if tiny else 128,
        eval_batch=64 if tiny else 512,
        optimizer="adamw",
        schedule="cosine",
        lr=1e-3 if seed or gpu else 2e-3,
        weight_decay=1e-4 if seed else 0.05,
        clip=1.0,
        lr_scale=(),
        balance="none",
        accumulate=1,
        ema=None,
        best="val/macro_f1",
        train=".*(?<!temperature)$",
        init_from=(),
    )
    slow_backbone = (("^backbone/", 0.1),)
    stages = config.stages
    stages.stage1 = shared | dict(
        balance="classes", loss=fields_of(LossConfig, dict(form="focal", alpha=0.25, mining=3.0))
    )
    stages.stage2_frozen = shared | dict(
        task="macro",
        train="^head/(?!temperature)",
        init_from=("stage1",),
        loss=fields_of(LossConfig, dict(form="balanced_focal")),
    )
    stages.stage2 = shared | dict(
        task="macro",
        lr_scale=slow_backbone,
        init_from=("stage2_frozen",),
        loss=fields_of(LossConfig, dict(form="balanced_focal", mixup=0.2)),
    )
    stages.rect = shared | dict(
        task="rect",
        lr_scale=slow_backbone,
        init_from=("stage2",),
        loss=fields_of(LossConfig, dict(form="focal")),
    )
    for member in range(3):
        stages[f"ab{member}"] = shared | dict(
            task="ab",
            member=member,
            lr_scale=slow_backbone,
            balance="classes",
            init_from=("stage2",),
            loss=fields_of(LossConfig, dict(form="focal", cutmix=1.0, center=0.01)),
        )
    stages.calibrate = shared | dict(
        kind="calibrate",
        lr=1e-2,
        train="temperature$",
        best="",
        init_from=("stage1",),
        loss=fields_of(LossConfig),
    )
    stages.pipeline = shared | dict(
        kind="pipeline",
        best="",
        init_from=("calibrate", "stage2", "rect", "ab0", "ab1", "ab2"),
        loss=fields_of(LossConfig),
    )
    stages.multitask = shared | dict(
        kind="multitask",
        sizes=(64, 32, 16, 8),
        shares=(0.1, 0.2, 0.5, 0.2),  # of the sizes, in training
        left=0.2,  # of that, for nodes that were tried and left, to one of a coded tree
        batch=32 if tiny else 256,
        best="val/score",
        loss=fields_of(LossConfig, dict(symmetry="all")),
    )
    steps = dict(stage1=600, stage2_frozen=150, stage2=400, rect=300, calibrate=60, pipeline=0)
    steps |= dict(ab0=150, ab1=150, ab2=150, multitask=4500)
    scale = 10 if gpu else 1
    for name, stage in stages.items():
        stage.steps = scale * steps[name]
        if tiny:
            stage.steps = min(stage.steps, 4)
        if seed:  # 30 epochs of its 363,000 training blocks in batches of 128
            stage.steps = min(stage.steps, 1) * 30 * 2836
        stage.eval_every = max(stage.steps // 6, 2)
        stage.save_every = stage.eval_every
        stage.warmup = stage.steps // 20
        stage.patience = None if tiny else 3 * stage.eval_every if stage.best else None
    return config
