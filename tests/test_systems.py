"""Every system's config: each preset can be built, and the tiny one runs from files to pictures."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvision import launch, settings
from jaxvision.step import build

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
PRESETS = [(path, preset) for path in CONFIGS for preset in ("base", "coco", "skywatch", "tiny")]


@pytest.mark.parametrize(("path", "preset"), PRESETS, ids=lambda x: getattr(x, "stem", x))
def test_presets_make_a_model_and_an_optimizer(path, preset):
    config = settings.load(f"{path}:{preset}")
    config.data.root, config.data.names = "unread", ("airplane", "meteorite")
    for stage in launch.build(config).stages.values():
        state = jax.eval_shape(build(stage).init, jax.random.key(0))
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_tiny_trains_measures_and_predicts(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stage = "--config.stages.detect."
    command = [f"--config={path}:tiny", "--workdir=run", f"{stage}steps=2", f"{stage}eval_every=2"]
    assert launch.main(command) == 0
    run = tmp_path / "run" / "detect"
    assert {p.name for p in (run / "eval" / "2").iterdir()} >= {
        "table.md", "metrics.json", "detections.json", "report.png",
    }  # fmt: skip
    assert "next: " in capsys.readouterr().out
    images = tmp_path / "data" / "skywatch-tiny" / "val"
    command = ["predict", "--workdir=run", f"--input={images}", "--config.predict.score=0.0"]
    assert launch.main(command) == 0
    found = json.loads((tmp_path / "run" / "predictions" / "detections.json").read_text())
    assert found and {"image_id", "category_id", "bbox", "score"} <= set(found[0])
    assert len(list((tmp_path / "run" / "predictions").glob("*.jpg"))) == 8
