"""What a run tells: a line in the terminal, log.txt, metrics.csv, TensorBoard."""

import contextlib
import csv
import datetime
import io
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

import absl.logging
import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

_KEYS = ("stage", "step")
_REDRAW = 0.2  # seconds


class Writer(Protocol):
    """What `fit` needs of a writer."""

    def begin(self, stage: str, step: int) -> None:
        """A stage begins, or goes on from `step`: what was written of later steps is void."""

    def say(self, text: str) -> None:
        """Something that a person should read now."""

    def log(self, text: str) -> None:
        """Something long, for the log only."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """A step is done."""

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures, uint8 `[h w 3]`."""


class Silent:
    """A writer that writes nothing."""

    def begin(self, stage, step): ...
    def say(self, text): ...
    def log(self, text): ...
    def progress(self, step, steps, metrics): ...
    def scalars(self, step, metrics): ...
    def images(self, step, images): ...


class RunWriter:
    """Writes into a run's folder and to the terminal; for one process of the run.

    In a terminal the progress line is rewritten in place, elsewhere every `scalars` prints one.
    What is warned of through absl meanwhile (images that cannot be read) is in log.txt as well.
    """

    def __init__(self, workdir: Path, *, stream: TextIO | None = None):
        self._workdir = Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._log = (self._workdir / "log.txt").open("a", encoding="utf-8")
        self._warnings = Warnings(self.log)
        absl.logging.get_absl_logger().addHandler(self._warnings)
        self._table = Table(self._workdir / "metrics.csv")
        self._events: Events | None = None
        self._stage, self._line, self._drawn = "", "", 0.0

    def begin(self, stage: str, step: int) -> None:
        self._stage, self._line = stage, ""
        self._table.forget(stage, after=step)
        if self._events:
            self._events.close()
        self._events = Events(self._workdir / "tensorboard" / stage, after=step)

    def say(self, text: str) -> None:
        self._clear_line()
        print(text, file=self._stream, flush=True)
        self.log(text)

    def log(self, text: str) -> None:
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        self._log.write(f"{now} {text}\n")
        self._log.flush()

    def progress(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        self._line = progress_line(self._stage, step, steps, metrics)
        if self._terminal and now - self._drawn > _REDRAW:
            self._stream.write(f"\r{self._line}\x1b[K")
            self._stream.flush()
            self._drawn = now

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        self._table.add({"stage": self._stage, "step": step, **metrics})
        for name, value in metrics.items():
            self._events.add(step, summary.scalar(name, value))
        self._events.flush()
        if self._line:
            if not self._terminal:
                print(self._line, file=self._stream, flush=True)
            self.log(self._line)
            self._line = ""

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        for name, image in images.items():
            self._events.add(step, summary.image(name, image, dataformats="HWC"))
        self._events.flush()

    def close(self) -> None:
        absl.logging.get_absl_logger().removeHandler(self._warnings)
        self._clear_line()
        self._log.close()
        if self._events:
            self._events.close()

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self.close()  # on a full disk it fails as well, and must not hide the error

    def _clear_line(self) -> None:
        if self._terminal and self._drawn:
            self._stream.write("\r\x1b[K")
            self._drawn = 0.0


class Warnings(logging.Handler):
    """Hands warnings on as text."""

    def __init__(self, tell: Callable[[str], None]):
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


class Events:
    """TensorBoard's file of a stage; what was written of steps later than `after` is void.

    Written at once: the thread of tensorboardX's own writer dies on a full disk, and whoever writes
    next waits for it for ever.
    """

    def __init__(self, folder: Path, *, after: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        if after:
            begun = SessionLog(status=SessionLog.START)
            self._file.write_event(Event(step=after + 1, wall_time=time.time(), session_log=begun))

    def add(self, step: int, content: Any) -> None:
        self._file.write_event(Event(step=step, wall_time=time.time(), summary=content))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Table:
    """A CSV file whose columns may grow; its rows are known by stage and step."""

    def __init__(self, path: Path):
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = list(_KEYS)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                # A row that a killed process has not finished has no number, or None, for a step.
                self._rows = [row for row in reader if (row.get("step") or "").isdecimal()]
                self._columns = list(reader.fieldnames or _KEYS)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row. One of the same stage and step is completed instead."""
        last = self._rows[-1] if self._rows else {}
        same = all(str(last.get(key)) == str(row[key]) for key in _KEYS)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if same:
            last.update(row)
        else:
            self._rows.append(dict(row))
        if same or new or not self._path.exists():
            self._rewrite()
        else:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                file.write(self._text([row]))

    def forget(self, stage: str, *, after: int) -> None:
        """Removes the rows of `stage` later than step `after`: they are about to be made again."""
        kept = [r for r in self._rows if r["stage"] != stage or int(r["step"]) <= after]
        if len(kept) < len(self._rows):
            self._rows = kept
            self._rewrite()

    def _rewrite(self) -> None:
        new = self._path.with_name(f".{self._path.name}")
        header = dict(zip(self._columns, self._columns, strict=True))
        new.write_text(self._text([header, *self._rows]), encoding="utf-8", newline="")
        new.replace(self._path)

    def _text(self, rows) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore")
        writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
        return text.getvalue()


def progress_line(stage: str, step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """`coco  1200/20000  loss 0.4321  352.1 examples/s  ETA 0:12:31`."""
    losses = {k.split("/", 1)[1]: v for k, v in metrics.items() if k.endswith("/loss")}
    one = len(losses) == 1
    parts = [stage, f"{step:>{len(str(steps))}}/{steps}"]
    parts += [f"{'loss' if one else name} {value:.4g}" for name, value in losses.items()]
    if "examples_per_s" in metrics:
        left = datetime.timedelta(seconds=round((steps - step) / metrics["steps_per_s"]))
        parts += [f"{metrics['examples_per_s']:.1f} examples/s", f"ETA {left}"]
    return "  ".join(parts)


def _short(value: Any) -> Any:
    return f"{value:.8g}" if isinstance(value, float) else value
