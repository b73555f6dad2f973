"""Checkpoints: what is kept, what is found when something is damaged, what a graft reports."""

import json
import math
import re
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.checkpoint import Checkpoints, find, load
from jaxvision.graft import graft
from jaxvision.record import Record

MODEL = {"encoder": {0: {"kernel": jnp.arange(6.0).reshape(2, 3)}}, "head": jnp.ones(3)}


def state(step, params=None):
    params = MODEL if params is None else params
    return {"params": jax.tree.map(lambda x: x + step, params), "step": jnp.int32(step)}


def like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def record(step, **metrics):
    return Record(step=step, examples=step * 4, batch=4, seconds=1.5, metrics=metrics)


@pytest.fixture
def said():
    return []


@pytest.fixture
def three(tmp_path, said):
    """Checkpoints of the steps 10, 20 and 30."""
    checkpoints = Checkpoints(tmp_path / "stage" / "checkpoints", say=said.append)
    for step in (10, 20, 30):
        checkpoints.save(state(step), record(step))
    return checkpoints


def test_what_is_saved_comes_back(three):
    assert three.latest() == 30
    assert three.record(30) == record(30)
    restored = three.restore(30, like(state(0)))
    np.testing.assert_array_equal(restored["params"]["encoder"][0]["kernel"][1], [33, 34, 35])
    assert restored["step"] == 30 and restored["step"].dtype == jnp.int32


def test_only_the_latest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best="val/ap")
    for step, score in enumerate((0.1, 0.7, 0.7, 0.3, math.nan, 0.2)):
        checkpoints.save(state(step), record(step, **{"val/ap": score}))
    assert checkpoints.steps() == [1, 4, 5]
    assert checkpoints.best_step() == 1
    assert find(tmp_path)[1] == 1
    assert find(tmp_path, "latest")[1] == 5
    assert math.isnan(checkpoints.record(4).metrics["val/ap"])
    json.loads((checkpoints.path(4) / "record.json").read_text(), parse_constant=pytest.fail)


def test_a_metric_of_nothing_but_nan_does_not_win_or_crash(tmp_path):
    checkpoints = Checkpoints(tmp_path, best="val/ap")
    checkpoints.save(state(1), record(1, **{"val/ap": math.nan}))
    assert checkpoints.best_step() is None
    assert find(tmp_path)[1] == 1


def test_a_metric_that_the_evaluation_lacks_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, best="val/ap50")
    # Another eval than the one with the metric:
    checkpoints.save(state(1), record(1, **{"test/ap": 0.3}))
    with pytest.raises(ValueError, match=r"'val/ap50'.*it has \['val/ap'\]"):
        checkpoints.save(state(2), record(2, **{"val/ap": 0.3}))


def test_saving_a_step_again_only_adds_its_metrics(three):
    before = (three.path(30) / "state" / "manifest.ocdbt").stat().st_mtime_ns
    three.save(state(30), record(30, **{"val/ap": 0.5}))
    assert three.record(30).metrics == {"val/ap": 0.5}
    assert (three.path(30) / "state" / "manifest.ocdbt").stat().st_mtime_ns == before


def test_a_step_that_turns_out_the_best_replaces_the_best_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best="val/ap")
    for step, score in enumerate((0.1, 0.7, 0.3)):
        checkpoints.save(state(step), record(step))
        checkpoints.save(state(step), record(step, **{"val/ap": score}))
        assert checkpoints.steps() == [[0], [1], [1, 2]][step]


def largest_file(path):
    return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(path):
    file = largest_file(path / "state")
    file.write_bytes(file.read_bytes()[:-7])


def flip_a_bit(path):
    file = largest_file(path / "state")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(path):
    shutil.rmtree(path)
    path.mkdir()


def cut_record(path):
    (path / "record.json").write_text((path / "record.json").read_text()[:100])


