"""The arms of benchmarks/negative_transfer.py are alike but for what they are of; its intervals."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import negative_transfer as bench  # noqa: E402

SINGLE = ("scratch", "head", "sequential", "discriminative", "adapters")


@pytest.fixture(scope="module")
def arms():
    return {arm: bench.arm_config(arm, 3, 40, tiny=True) for arm in bench.ARMS}


def test_arms_differ_in_what_they_are_of_alone(arms):
    stages = {arm: config.stages[arm] for arm, config in arms.items()}
    for stage in stages.values():
        assert (stage.batch, stage.best, stage.patience) == (16, "", None)
        assert (stage.loss.form, stage.loss.symmetry) == ("balanced_focal", "transpose")
        assert stage.loss.mixup == stage.loss.cutmix == 0
    steps = {arm: stage.steps for arm, stage in stages.items()}
    assert steps == dict.fromkeys(bench.ARMS, 40) | {"head": 20, "multitask": 80, "regret": 80}
    for arm in ("multitask", "regret"):
        assert stages[arm].sizes == (16,) and stages[arm].left == 0
    assert stages["regret"].loss.regret > 0 == stages["multitask"].loss.regret
    assert stages["adapters"].adapters and not any(
        stages[arm].adapters for arm in bench.ARMS if arm != "adapters"
    )


def test_arms_begin_where_they_say(arms):
    assert arms["scratch"].run == ("scratch",) and arms["regret"].run == ("regret",)
    assert arms["adapters"].run == ("stage1", "adapters")
    for arm in ("sequential", "discriminative"):
        assert arms[arm].run == ("stage1", "head", arm)
        assert arms[arm].stages[arm].init_from == ("head",)


def table(right, wrong):
    """Confusions of three classes alike, `[clips 3 3]`."""
    return np.array([np.eye(3, dtype=int) * (r - w) + w for r, w in zip(right, wrong, strict=True)])


def test_differences_are_of_the_means_and_paired_by_clip():
    found = {
        "sequential": [table([8, 4], [1, 3]), table([8, 4], [1, 3])],
        "scratch": [table([9, 5], [1, 3]), table([8, 4], [1, 3])],
    }
    out = bench.summary(found)
    base, other = out["sequential"], out["scratch"]
    assert base["difference"] == 0 and base["difference_interval"] == [0, 0]
    seeds = [bench.macro_f1(one.sum(0)) for one in found["scratch"]]
    assert other["macro_f1"] == seeds and other["mean"] == pytest.approx(np.mean(seeds))
    assert other["difference"] == pytest.approx(other["mean"] - base["mean"])
    low, high = other["difference_interval"]
    assert 0 < low <= other["difference"] <= high
    assert "| scratch |" in bench.table(out)


@pytest.mark.parametrize("words", [["--arms=scratch"], ["--arms=sequential,x"], ["--steps=2"]])
def test_wrong_words_end_it(words, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(words)
    assert stop.value.code == 2 and "error: " in capsys.readouterr().err
