"""What a run writes: the table, the line of progress."""

import io
import math
import struct

import numpy as np
from absl import logging
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxvision.writer import RunWriter, Table, progress_line


def test_a_table_grows_columns_and_forgets_what_is_made_again(tmp_path):
    path = tmp_path / "metrics.csv"
    table = Table(path)
    for step in (1, 2, 3):
        table.add({"stage": "a", "step": step, "loss": step / 3})
    table.add({"stage": "a", "step": 3, "ap": 0.5})
    table.add({"stage": "b", "step": 1, "loss": math.nan})
    with path.open("a") as file:
        file.write("b,")  # a process killed while writing
    table = Table(path)
    table.forget("a", after=2)
    table.add({"stage": "a", "step": 3, "loss": 0.25})
    assert path.read_text().splitlines() == [
        "stage,step,loss,ap",
        "a,1,0.33333333,",
        "a,2,0.66666667,",
        "b,1,nan,",
        "a,3,0.25,",
    ]


def test_warnings_are_kept_in_the_log(tmp_path):
    with RunWriter(tmp_path, stream=io.StringIO()):
        logging.warning("%s cannot be read", "a.jpg")
    logging.warning("too late")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["a.jpg cannot be read"]


def test_progress_is_one_line():
    metrics = {"train/coco/loss": 0.43211, "examples_per_s": 352.13, "steps_per_s": 22.0}
    line = progress_line("coco", 1200, 20000, metrics)
    assert line == "coco   1200/20000  loss 0.4321  352.1 examples/s  ETA 0:14:15"
    two = progress_line("gan", 2, 4, {"train/g/loss": 1.0, "train/d/loss": 2.0})
    assert two == "gan  2/4  g/loss 1  d/loss 2"


def events(folder):
    """What TensorBoard finds in a folder: records of a length, its sum, the content, its sum."""
    (file,) = folder.glob("events.*")
    content, found = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[12 + length + 4 :]
    return found


def test_tensorboard_gets_numbers_pictures_and_where_a_run_begins_again(tmp_path):
    with RunWriter(tmp_path, stream=io.StringIO()) as writer:
        writer.begin("a", 4)
        writer.scalars(6, {"train/loss": 0.5, "lr": 0.1})
        writer.images(6, {"worst": np.full((4, 6, 3), 200, np.uint8)})
    version, begun, loss, rate, picture = events(tmp_path / "tensorboard" / "a")
    assert version.file_version == "brain.Event:2" and version.wall_time > 0
    assert (begun.step, begun.session_log.status) == (5, SessionLog.START)
    assert (loss.step, loss.summary.value[0].tag) == (6, "train/loss")
    assert loss.summary.value[0].simple_value == 0.5 and rate.summary.value[0].tag == "lr"
    image = picture.summary.value[0].image
    assert (picture.step, image.height, image.width) == (6, 4, 6)


def test_a_terminal_gets_its_line_rewritten_in_place(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with RunWriter(tmp_path, stream=stream) as writer:
        writer.begin("a", 0)
        writer.progress(1, 9, {"train/x/loss": 1.0})
        writer.say("hello")
    assert stream.getvalue() == "\ra  1/9  loss 1\x1b[K\r\x1b[Khello\n"