@pytest.mark.parametrize(
    "harm, message",
    [
        (truncate, "of .* bytes"),
        (flip_a_bit, "has changed"),
        (lambda path: largest_file(path / "state").unlink(), "is missing"),
        (empty, "record.json is missing"),
        (cut_record, "record.json is cut short"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(three, said, harm, message):
    harm(three.path(30))
    assert three.latest() == 20
    assert len(said) == 1 and str(three.path(30)) in said[0]
    assert re.search(message, said[0])
    assert three.steps() == [10, 20]
    three.save(state(25), record(25))
    three.save(state(30), record(30))
    assert three.latest() == 30 and three.steps() == [20, 25, 30]
    assert (three.path(30).with_name("30.damaged")).is_dir()  # put aside, not deleted


def test_when_nothing_is_whole_it_says_so(three, said):
    for step in (10, 20, 30):
        truncate(three.path(step))
    assert three.latest() is None
    assert said[-1].endswith("is whole: starting from the beginning")


def test_what_a_killed_process_left_behind_is_cleared(three):
    left = three.path(40).with_name(".writing-40")
    (left / "state").mkdir(parents=True)
    assert three.latest() == 30
    three.save(state(40), record(40))
    assert not left.exists() and three.latest() == 40


def test_a_checkpoint_of_another_model_is_refused_by_name(three):
    other = {"encoder": {0: {"kernel": jnp.zeros((2, 4))}}, "tail": jnp.ones(3)}
    with pytest.raises(ValueError) as error:
        three.restore(30, like(state(0, other)))
    assert "encoder/0/kernel is float32[2, 3] there, float32[2, 4] here" in str(error.value)
    assert "params/tail is absent there" in str(error.value)
    assert "params/head is float32[3] there, absent here" in str(error.value)


def test_no_room_left_is_one_line_and_older_checkpoints_stay_readable(three):
    big = {"params": {"a": jax.random.normal(jax.random.key(0), (2**16,))}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            three.save(big, record(40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert "\n" not in str(error.value) and str(three.path(40)) in str(error.value)
    assert not three.path(40).with_name(".writing-40").exists()
    assert three.latest() == 30
    three.save(state(40), record(40))
    assert three.latest() == 40


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints")
    with pytest.raises(OSError, match="cannot write .*file/checkpoints/1: Not a directory"):
        checkpoints.save(state(1), record(1))


def test_buckets_are_refused():
    with pytest.raises(ValueError, match="gs://bucket/run is not a folder: mount the bucket"):
        Checkpoints("gs://bucket/run")


def test_load_finds_a_stage_a_run_and_the_folder_itself(three, tmp_path):
    for place in (tmp_path, tmp_path / "stage", tmp_path / "stage" / "checkpoints"):
        arrays = load(place, items=("params", "ema"))
        assert set(arrays["params"]) == {"encoder/0/kernel", "head"} and arrays["ema"] == {}
        assert isinstance(arrays["params"]["head"], np.ndarray)
        assert arrays["params"]["head"][0] == 31
    Checkpoints(tmp_path / "other" / "checkpoints").save(state(1), record(1))
    with pytest.raises(ValueError, match="has several stages, name one of .*other, .*stage"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no readable checkpoint under .*nowhere"):
        load(tmp_path / "nowhere")


def test_load_passes_over_a_damaged_checkpoint(three, tmp_path, capsys):
    truncate(three.path(30))
    assert load(tmp_path)["params"]["head"][0] == 21
    assert "checkpoints/30 is damaged" in capsys.readouterr().out


def test_graft_reports_what_became_of_everything():
    target = {
        "encoder": {"a": jnp.zeros(3), "b": jnp.zeros(2), "c": jnp.zeros(1)},
        "head": jnp.zeros((4, 2)),
    }
    source = {
        "backbone/a": np.arange(3.0, dtype=np.float32),
        "backbone/b": np.ones(2, np.float16),
        "head": np.ones((4, 3), np.float32),
        "decoder": np.ones(5, np.float32),
    }
    grafted, report = graft(target, source, (("^backbone/", "encoder/"),), title="coco: from ssl")
    np.testing.assert_array_equal(grafted["encoder"]["a"], [0, 1, 2])
    np.testing.assert_array_equal(grafted["head"], target["head"])
    assert grafted["encoder"]["b"].dtype == jnp.float32
    assert report.loaded == ("encoder/a", "encoder/b")
    assert report.cast == ("encoder/b",)
    assert report.reshaped == ("head [4, 3] -> [4, 2]",)
    assert report.absent == ("encoder/c",)
    assert report.unused == ("decoder",)
    assert str(report).splitlines() == [
        "coco: from ssl:",
        "  loaded       2  encoder/a, encoder/b",
        "  cast         1  encoder/b",
        "  reshaped     1  head [4, 3] -> [4, 2]",
        "  absent       1  encoder/c",
        "  unused       1  decoder",
    ]


def test_a_long_graft_report_is_told_by_folders():
    target = {"encoder": {i: {"kernel": jnp.zeros(1), "bias": jnp.zeros(1)} for i in range(20)}}
    source = jax.tree.map(np.asarray, target)
    _, report = graft(target, source)
    assert "loaded      40  encoder (40)" in str(report)


def test_a_graft_of_nothing_names_both_sides():
    with pytest.raises(ValueError, match=r"nothing matches.*\['b/x'\].*\['a/x'\].*rename"):
        graft({"a": {"x": jnp.zeros(1)}}, {"b/x": np.zeros(1)})
    with pytest.raises(ValueError, match=r"nothing matches.*x \[2\] -> \[1\]"):
        graft({"x": jnp.zeros(1)}, {"x": np.zeros(2)})


def test_a_rename_that_makes_two_paths_one_is_refused():
    source = {"a/x": np.zeros(1), "b/x": np.zeros(1)}
    with pytest.raises(ValueError, match="two source paths are renamed to 'x'"):
        graft({"x": jnp.zeros(1)}, source, (("^./", ""),))
