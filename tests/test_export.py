"""Exported models compute what the model does, and say so before they are done."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import nnx
from toy_task import toy_system  # noqa: F401 - a fixture

from jaxvision import export, launch
from jaxvision.step import INFERENCE

EXAMPLE = {"x": np.zeros((1, 8), np.float32)}


def forward(model, batch):
    scores = nnx.softmax(model(batch["x"]))
    return {"scores": scores, "label": jnp.argmax(scores, -1)}


@pytest.fixture(scope="module")
def model():
    return nnx.view(toy.Classifier(3, rngs=nnx.Rngs(0)), **INFERENCE)


def test_stablehlo_needs_jax_alone_and_takes_any_batch(model, tmp_path):
    said = []
    export.export(forward, model, EXAMPLE, tmp_path, about={"step": 5}, say=said.append)
    assert sum("largest difference" in line for line in said) == 4 and "done" in said[-1]

    program = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    assert set(program.platforms) == {"cpu", "cuda"}
    params = dict(np.load(tmp_path / "params.npz"))
    x = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    found, expected = program.call(params, {"x": x}), forward(model, {"x": x})
    # 2 layers of at most 16 products each, in another order: 16 eps of numbers below 1, twice
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=32 * 1.2e-7)
    np.testing.assert_array_equal(found["label"], expected["label"])

    about = json.loads((tmp_path / "model.json").read_text())
    assert about["step"] == 5 and about["inputs"] == {"x": "float32[b, 8]"}
    assert about["outputs"] == {"label": "int32[b]", "scores": "float32[b, 3]"}
    assert about["max_difference"] < 1e-5


def test_a_platform_that_there_is_not_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="no platform 'cdua'; did you mean 'cuda'"):
        export.export(forward, model, EXAMPLE, tmp_path, platforms=("cpu", "cdua"), about={})
    assert not list(tmp_path.iterdir())


def test_other_parameters_go_into_the_same_program(model, tmp_path):
    export.export(forward, model, EXAMPLE, tmp_path, about={}, say=lambda text: None)
    program = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    params = dict(np.load(tmp_path / "params.npz"))
    zero = {name: np.zeros_like(value) for name, value in params.items()}
    np.testing.assert_allclose(program.call(zero, EXAMPLE)["scores"], 1 / 3, atol=1e-6)


def test_an_export_that_cannot_be_checked_here_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="cannot check .* for cuda on cpu: add cpu"):
        export.export(forward, model, EXAMPLE, tmp_path, platforms=("cuda",), about={})
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_one_before(model, tmp_path, monkeypatch):
    export.export(forward, model, EXAMPLE, tmp_path, about={"step": 1}, say=lambda text: None)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(before) == {"model.json", "model.stablehlo", "params.npz"}

    def differs(*args, **options):
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
        raise ValueError("the export computes something else")

    monkeypatch.setattr(export, "compare", differs)
    with pytest.raises(ValueError, match="something else"):
        export.export(forward, model, EXAMPLE, tmp_path, about={"step": 2})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_copy_that_computes_something_else_is_found_out():
    original = lambda batch: {"y": batch["x"].sum(-1)}  # noqa: E731
    rounding = lambda batch: {"y": batch["x"].sum(-1) * (1 + 1e-6)}  # noqa: E731
    wrong = lambda batch: {"y": batch["x"].sum(-1) * 1.01}  # noqa: E731
    said = []
    assert export.compare(original, rounding, EXAMPLE, say=said.append) < 1e-4
    assert [line.split(",")[0] for line in said] == ["batch 1", "batch 3"]
    with pytest.raises(ValueError, match="computes something else: y differs"):
        export.compare(original, wrong, EXAMPLE, say=said.append)
    with pytest.raises(ValueError, match="gives y as"):
        export.compare(original, lambda batch: {"y": batch["x"]}, EXAMPLE, say=said.append)


def test_random_batches_are_like_the_example():
    example = {
        "image": np.zeros((1, 4, 4, 3), np.uint8),
        "x": np.zeros((1, 2), np.float32),
        "size": np.array([[480, 640]], np.int32),
    }
    batch = export.random_batch(example, 5)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: ((5, *v.shape[1:]), v.dtype) for k, v in example.items()
    }
    assert len(np.unique(batch["image"])) > 100 and batch["x"].std() > 0
    assert np.all(batch["size"] == (480, 640))


def test_onnx_without_its_packages_names_the_extra(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib, "import_module", _missing)
    with pytest.raises(ValueError, match="jax2onnx: start with `uv run --extra onnx"):
        export.export_onnx(forward, model, EXAMPLE, tmp_path / "model.onnx")


def _missing(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_verb_exports_the_trained_model(toy_system, capsys):
    config = "--config=configs/toy.py:tiny"
    run = ("--workdir=run", "--config.run=('ssl',)", "--config.stages.ssl.steps=1")
    assert launch.main([config, *run]) == 0

    # the toy's second stage classifies; its first reconstructs: forward is of any model
    assert launch.main(["export", "--workdir=run", "--platforms=cpu"]) == 0
    about = json.loads((toy_system / "run" / "export" / "model.json").read_text())
    assert (about["system"], about["stage"], about["step"]) == ("toy", "ssl", 1)
    assert about["platforms"] == ["cpu"]
    assert "done: run/export/" in capsys.readouterr().out

    assert launch.main(["export", "--workdir=run", "--platforms=tpuu"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
def test_onnx_computes_what_the_model_does(model, tmp_path):
    """Needs the extra `onnx`: uv run --extra onnx pytest -m slow tests/test_export.py"""
    onnxruntime = pytest.importorskip("onnxruntime")

    said = []
    path = export.export_onnx(forward, model, EXAMPLE, tmp_path / "model.onnx", say=said.append)
    assert "largest difference" in said[0] and "done" in said[-1]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    (scores,) = session.run(["scores"], {"x": x})
    np.testing.assert_allclose(scores, forward(model, {"x": x})["scores"], atol=32 * 1.2e-7)


@pytest.mark.slow
def test_what_onnx_cannot_express_is_named(model, tmp_path):
    pytest.importorskip("jax2onnx")

    def spectral(model, batch):
        return {"y": jnp.linalg.eigvals(batch["x"][:, None] * batch["x"][:, :, None]).imag}

    with pytest.raises(ValueError, match="ONNX cannot express this model: .*config.onnx"):
        export.export_onnx(spectral, model, EXAMPLE, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
