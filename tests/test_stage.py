"""Stages refuse what would fail later, by name and value."""

import dataclasses

import pytest
import toy

from jaxvision.stage import Graft, Objective


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(steps=-1), "steps=-1 must be >= 0"),
        (dict(save_every=0), "save_every=0 >= 1"),
        (dict(ema=1.0), "ema=1.0 is not a decay"),
        (dict(best="test/ap"), "best='test/ap' names none of its evals"),
        (dict(patience=0), "patience=0 must be >= 1"),
        (dict(patience=4, best=None), "patience=4 must be >= 1, and best=None name the metric"),
        (
            dict(evals={"val": dataclasses.replace(toy.VAL, every=0)}),
            "eval 'val' is due every 0 steps: eval_every=0 must be >= 1",
        ),
        (
            dict(objectives={"x": Objective(loss=toy.classify, optimizer=toy.ADAM, params="[")}),
            r"params of objective 'x' '\[' is not a regular expression: unterminated character set",
        ),
    ],
)
def test_a_stage_that_cannot_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"stage 'finetune': .*{message}"):
        dataclasses.replace(toy.FINETUNE, **changes)


@pytest.mark.parametrize(
    "rename, message",
    [
        (("(", "x"), r"rename '\(' -> 'x' is not a regular expression: missing \)"),
        (("^a/", r"\1"), "invalid group reference 1"),
        (("^a/", r"\g<name>"), "unknown group name 'name'"),
    ],
)
def test_a_graft_that_cannot_rename_is_refused(rename, message):
    with pytest.raises(ValueError, match=f"graft of 'ssl': .*{message}"):
        Graft(source="ssl", rename=(rename,))
