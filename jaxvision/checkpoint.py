"""Checkpoints that are whole or not there, and that say so when something has damaged them.

`<directory>/<step>/` holds `state/` (arrays, by orbax) and `record.json` (see record.py). It is
written under another name and renamed once all of it is on the disk.
"""

import contextlib
import dataclasses
import itertools
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxvision.agreement import done_by_first, from_first, is_first
from jaxvision.errors import reason
from jaxvision.names import describe_difference, flatten, types
from jaxvision.record import Record, checksums, damage, read_record, sync, write_record

# Orbax logs a traceback for each thread that fails, at any time after it has raised the error.
logging.getLogger("absl").addFilter(lambda entry: "_SignalingThread" not in entry.getMessage())


class Checkpoints:
    """The checkpoints of one stage: the latest `keep`, and the best by the metric named `best`."""

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 3,
        best: str | None = None,
        say: Callable[[str], None] = print,
    ):
        self._directory, self._keep, self._best, self._say = Path(directory), keep, best, say
        self._damaged: set[int] = set()
        if "://" in str(directory) or str(directory).startswith(("gs:", "s3:")):
            raise ValueError(f"{directory} is not a folder: mount the bucket and name its folder")

    def path(self, step: int) -> Path:
        return self._directory / str(step)

    def steps(self) -> list[int]:
        """The steps that have a readable record and are not known to be damaged, ascending."""
        return [
            step
            for step in self._folders()
            if step not in self._damaged and read_record(self.path(step))
        ]

    def newest(self) -> str:
        """Where the latest checkpoint is, in words."""
        steps = self.steps()
        return str(self.path(steps[-1])) if steps else "none yet"

    def record(self, step: int) -> Record:
        """Where the run stood at `step`."""
        content = read_record(self.path(step))
        return Record(**{field.name: content[field.name] for field in dataclasses.fields(Record)})

    def best_step(self) -> int | None:
        """The first of the steps with the highest value of the metric; None if none has one."""
        scores = {step: self._score(self.record(step).metrics) for step in self.steps()}
        scores = {step: score for step, score in scores.items() if score is not None}
        return max(scores, key=lambda step: (scores[step], -step)) if scores else None

    def whole(self, steps: Sequence[int]) -> Iterator[int]:
        """The undamaged ones of `steps`, last first; says what is wrong with the others."""
        for step in reversed(steps):
            reason = damage(self.path(step))
            if reason is None:
                yield step
            else:
                self._damaged.add(step)
                self._say(f"checkpoint {self.path(step)} is damaged, trying another: {reason}")

    def latest(self) -> int | None:
        """The latest undamaged step, the same in every process."""
        step = next(self.whole(self._folders()), None) if is_first() else None
        if step is None and self._damaged:
            self._say(f"no checkpoint in {self._directory} is whole: starting from the beginning")
        return from_first(step)

    def check(self, step: int, like: Any) -> None:
        """Refuses a step whose state is not of the names and types of `like`."""
        there, here = read_record(self.path(step))["arrays"], types(flatten(like))
        if there != here:
            raise ValueError(
                f"checkpoint {self.path(step)} is of another model or optimizer: "
                f"{describe_difference(there, here)}; use another workdir or its own config"
            )

    def restore(self, step: int, like: Any) -> Any:
        """The state at `step`, as `like` (shapes with shardings) says."""
        self.check(step, like)
        names = flatten(like)
        how = ocp.checkpoint_utils.construct_restore_args(names)
        arrays = _read(self.path(step), ocp.args.PyTreeRestore(item=names, restore_args=how))
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in names])

    def load(self, step: int, items: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """Host copies of some items of the state: `{item: {path: array}}`."""
        out: dict[str, dict[str, np.ndarray]] = {item: {} for item in items}
        there = read_record(self.path(step))["arrays"]
        wanted = {
            name: ocp.RestoreArgs(restore_type=np.ndarray)
            for name in there
            if name.split("/")[0] in items
        }
        if wanted:
            how = ocp.args.PyTreeRestore(
                item=dict.fromkeys(wanted, 0), restore_args=wanted, partial_restore=True
            )
            for name, array in _read(self.path(step), how).items():
                item, _, path = name.partition("/")
                out[item][path] = array
        return out

    def save(self, state: Any, record: Record) -> None:
        """Writes a checkpoint and removes those that are neither recent nor the best.

        A step that is already there only gets its metrics: a run has one state at a step.
        """
        path = self.path(record.step)
        self._score(record.metrics)  # refuses those without the metric that is to choose the best
        try:
            if done_by_first(lambda: path.exists() and damage(path) is None):
                done_by_first(lambda: self._complete(path, record))
            else:
                self._write(path, flatten(state), record)
        except (OSError, ValueError, RuntimeError) as error:  # tensorstore raises all of them
            with contextlib.suppress(OSError):
                self._clear()
            raise OSError(
                f"cannot write checkpoint {path}: {reason(error)} or give another --workdir, then "
                f"start again: the checkpoints there stay readable (latest: {self.newest()})"
            ) from error

    def _complete(self, path: Path, record: Record) -> None:
        """Adds the metrics of a step that has been saved before it was evaluated."""
        write_record(path, read_record(path) | {"metrics": record.metrics, "best": self._best})
        self._prune()

    def _write(self, path: Path, arrays: Mapping[str, jax.Array], record: Record) -> None:
        writing = path.with_name(f".writing-{path.name}")

        def begin():
            self._clear()
            writing.mkdir(parents=True)

        def end():
            about = {"best": self._best, "arrays": types(arrays), "files": checksums(writing)}
            write_record(writing, dataclasses.asdict(record) | about)
            if path.exists():
                path.rename(_unused(path.with_name(f"{path.name}.damaged")))
            writing.rename(path)
            sync(self._directory)
            self._damaged.discard(record.step)
            self._prune()

        done_by_first(begin)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
            writer.save((writing / "state").resolve(), args=ocp.args.PyTreeSave(arrays))
        done_by_first(end)

    def _folders(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(int(p.name) for p in self._directory.iterdir() if p.name.isdecimal())

    def _score(self, metrics: Mapping[str, float]) -> float | None:
        eval_name = (self._best or "").split("/")[0]
        if not any(name.split("/")[0] == eval_name for name in metrics):
            return None
        if self._best not in metrics:
            raise ValueError(
                f"the best checkpoint is chosen by {self._best!r}, which the evaluation lacks; "
                f"it has {sorted(metrics)}"
            )
        return metrics[self._best] if math.isfinite(metrics[self._best]) else None

    def _prune(self) -> None:
        steps = self.steps()
        for step in set(steps[: -self._keep]) - {self.best_step()}:
            leaving = self._directory / f".deleting-{step}"
            self.path(step).rename(leaving)
            shutil.rmtree(leaving)

    def _clear(self) -> None:
        """Removes what a killed process had begun to write or to delete."""
        for pattern in (".writing-*", ".deleting-*"):
            for path in self._directory.glob(pattern):
                shutil.rmtree(path)


def find(directory: Path, prefer: str = "best") -> tuple[Checkpoints, int]:
    """The undamaged checkpoint of a stage, of a run with one stage, or of a `checkpoints` folder.

    `prefer` is "best" (the best if its stage has named a metric, else the latest) or "latest".
    """
    if prefer not in ("best", "latest"):
        raise ValueError(f"prefer={prefer!r} is neither 'best' nor 'latest'")
    folder = _folder(Path(directory))
    steps = Checkpoints(folder).steps()
    checkpoints = Checkpoints(
        folder, best=read_record(folder / str(steps[-1]))["best"] if steps else None
    )
    best = checkpoints.best_step() if prefer == "best" else None
    step = next(checkpoints.whole(steps if best is None else [*steps, best]), None)
    if step is None:
        raise FileNotFoundError(f"no readable checkpoint under {directory}: train that stage first")
    return checkpoints, step


def load(
    directory: Path,
    items: Sequence[str] = ("params", "model_state", "ema"),
    *,
    prefer: str = "best",
) -> dict[str, dict[str, np.ndarray]]:
    """Host copies of the items of a finished stage: `{item: {path: array}}`; see `find`."""
    checkpoints, step = find(directory, prefer)
    return checkpoints.load(step, items)


def _folder(directory: Path) -> Path:
    """Where the steps are: given the folder itself, a stage's, or that of a run with one stage."""
    if (directory / "checkpoints").is_dir():
        return directory / "checkpoints"
    stages = sorted(directory.glob("*/checkpoints"))
    if len(stages) > 1:
        names = ", ".join(str(path.parent) for path in stages)
        raise ValueError(f"{directory} has several stages, name one of {names}")
    return stages[0] if stages else directory


def _read(path: Path, how: ocp.args.CheckpointArgs) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore((path / "state").resolve(), args=how)


def _unused(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not p.exists())
