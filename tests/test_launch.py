"""The command line: verbs, workdirs, and what a mistake is answered with."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import toy
from toy_task import toy_system  # noqa: F401 - a fixture

from jaxvision import launch, settings, verbs
from jaxvision.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("toy_system")
CONFIG = "--config=configs/toy.py:tiny"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A place for the run that the first test trains and others read."""
    return tmp_path_factory.mktemp("runs") / "run"


def run(*argv, code=0):
    assert launch.main(list(map(str, argv))) == code


def refused(capsys, *argv, code=1):
    """The one line that an erroneous command is answered with."""
    run(*argv, code=code)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


@pytest.fixture
def finished(trained, capsys):
    """The run of both stages: trained when first asked for."""
    if not trained.exists():
        run(CONFIG, f"--workdir={trained}")
        (trained.parent / "said.txt").write_text(capsys.readouterr().out)
    return trained


def test_train_runs_the_stages_in_order_and_says_what_is_next(finished):
    said = (finished.parent / "said.txt").read_text()
    assert said.index("ssl: ended after step 4") < said.index("finetune: graft from")
    assert f"predict --workdir={finished} --input=PATH" in said
    assert Checkpoints(finished / "finetune" / "checkpoints").steps() == [4]
    saved = json.loads((finished / "config.json").read_text())
    assert saved["data"]["names"] == ["below", "above"]  # what build has filled in
    assert saved["run"] == ["ssl", "finetune"]


def test_the_default_workdir_names_system_and_preset(toy_system):
    run("train", CONFIG, "--config.run=('ssl',)", "--config.stages.ssl.steps=1")
    assert (toy_system / "runs" / "toy-tiny" / "ssl" / "checkpoints" / "1").is_dir()


def test_the_same_command_continues(finished, capsys):
    run(CONFIG, f"--workdir={finished}")
    assert f"ssl: continues from {finished}/ssl/checkpoints/4" in capsys.readouterr().out


def test_a_sigterm_saves_and_the_same_command_goes_on(tmp_path, capsys, monkeypatch):
    arguments = (CONFIG, "--workdir=cut", "--config.run=('ssl',)")
    examples = toy.Examples.__getitem__

    def getitem(self, index):
        if index == 0 and not sent:  # within the first epoch, on whichever thread reads
            sent.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        return examples(self, index)

    sent = []
    monkeypatch.setattr(toy.Examples, "__getitem__", getitem)
    run(*arguments, "--config.stages.ssl.steps=3000", "--stopped_status=75", code=75)
    out = capsys.readouterr().out
    assert "(SIGTERM)" in out and "the same command continues from there" in out
    assert "next:" not in out
    (step,) = Checkpoints(tmp_path / "cut" / "ssl" / "checkpoints").steps()
    assert step < 3000
    run(*arguments, f"--config.stages.ssl.steps={step + 1}")
    out = capsys.readouterr().out
    assert f"continues from cut/ssl/checkpoints/{step}" in out
    assert f"stages.ssl.steps 3000 -> {step + 1}" in out  # a warning, not an error


def test_a_workdir_keeps_its_model(finished, capsys):
    said = refused(capsys, CONFIG, f"--workdir={finished}", "--config.model.classes=3")
    assert "model.classes 2 -> 3" in said and "another --workdir" in said
    assert settings.read(finished).model.classes == 2
    said = refused(capsys, CONFIG, f"--workdir={finished}", "--config.data.names=('a', 'b')")
    assert "data.names" in said and "another --workdir" in said


@pytest.mark.parametrize(
    "change, message",
    [
        ("--config.model.classes=3", "holds checkpoints of another model"),
        ("--config.optimizer=sgd", "is of another model or optimizer"),
        ("--config.rows=0", "rows=0"),
    ],
)
def test_a_refused_resume_leaves_the_saved_config(finished, capsys, change, message):
    before = (finished / "config.json").read_bytes()
    more = "--config.stages.finetune.steps=6"
    assert message in refused(capsys, CONFIG, f"--workdir={finished}", change, more)
    assert (finished / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "setting, expected",
    [
        ("model.backbone.dims", True),
        ("data.names", True),
        ("system", True),
        ("model.dtype", False),
        ("model.backbone.remat", False),
        ("model.backbone.scan.backend", False),
        ("stages.detect.lr", False),
    ],
)
def test_which_settings_make_another_model(setting, expected):
    assert verbs.changes_the_model(setting) is expected


def test_eval_needs_the_workdir_alone(finished, capsys):
    run("eval", f"--workdir={finished}")
    scalars = json.loads((finished / "finetune" / "eval" / "4" / "scalars.json").read_text())
    assert scalars["step"] == 4 and 0 <= scalars["val/accuracy"] <= 1
    assert f"{scalars['val/accuracy']:.4f}" in capsys.readouterr().out
    best = Checkpoints(finished / "finetune" / "checkpoints").record(4).metrics
    assert scalars["val/accuracy"] == pytest.approx(best["val/accuracy"])  # averaged parameters
    assert "no evaluation" in refused(capsys, "eval", f"--workdir={finished}", "--stage=ssl")


def test_eval_with_other_settings_leaves_what_was_measured_before(finished, tmp_path, capsys):
    folder = finished / "finetune" / "eval"
    run("eval", f"--workdir={finished}")
    plain = (folder / "4" / "scalars.json").read_bytes()
    assert json.loads(plain)["overrides"] == {}
    command = ("eval", f"--workdir={finished}")
    for seed, name in ((3, "4-seed"), (5, "4-seed-2"), (3, "4-seed")):
        run(*command, f"--config.seed={seed}", "--config.log_every=7")
        assert capsys.readouterr().out.endswith(f"step 4; {folder / name}\n")
        assert json.loads((folder / name / "scalars.json").read_text())["overrides"] == {
            "seed": seed
        }
    assert {p.name for p in folder.iterdir()} == {"4", "4-seed", "4-seed-2"}
    run(*command, "--config.seed=9", "--output=there")
    scalars = json.loads((tmp_path / "there" / "scalars.json").read_text())
    assert scalars["overrides"] == {"seed": 9} and "val/accuracy" in scalars
    assert (folder / "4" / "scalars.json").read_bytes() == plain


