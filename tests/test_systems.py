"""Every system's config: each preset can be built, and the tiny one runs from files to pictures."""

import contextlib
import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvision import launch, settings
from jaxvision.step import build

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
PRESETS = [(path, preset) for path in CONFIGS for preset in runpy.run_path(str(path))["PRESETS"]]


@pytest.mark.parametrize(("path", "preset"), PRESETS, ids=lambda x: getattr(x, "stem", x))
def test_presets_make_a_model_and_an_optimizer(path, preset):
    config = settings.load(f"{path}:{preset}")
    config.data.root, config.data.names = "unread", ("airplane", "meteorite")
    for stage in launch.build(config).stages.values():
        state = jax.eval_shape(build(stage).init, jax.random.key(0))
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda path: path.stem)
def folder(request, tmp_path_factory, compiles_once):
    """Where the tiny preset has drawn its data and trained for two steps, in `run`."""
    folder = tmp_path_factory.mktemp(request.param.stem)
    stage = "--config.stages.detect."
    command = [f"--config={request.param}:tiny", f"{stage}steps=2", f"{stage}eval_every=2"]
    with contextlib.chdir(folder):
        assert launch.main([*command, "--workdir=run"]) == 0
        yield folder


def test_tiny_trains_and_measures(folder):
    run = folder / "run" / "detect"
    assert {p.name for p in (run / "eval" / "2").iterdir()} >= {
        "table.md", "metrics.json", "detections.json", "report.png",
    }  # fmt: skip
    assert "next: " in (folder / "run" / "log.txt").read_text()


def test_tiny_predicts(folder):
    images = folder / "data" / "skywatch-tiny" / "val"
    command = ["predict", "--workdir=run", f"--input={images}", "--config.predict.score=0.0"]
    assert launch.main(command) == 0
    found = json.loads((folder / "run" / "predictions" / "detections.json").read_text())
    assert found and {"image_id", "category_id", "bbox", "score"} <= set(found[0])
    assert len(list((folder / "run" / "predictions").glob("*.jpg"))) == 8


def test_tiny_is_exported_for_any_batch_and_both_platforms(folder):
    assert launch.main(["export", "--workdir=run", "--output=exported"]) == 0
    program = jax.export.deserialize((folder / "exported" / "model.stablehlo").read_bytes())
    assert set(program.platforms) == {"cpu", "cuda"}
    about = json.loads((folder / "exported" / "model.json").read_text())
    assert all(shape.partition("[")[2].startswith("b,") for shape in about["inputs"].values())


@pytest.mark.slow
def test_tiny_becomes_onnx(folder):
    pytest.importorskip("jax2onnx")
    assert launch.main(["export", "--workdir=run", "--format=onnx", "--output=onnx"]) == 0
    assert (folder / "onnx" / "model.onnx").stat().st_size > 1_000
