"""What configs are made of, and how a command line changes them."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision import settings
from jaxvision.config import base, fields_of, from_config, has_gpu, optimizer, rules_from, schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 2
    scale: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    classes: int
    size: tuple[int, int] = (64, 64)
    names: tuple[str, ...] = ()
    rate: float = 0.5
    on: bool = False
    inner: Inner = Inner()


def config():
    made = base(system="toy", preset="tiny")
    made.model = fields_of(Outer, dict(inner=dict(depth=3)))
    made.stages.first = dict(steps=10, lr=1e-3)
    made.run = ("first",)
    return made


def test_a_config_holds_every_field_with_a_default():
    assert fields_of(Outer) == dict(
        size=(64, 64), names=(), rate=0.5, on=False, inner=dict(depth=2, scale=None)
    )
    with pytest.raises(ValueError, match="Inner has no field 'dept'; did you mean 'depth'"):
        fields_of(Outer, dict(inner=dict(dept=1)))


def test_a_dataclass_comes_back_from_its_config():
    made = from_config(Outer, config().model, classes=7)
    assert made == Outer(classes=7, inner=Inner(depth=3))
    whole = from_config(Outer, ConfigDict(dict(rate=2, size=[3, 4])), classes=1)
    assert whole.size == (3, 4) and isinstance(whole.rate, float)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(), "Outer needs classes"),
        (dict(classes=1, sise=(1, 1)), "no field 'sise'; did you mean 'size'"),
        (dict(classes=1, rate="fast"), "rate='fast' is not of type float"),
        (dict(classes=True), "classes=True is not of type int"),
        (dict(classes=1, on=1), "on=1 is not of type bool"),
        (dict(classes=1, size=(1,)), "size=(1,) must have 2 entries"),
        (dict(classes=1, names=(1,)), "names[0]=1 is not of type str"),
        (dict(classes=1, inner=dict(depth="x")), "inner.depth='x' is not of type int"),
        (dict(classes=1, inner=dict(width=1)), "no field 'inner.width'"),
    ],
)
def test_what_does_not_fit_a_dataclass_is_named(values, message):
    with pytest.raises(ValueError) as error:
        from_config(Outer, values)
    assert message in str(error.value)


def test_overrides_keep_their_types():
    made = settings.override(
        config(),
        [
            "--config.seed=7",
            "--config.stages.first.lr=3",
            "--config.model.size=(32, 48)",
            "--config.model.names=('a', 'b')",
            "--config.model.on",
            "--config.model.inner.scale=0.25",
            "--config.run=('first', 'first')",
        ],
    )
    assert made.seed == 7 and made.stages.first.lr == 3.0
    assert isinstance(made.stages.first.lr, float)
    built = from_config(Outer, made.model, classes=2)
    assert (built.size, built.names, built.on) == ((32, 48), ("a", "b"), True)
    assert built.inner == Inner(depth=3, scale=0.25)
    assert made.run == ("first", "first")
    with pytest.raises(AttributeError):
        made.typo = 1  # locked


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--config.stages.first.stpes=3", "did you mean 'stages.first.steps'"),
        ("--config.depth=3", "did you mean 'model.inner.depth'"),
        ("--config.stages.first=3", "is a group"),
        ("--config.seed.more=3", "seed is a value"),
        ("--config.seed=some", "seed"),
        ("--config.model.rate=fast", "rate"),
        ("3", "unexpected argument '3'"),
    ],
)
def test_a_wrong_override_is_answered_in_one_line(argument, message):
    with pytest.raises(ValueError) as error:
        settings.override(config(), [argument])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_saved_config_is_the_config(tmp_path):
    saved = settings.override(config(), ["--config.model.names=('é',)"])
    settings.write(saved, tmp_path / "run")
    read = settings.read(tmp_path / "run")
    assert settings.differences(saved, read) == {}
    assert read.model.names == ("é",) and isinstance(read.run, tuple)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]
    read.stages.first.steps = 11
    assert settings.differences(saved, read) == {"stages.first.steps": (10, 11)}


def test_a_folder_without_a_run_is_described(tmp_path):
    settings.write(config(), tmp_path / "runs" / "mine")
    with pytest.raises(FileNotFoundError, match="runs there: .*mine"):
        settings.read(tmp_path / "runs" / "mien")
    with pytest.raises(FileNotFoundError, match="it is empty"):
        (tmp_path / "empty").mkdir()
        settings.read(tmp_path / "empty")
    (tmp_path / "runs" / "mine" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        settings.read(tmp_path / "runs" / "mine")


def test_config_files_that_are_none(tmp_path):
    broken, empty = tmp_path / "broken.py", tmp_path / "empty.py"
    broken.write_text("x = 1\ny =\n")
    empty.write_text("")
    with pytest.raises(ValueError, match="broken.py, line 2"):
        settings.load(str(broken))
    with pytest.raises(ValueError, match="no get_config"):
        settings.load(str(empty))
    with pytest.raises(FileNotFoundError, match="did you mean '.*empty.py'"):
        settings.load(str(tmp_path / "emty.py"))


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("name", ["cosine", "flat_cosine", "linear", "constant"])
def test_schedules_rise_to_the_rate_and_fall_to_a_hundredth(name, warmup):
    rate = schedule(ConfigDict(dict(steps=100, lr=2.0, schedule=name, warmup=warmup)))
    values = np.array([float(rate(i)) for i in range(101)])
    assert values[max(warmup - 1, 0)] == values[warmup] == pytest.approx(2.0)
    assert np.all(np.diff(values[:warmup]) > 0) and values.min() > 0
    assert np.all(np.diff(values[warmup:]) <= 1e-7)
    assert values[-1] == pytest.approx(2.0 if name == "constant" else 0.02, rel=1e-5)
    if name == "flat_cosine":
        assert values[warmup + (100 - warmup) // 2] == pytest.approx(2.0)


@pytest.mark.parametrize("steps, warmup", [(0, 0), (1, 5), (2, 1)])
def test_the_shortest_schedules_are_finite(steps, warmup):
    rate = schedule(ConfigDict(dict(steps=steps, lr=1.0, warmup=warmup)))
    assert all(np.isfinite(float(rate(i))) for i in range(4))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lion", "muon"])
def test_optimizers_step_downhill_and_decay_kernels_alone(name):
    params = {"kernel": np.eye(2, dtype=np.float32), "bias": np.ones(2, np.float32)}
    decay = 0.0 if name == "adam" else 0.5
    made = optimizer(ConfigDict(dict(
        optimizer=name, lr=0.1, schedule="constant", steps=10, weight_decay=decay, clip=1.0
    )))  # fmt: skip
    state, update = jax.jit(made.init)(params), jax.jit(made.update)
    down, _ = jax.device_get(update(params, state, params))
    still, _ = jax.device_get(update(jax.tree.map(np.zeros_like, params), state, params))
    assert np.all(down["bias"] < 0) and np.all(np.diag(down["kernel"]) < 0)
    assert np.all(still["bias"] == 0)
    assert np.all(np.diag(still["kernel"]) < 0) == (decay > 0)


def test_clipping_is_of_the_global_norm():
    made = optimizer(
        ConfigDict(dict(optimizer="sgd", lr=1.0, schedule="constant", steps=9, clip=1.0))
    )
    params = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    gradient = jax.tree.map(lambda x: np.full_like(x, 30.0), params)
    update, _ = made.update(gradient, made.init(params), params)
    assert np.sqrt(sum(float((u**2).sum()) for u in update.values())) == pytest.approx(1.0)


def test_some_parameters_learn_at_a_share_of_the_rate():
    fields = dict(optimizer="sgd", lr=1.0, schedule="constant", steps=9)
    made = optimizer(ConfigDict(fields | dict(lr_scale=(("^backbone/", 0.1), ("bias$", 0.5)))))
    ones = {name: {"kernel": np.ones(2), "bias": np.ones(2)} for name in ("backbone", "head")}
    update, _ = made.update(ones, made.init(ones), ones)
    for name, kernel, bias in (("backbone", 0.1, 0.1), ("head", 1.0, 0.5)):
        np.testing.assert_allclose(update[name]["kernel"], -kernel, rtol=1e-6)
        np.testing.assert_allclose(update[name]["bias"], -bias, rtol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(lr_scale=(("^a/",),)), "lr_scale: .* is not a pair"),
        (dict(lr_scale=(("^a/", -1.0),)), "lr_scale: .* is not a pair"),
        (dict(lr_scale=(("(", 1.0),)), "lr_scale: .* is not a regular expression"),
        (dict(schedule="cosin"), "did you mean 'cosine'"),
        (dict(optimizer="adamv"), "did you mean 'adam"),
        (dict(lr=0.0), "lr=0.0 must be above 0"),
        (dict(warmup=-1), "warmup=-1 must be >= 0"),
        (dict(clip=-1.0), "clip=-1.0 must be >= 0"),
        (dict(optimizer="adam", weight_decay=0.1), "'adam' has no weight decay"),
    ],
)
def test_an_unknown_optimizer_or_schedule_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        optimizer(ConfigDict(dict(steps=10, lr=1.0) | fields))


def test_sharding_rules_come_from_the_config():
    made = config()
    made.sharding = (("kernel$", (None, "tensor")),)
    ((pattern, spec),) = rules_from(made)
    assert pattern == "kernel$" and tuple(spec) == (None, "tensor")
    made.sharding = (("kernel$", ("tensr",)),)
    with pytest.raises(ValueError, match="did you mean 'tensor'"):
        rules_from(made)
    made.sharding = ("kernel$",)
    with pytest.raises(ValueError, match="is not a pair"):
        rules_from(made)


def test_a_gpu_that_is_hidden_is_not_there(monkeypatch):
    monkeypatch.setattr("os.path.exists", lambda path: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert has_gpu()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not has_gpu()
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu()
