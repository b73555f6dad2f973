"""Where arrays live, and that it does not change what is learnt."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from processes import output

from jaxvision import sharding
from jaxvision.checkpoint import Checkpoints, load
from jaxvision.sharding import P


class Fake:
    """Stands for a mesh of several devices where only its sizes matter."""

    def __init__(self, **sizes):
        self.shape = dict.fromkeys(sharding.AXES, 1) | sizes


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh({"data": 1}, jax.devices()[:1])


def relative_difference(a, b):
    """Of all numbers together: the bias before a BatchNorm alone is nothing but rounding."""
    assert a.keys() == b.keys()
    a, b = (np.concatenate([np.ravel(tree[k]) for k in a]) for tree in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def scores(workdir):
    """What the last evaluation has found, but for its NaN."""
    found = dict(Checkpoints(workdir / "parallel" / "checkpoints").record(40).metrics)
    assert np.isnan(found.pop("val/none"))
    assert found["val/rows"] == 50
    assert found["val/right"] / 50 == pytest.approx(found["val/accuracy"])
    return found


def test_one_and_eight_devices_learn_the_same(start, tmp_path):
    told = output(start("parallel_toy.py", tmp_path, devices=8))
    assert "shard (4, 16) 8" in told  # [8 16] split in two by the rule, on all eight devices
    (warning,) = (line for line in told.splitlines() if line.startswith("warning: "))
    assert "mesh axis tensor=4 splits no parameter" in warning and "config.sharding" in warning
    one, eight, mixed = (
        load(tmp_path / name / "parallel", ("params", "model_state"))
        for name in ("one", "eight", "mixed")
    )
    for other in (eight, mixed):
        # Sums over 16 rows in another order: 2^-24 a sum, carried through 40 steps of SGD.
        assert relative_difference(one["params"], other["params"]) <= 1e-5
        assert relative_difference(one["model_state"], other["model_state"]) <= 1e-5
    assert relative_difference(one["params"], eight["params"]) > 0  # they did run differently
    found = [scores(tmp_path / name) for name in ("one", "eight")]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "shape, message",
    [
        ({"data": 3}, r"data=3 × .* does not multiply to the 1 device"),
        ({"data": -1, "fsdp": -1}, "at most one is -1"),
        ({"data": 0}, "sizes are >= 1"),
        ({"data": -1, "fsdp": 2}, "change the sizes, or set one to -1"),
        ({"date": 1}, "no axis is named 'date', only data, fsdp, seq, tensor"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(shape, jax.devices()[:1])


def test_a_free_axis_takes_all_devices(mesh):
    assert dict(sharding.make_mesh({"data": -1}, jax.devices()[:1]).shape) == dict(mesh.shape)


@pytest.mark.parametrize("rows, accumulate", [(6, 1), (12, 2), (0, 1)])
def test_a_batch_that_the_devices_cannot_split_is_refused(rows, accumulate):
    batch = {"x": np.zeros((rows, 3))}
    with pytest.raises(ValueError) as error:
        sharding.put(batch, Fake(data=4, fsdp=2), accumulate=accumulate)
    told = str(error.value)
    assert told.startswith(f"batch of {rows} rows ('x') cannot be split over mesh data=4 × fsdp=2")
    assert f"a multiple of {8 * accumulate}" in told


def test_batches_arrive_as_they_are(mesh):
    batch = {"x": np.arange(6, dtype=np.uint8).reshape(2, 3), "valid": np.array([True, False])}
    put = sharding.put(batch, mesh)
    assert put["x"].dtype == np.uint8 and put["valid"].dtype == bool
    np.testing.assert_array_equal(put["x"], batch["x"])
    assert put["x"].sharding.spec == P(("data", "fsdp"))


def shapes(**leaves):
    return {"params": {k: jax.ShapeDtypeStruct(v, np.float32) for k, v in leaves.items()}}


def test_large_arrays_are_split_along_their_largest_divisible_dimension(monkeypatch):
    monkeypatch.setattr(sharding, "NamedSharding", lambda mesh, spec: spec)
    tree = shapes(large=(256, 3, 511), small=(4, 4), odd=(257, 511), tall=(512, 256))
    placed = sharding.infer(Fake(fsdp=2), tree)["params"]
    assert placed == {
        "large": P("fsdp", None, None),
        "small": P(),
        "odd": P(),
        "tall": P("fsdp", None),
    }
    assert sharding.infer(Fake(data=8), tree)["params"]["large"] == P()
    assert sharding.infer(Fake(fsdp=2), tree, min_size=1)["params"]["small"] == P("fsdp", None)


def test_rules_come_first_and_say_what_they_cannot_do(monkeypatch, caplog):
    monkeypatch.setattr(sharding, "NamedSharding", lambda mesh, spec: spec)
    mesh, tree = Fake(fsdp=2, tensor=4), shapes(kernel=(8, 512, 512), bias=(6,))
    rules = ((r"kernel$", P(None, ("fsdp", "tensor"))), (r"nothing", P("fsdp")))
    placed = sharding.infer(mesh, tree, rules)["params"]
    assert placed == {"kernel": P(None, ("fsdp", "tensor")), "bias": P()}
    assert "'nothing' matches no parameter" in caplog.text
    with pytest.raises(ValueError, match=r"bias \[6\] has a dimension of 6 that tensor=4 does not"):
        sharding.infer(mesh, tree, ((r"bias", P("tensor")),))
    with pytest.raises(ValueError, match="too long for params/bias"):
        sharding.infer(mesh, tree, ((r"bias", P(None, "tensor")),))
    moments = {"opt_state": {"bias": jax.ShapeDtypeStruct((), np.float32)}}
    assert sharding.infer(mesh, moments, ((r"bias", P("tensor")),)) == {"opt_state": {"bias": P()}}


def test_an_axis_that_splits_nothing_is_found(monkeypatch):
    monkeypatch.setattr(sharding, "NamedSharding", lambda mesh, spec: SimpleNamespace(spec=spec))
    mesh, tree = Fake(data=2, fsdp=2, seq=3, tensor=4), shapes(kernel=(8, 512, 512), bias=(6,))
    assert sharding.idle_axes(mesh, sharding.infer(mesh, tree)) == ["seq", "tensor"]
    rules = ((r"kernel$", P(None, ("fsdp", "tensor"))),)
    assert sharding.idle_axes(mesh, sharding.infer(mesh, tree, rules)) == ["seq"]
    rules = ((r"kernel$", P(None, "tensor")), (r"bias$", P("seq")))
    assert sharding.idle_axes(mesh, sharding.infer(mesh, tree, rules)) == []
    with pytest.raises(ValueError, match=r"sharding rule '\[' is not a regular expression"):
        sharding.infer(mesh, tree, (("[", P("tensor")),))


def test_constrain_needs_no_mesh_and_uses_one(mesh):
    x = np.ones((2, 4), np.float32)
    double = jax.jit(lambda x: sharding.constrain(x * 2, ("data", "fsdp"), "seq"))
    np.testing.assert_array_equal(double(x), x * 2)
    with jax.set_mesh(mesh):
        assert "sharding_constraint" in str(jax.make_jaxpr(double)(x))