def test_predict_takes_files_and_overrides(finished, tmp_path, capsys):
    for name, sign in (("a,b", 1), ("c", -1)):
        np.save(tmp_path / f"{name}.npy", sign * np.ones(8, np.float32))
    command = ("predict", f"--workdir={finished}", "--input=a,b.npy", "--input=c.npy,c.npy")
    run(*command)
    assert {p.name for p in (finished / "predictions").iterdir()} == {"a,b.txt", "c.txt"}
    assert "3 input(s)" in capsys.readouterr().out
    run(*command, "--output=there", "--config.predict.shout=true")
    quiet = (finished / "predictions" / "c.txt").read_text()
    assert (tmp_path / "there" / "c.txt").read_text() == quiet.upper()


def test_predict_with_tiles_where_the_system_has_them(finished, capsys):
    said = refused(capsys, "predict", f"--workdir={finished}", "--input=x", "--tile=64")
    assert "'toy' does not predict by tiles" in said
    config = settings.load("configs/toy.py")
    config.predict.tile = 0
    settings.write(config, settings.Path("tiles"))
    _, values, overrides = launch.parse(["predict", "--workdir=tiles", "--tile=64"])
    assert launch.configure("predict", values, overrides)[0].predict.tile == 64


MISTAKES = [
    (["trian", CONFIG], "did you mean 'train'", 2),
    (["--confg=configs/toy.py"], "did you mean '--config'", 2),
    ([CONFIG, "--tile=x"], "tile", 2),
    ([CONFIG, "--output=x"], "--output is a flag of eval, predict", 2),
    (["eval", CONFIG, "--stopped_status=1"], "--stopped_status is a flag of train", 2),
    ([CONFIG, "--stopped_status=300"], "stopped_status", 2),
    ([CONFIG, "--config.seed=-1"], "seed=-1 must be >= 0", 1),
    ([], "there are configs/toy.py", 2),
    (["--config=configs/tyo.py"], "did you mean 'configs/toy.py'", 1),
    (["--config=configs/toy.py:tinny"], "did you mean 'tiny'", 1),
    ([CONFIG, "--config.stages.ssl.stpes=3"], "did you mean 'stages.ssl.steps'", 1),
    ([CONFIG, "--config.seed", "3x"], "seed", 1),
    ([CONFIG, "--config.system=toi"], "no system 'toi'; there are", 1),
    ([CONFIG, "--device=gpo"], "<auto|cpu|gpu|tpu>", 2),
    ([CONFIG, "--config.device=gpo"], "did you mean 'gpu'", 1),
    ([CONFIG, "--device=gpu"], "uv run --extra cuda", 1),
    ([CONFIG, "--process_id=0"], "--coordinator, --num_processes", 1),
    ([CONFIG, "--config.mesh.fsdp=3"], "does not multiply", 1),
    ([CONFIG, "--config.stages.ssl.batch=0"], "batch", 1),
    ([CONFIG, "--config.log_every=0"], "log_every=0 must be >= 1", 1),
    ([CONFIG, "--config.sharding=(('[', ('fsdp',)),)"], "'[' is not a regular expression", 1),
    ([CONFIG, "--config.run=()"], "run names no stage", 1),
    ([CONFIG, "--config.run=('sll',)"], "lacks", 1),
    (["eval", "--workdir=nowhere"], "nowhere holds no run", 1),
    (["predict", "--input=x", CONFIG], "holds no run", 1),
    (["predict", CONFIG], "needs --input", 2),
]


@pytest.mark.parametrize(
    "argv, message, code", MISTAKES, ids=[" ".join(argv) or "nothing" for argv, *_ in MISTAKES]
)
def test_a_mistake_gets_one_line(argv, message, code, capsys, restored_platform):
    assert message in refused(capsys, *argv, code=code)


@pytest.fixture
def restored_platform():
    import jax

    before = jax.config.jax_platforms
    yield
    jax.config.update("jax_platforms", before)


def test_a_run_that_has_not_been_trained_yet(capsys):
    settings.write(settings.load("configs/toy.py"), settings.Path("begun"))
    said = refused(capsys, "predict", "--workdir=begun", "--input=x")
    assert "has no checkpoint of stage 'finetune'" in said
    said = refused(capsys, "predict", "--workdir=begun", "--input=x", "--stage=finetun")
    assert "did you mean 'finetune'" in said


def test_debug_shows_where_an_error_was_raised():
    with pytest.raises(FileNotFoundError):
        launch.main(["--config=configs/tyo.py", "--debug"])


def test_a_ctrl_c_before_training_is_no_traceback(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "build", interrupted)
    run(CONFIG, code=130)
    assert capsys.readouterr().err == "interrupted\n"


def test_a_sigterm_before_training_ends_well(monkeypatch, capsys):
    def terminated(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(launch, "build", terminated)
    run(CONFIG, "--stopped_status=75", code=75)
    capsys.readouterr()
    run(CONFIG)
    said = capsys.readouterr().out
    assert said.startswith("stopped (SIGTERM)") and "the same command" in said
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_answers_without_loading_jax():
    program = (
        "import sys; from jaxvision import launch; launch.main(['--help']); "
        "print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=launch.Path(launch.__file__).parents[1],
    )
    assert "--config.KEY.KEY=VALUE" in done.stdout and done.stdout.endswith("False\n")
