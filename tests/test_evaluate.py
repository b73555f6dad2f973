"""A whole split through a stage's evaluation."""

import dataclasses
import math

import jax
import numpy as np
import pytest
import toy

from jaxvision import loop
from jaxvision.sharding import make_mesh
from jaxvision.stage import Eval
from jaxvision.step import build

pytestmark = pytest.mark.usefixtures("compiles_once")
MESH = make_mesh({"data": 1}, jax.devices()[:1])


class Drawing:
    """A host metric that counts what it is given and draws a picture."""

    def __init__(self, directory):
        self.directory, self.rows, self.right = directory, [], 0

    def add(self, batch, predictions):
        assert all(isinstance(x, np.ndarray) for x in (*batch.values(), *predictions.values()))
        self.rows.append(batch["mask"])
        right = predictions["logits"].argmax(-1) == batch["y"]
        self.right += int((right & batch["mask"]).sum())

    def result(self):
        import cv2

        cv2.imwrite(str(self.directory / "worst.png"), np.zeros((4, 6, 3), np.uint8))
        return {"right": self.right, "rows": int(np.concatenate(self.rows).sum()), "nan": math.nan}


def test_evaluation_is_the_same_every_time(tmp_path):
    def noisy(model, batch, rngs):
        scores = jax.random.normal(rngs.noise(), batch["y"].shape + (2,))
        return {"logits": scores, "labels": batch["y"]}

    ev = Eval(split="val", predict=noisy, metrics=toy.Scores)
    stage = dataclasses.replace(toy.member(0), evals={"val": ev})
    program = build(stage)
    state = jax.jit(program.init)(jax.random.key(0))
    found = [
        loop.evaluate(stage, "val", program, state, MESH, directory=tmp_path / "none")
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert program.evaluators["val"]._cache_size() == 1  # compiled once for both
    assert not (tmp_path / "none").exists()


def test_host_metrics_see_every_real_row_once_and_may_draw(tmp_path):
    both = Eval(
        split="val",
        predict=toy.predict,
        metrics=toy.Scores,
        host=lambda directory: [Drawing(directory)],
        every=2,
    )
    stage = dataclasses.replace(toy.member(0), evals={"val": both}, best="val/nan")
    recorder = toy.Recorder()
    loop.fit(stage, tmp_path, MESH, writer=recorder)
    assert sorted(recorder.rows) == [2, 4]
    found = recorder.rows[4]
    assert found["val/rows"] == 50
    assert found["val/right"] / 50 == pytest.approx(found["val/accuracy"])
    assert (tmp_path / "member0" / "eval" / "4" / "worst.png").exists()
    assert recorder.pictures == [(step, "val/worst", (4, 6, 3)) for step in (2, 4)]
    # A best metric that is always NaN: the latest checkpoint stands in.
    assert loop.restore_model(stage, tmp_path)[1] == 4


def test_a_long_evaluation_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxvision.evaluate.PATIENCE", 0.0)
    said = []
    stage = dataclasses.replace(toy.member(0), evals={"val": toy.VAL})
    program = build(stage)
    state = jax.jit(program.init)(jax.random.key(0))
    loop.evaluate(stage, "val", program, state, MESH, directory=tmp_path, say=said.append)
    assert any(line.startswith("val: 3/4 batches, ") for line in said)
