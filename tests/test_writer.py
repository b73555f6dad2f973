"""What a run writes: the table, the line of progress."""

import io
import math

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


def test_progress_is_one_line():
    metrics = {"train/coco/loss": 0.43211, "examples_per_s": 352.13, "steps_per_s": 22.0}
    line = progress_line("coco", 1200, 20000, metrics)
    assert line == "coco   1200/20000  loss 0.4321  352.1 examples/s  ETA 0:14:15"
    two = progress_line("gan", 2, 4, {"train/g/loss": 1.0, "train/d/loss": 2.0})
    assert two == "gan  2/4  g/loss 1  d/loss 2"


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
