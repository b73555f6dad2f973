"""What goes wrong with disks, folders and memory is told in one line, with the mend."""

import errno
import io
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging
from toy_task import toy_system  # noqa: F401 - a fixture

from jaxvision import launch
from jaxvision.errors import one_line
from jaxvision.writer import RunWriter

# What tensorstore says of a full tmpfs.
TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing "params/a/0" in OCDBT database at local file "/run/": '
    "Failed to write 3692248 bytes to file 14: No space left on device [os_error_code='28']"
)
PLACES = {"--workdir": Path("runs/toy")}


def train(capsys, *argv):
    """The exit status and what is on stderr of a short training."""
    code = launch.main(["--config=configs/toy.py", "--config.run=('ssl',)", *argv])
    return code, capsys.readouterr().err


def test_a_full_disk_is_not_called_device_memory(toy_system, capsys, caplog, monkeypatch):
    def save(*args, **options):
        logging.error("_SignalingThread.run() raised an exception: Traceback")  # so does orbax
        raise ValueError(TENSORSTORE)

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    code, told = train(capsys, "--workdir=run")
    assert code == 1 and told == (
        "error: cannot write checkpoint run/ssl/checkpoints/4: No space left on device; make room "
        "or give another --workdir, then start again: the checkpoints there stay readable (latest: "
        "none yet)\n"
    )
    assert "Traceback" not in caplog.text


def test_device_memory_is_still_called_so(toy_system, capsys, monkeypatch):
    def build(config):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")

    monkeypatch.setattr(launch, "build", build)
    code, told = train(capsys)
    assert code == 1 and told.startswith("error: out of device memory: use a smaller batch")


def test_a_disk_that_is_full_before_the_first_checkpoint(toy_system, capsys):
    """Nor does closing the log, which fails as well, hide it."""
    (toy_system / "run").mkdir()
    (toy_system / "run" / "log.txt").symlink_to("/dev/full")
    code, told = train(capsys, "--workdir=run")
    assert code == 1
    assert told == "error: run: No space left on device; make room or give another --workdir\n"


def test_a_workdir_that_cannot_be_made(toy_system, capsys):
    (toy_system / "file").write_text("")
    code, told = train(capsys, "--workdir=file/x")
    assert code == 1 and told == "error: file/x: Not a directory; give another --workdir\n"


OTHER = "or give another --workdir"


@pytest.mark.parametrize(
    "number, file, expected",
    [
        (errno.ENOSPC, None, f"runs/toy: No space left on device; make room {OTHER}"),
        (errno.ENOSPC, "/x/y", "/x/y: No space left on device; make room"),
        (errno.EACCES, "runs", f"runs: Permission denied; change its permissions {OTHER}"),
        (errno.EACCES, "a.jpg", "a.jpg: Permission denied; change its permissions"),
        (errno.ENOENT, "a.jpg", "a.jpg: No such file or directory"),
        (errno.EPIPE, None, "Broken pipe"),
    ],
)
def test_an_error_of_the_system_names_the_thing_and_the_mend(number, file, expected):
    assert one_line(OSError(number, None, file), PLACES) == expected


@pytest.mark.parametrize("verb", ["eval", "predict", "export", "bench"])
def test_what_reads_a_run_may_write_elsewhere(verb):
    _, values, _ = launch.parse([verb, "--workdir=runs/toy"])
    places = launch.writes_to(verb, values, Path("runs/toy"))
    told = one_line(OSError(errno.EACCES, "No permission", "runs/toy/out"), places)
    assert told.endswith("change its permissions or give another --output")


def test_the_place_is_the_output_if_one_is_named():
    _, values, _ = launch.parse(["predict", "--workdir=runs/toy", "--output=there"])
    places = launch.writes_to("predict", values, Path("runs/toy"))
    told = one_line(OSError(errno.ENOSPC, "No space"), places)
    assert told == "there: No space; make room or give another --output"


def test_pictures_that_find_no_room_end_the_run_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tensorboardX.record_writer.open_file", lambda path: open("/dev/full", "wb")
    )
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with (
        pytest.raises(OSError, match="No space left"),
        RunWriter(tmp_path, stream=io.StringIO()) as w,
    ):
        w.begin("a", 0)
        w.images(1, {f"{i}": picture for i in range(20)})
