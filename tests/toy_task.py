"""A system of two small stages, for the tests of the command line."""

import dataclasses
import functools
import sys
import types

import numpy as np
import optax
import pytest
import toy

from jaxvision.stage import Experiment

CONFIG = """
from jaxvision.config import base

PRESETS = ("base", "tiny")


def get_config(preset="base"):
    config = base(system="toy", preset=preset)
    config.run = ("ssl", "finetune")
    config.log_every = 2
    config.model.classes = 2
    config.data.names = ()
    config.predict.shout = False
    config.optimizer = "adam"
    config.rows = 50
    for name in config.run:
        config.stages[name] = dict(steps=4, batch=16, lr=1e-2)
    return config
"""


def _data(split, *, batch, rows):
    """The toy's data, as files that may be gone when a run goes on."""
    if not rows:
        raise ValueError("rows=0: no data")
    return toy.data(split, batch=batch)


def build(config):
    """Fills in `config.data.names`, as a system does that reads them from its data."""
    config.data.names = config.data.names or ("below", "above")
    stages = {}
    for name in config.run:
        cfg, stage = config.stages[name], {"ssl": toy.SSL, "finetune": toy.FINETUNE}[name]
        if name == "finetune":
            model = functools.partial(toy.Classifier, config.model.classes)
            stage = dataclasses.replace(stage, model=lambda rngs, make=model: make(rngs=rngs))
        if config.get("optimizer") == "sgd":
            objectives = {
                k: dataclasses.replace(o, optimizer=optax.sgd(0.1))
                for k, o in stage.objectives.items()
            }
            stage = dataclasses.replace(stage, objectives=objectives)
        data = functools.partial(_data, batch=cfg.batch, rows=config.get("rows", 50))
        stages[name] = dataclasses.replace(stage, steps=cfg.steps, data=data, seed=config.seed)

    def predict(model, inputs, output):
        output.mkdir(parents=True, exist_ok=True)
        for path in inputs:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file or folder")
            logits = model(np.load(path)[None])
            name = config.data.names[int(logits.argmax())]
            (output / f"{path.stem}.txt").write_text(name.upper() if config.predict.shout else name)
            yield {"file": str(path), "class": name}

    return Experiment(
        stages=stages,
        predict=predict,
        forward=lambda model, batch: {"logits": model(batch["x"])},
        example={"x": np.zeros((1, 8), np.float32)},
    )


@pytest.fixture
def toy_system(monkeypatch, tmp_path, compiles_once):
    """The system "toy", its config file in the current folder; returns that folder."""
    module = types.ModuleType("jaxvision.toy.task")
    module.build = build
    monkeypatch.setitem(sys.modules, "jaxvision.toy.task", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # what --device sets is undone
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy.py").write_text(CONFIG)
    return tmp_path
