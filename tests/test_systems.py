"""Every system's config: each preset can be built, and the tiny one runs from files to pictures."""

import contextlib
import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxvision import launch, settings
from jaxvision.cnn_av1 import baseline
from jaxvision.cnn_av1.predictor import predictor
from jaxvision.step import build
from jaxvision.wavenet_mv.codec import Codec

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
PRESETS = [(path, preset) for path in CONFIGS for preset in runpy.run_path(str(path))["PRESETS"]]


@pytest.mark.parametrize(("path", "preset"), PRESETS, ids=lambda x: getattr(x, "stem", x))
def test_presets_make_a_model_and_an_optimizer(path, preset):
    config = settings.load(f"{path}:{preset}")
    config.data.root = "unread"
    if "names" in config.data:
        config.data.names = ("airplane", "meteorite")
    for stage in launch.build(config).stages.values():
        state = jax.eval_shape(build(stage).init, jax.random.key(0))
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda path: path.stem)
def folder(request, tmp_path_factory, compiles_once):
    """Where the tiny preset has trained each stage for two steps, in `run`."""
    system = request.param.stem
    folder = tmp_path_factory.mktemp(system)
    command = [f"--config={request.param}:tiny", "--workdir=run"]
    config = settings.load(f"{request.param}:tiny")
    trained = [name for name in config.run if config.stages[name].steps]
    if system == "cnn_av1":  # one of the stages of a kind, for each is compiled anew
        trained = ["stage1", "calibrate", "multitask"]
        command.append("--config.run=('stage1', 'calibrate', 'pipeline', 'multitask')")
        command.append("--config.stages.pipeline.init_from=('calibrate',)")
    for stage in trained:
        command += [f"--config.stages.{stage}.{field}=2" for field in ("steps", "eval_every")]
    if system == "wavenet_mv":
        draw_pictures(folder / "pictures")
        command.append("--config.data.root=pictures")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "ITERATIONS", 3)  # of the report's boosted trees
        assert launch.main(command) == 0
        yield folder


def draw_pictures(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        colours = rng.integers(0, 256, (6, 7, 3), np.uint8)
        picture = Image.fromarray(colours).resize((70, 66), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i}.png")


EVALUATED = {
    "detect": {"table.md", "metrics.json", "detections.json", "report.png"},
    "wavelet": {"codec.csv"},
    "compressor": {"codec.csv"},
    "heads": {"tasks.csv", "tasks.png"},
    "pipeline": {"test_confusion.png", "test_classes.csv", "val_reliability.png"},
    "multitask": {"val_64_confusion.png", "test_8_classes.csv"},
} | dict.fromkeys(("stage1", "calibrate"), {"confusion.png", "classes.csv"})
REPORTED = {
    "cofnet": set(),
    "wavenet_mv": {"RESULTS.md", "checklist_report.md", "codec.csv", "tasks.csv", "fig"},
    "cnn_av1": {
        *("RESULTS.md", "pipeline.csv", "thresholds.png", "confusion_pipeline.png", "model.npz"),
        *(f"stage1_{end}" for end in ("model_best.npz", "model_final.npz", "history.csv")),
        "stage1_metrics.json",
    },
}


def test_tiny_trains_and_measures(folder):
    config = json.loads((folder / "run" / "config.json").read_text())
    for stage in config["run"]:
        step = min(config["stages"][stage]["steps"], 2)
        written = {p.name for p in (folder / "run" / stage / "eval" / str(step)).iterdir()}
        assert written >= EVALUATED[stage]
    assert "next: " in (folder / "run" / "log.txt").read_text()
    assert {p.name for p in (folder / "run").iterdir()} >= REPORTED[config["system"]]


def test_tiny_predicts(folder):
    config = json.loads((folder / "run" / "config.json").read_text())
    output = folder / "run" / "predictions"
    if config["system"] == "cnn_av1":
        draw_pictures(folder / "frames")
        assert launch.main(["predict", "--workdir=run", "--input=frames"]) == 0
        assert Image.open(output / "1.png.png").size == (3 * 70, 3 * 66)
        assert predictor(output / "model.npz")((np.zeros((64, 64), np.uint8),), 9)[8].any()
        return
    if config["system"] == "wavenet_mv":
        assert launch.main(["predict", "--workdir=run", "--input=pictures"]) == 0
        codec = Codec.load(output / "model.npz")
        assert codec.decode((output / "1.png.wvmv").read_bytes()).image.shape == (66, 70, 3)
        assert Image.open(output / "1.png.png").size == (70, 66)  # with what the heads say
        return
    images = folder / "data" / "skywatch-tiny" / "val"
    command = ["predict", "--workdir=run", f"--input={images}", "--config.predict.score=0.0"]
    assert launch.main(command) == 0
    found = json.loads((output / "detections.json").read_text())
    assert found and {"image_id", "category_id", "bbox", "score"} <= set(found[0])
    assert len(list(output.glob("*.jpg"))) == 8


def test_tiny_is_exported_for_any_batch_and_both_platforms(folder):
    assert launch.main(["export", "--workdir=run", "--output=exported"]) == 0
    program = jax.export.deserialize((folder / "exported" / "model.stablehlo").read_bytes())
    assert set(program.platforms) == {"cpu", "cuda"}
    about = json.loads((folder / "exported" / "model.json").read_text())
    assert all(shape.partition("[")[2][:2] in ("b,", "b]") for shape in about["inputs"].values())


@pytest.mark.slow
def test_tiny_becomes_onnx(folder):
    pytest.importorskip("jax2onnx")
    assert launch.main(["export", "--workdir=run", "--format=onnx", "--output=onnx"]) == 0
    assert (folder / "onnx" / "model.onnx").stat().st_size > 1_000
