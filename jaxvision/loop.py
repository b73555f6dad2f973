"""Runs a stage: save, evaluate, read, step, until it ends."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import grain
import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import sharding
from jaxvision.agreement import Interrupt, Interrupted, from_first, is_first
from jaxvision.checkpoint import Checkpoints
from jaxvision.data.pipeline import iterate
from jaxvision.evaluate import evaluate
from jaxvision.hooks import Hook
from jaxvision.record import Record
from jaxvision.stage import Stage
from jaxvision.start import FRESH, begin, check_own, overview, restore_model, restore_state
from jaxvision.step import Program, TrainState, build
from jaxvision.trace import Trace
from jaxvision.watch import Watch, pack
from jaxvision.writer import Silent, Writer

__all__ = ["check_own", "evaluate", "fit", "restore_model", "restore_state"]

PICTURES = 8  # of an evaluation, shown in TensorBoard


def fit(
    stage: Stage,
    workdir: Path,
    mesh: Mesh,
    *,
    rules: sharding.Rules = (),
    writer: Writer | None = None,
    hooks: Sequence[Hook] = (),
    log_every: int = 50,
    workers: int = 0,
    profile: Mapping[str, int] | None = None,
    interrupt: Interrupt | None = None,
    on_begin: Callable[[], None] = lambda: None,
) -> TrainState:
    """Trains `stage` until its steps are done, a hook ends it, or a signal stops it.

    Continues from its own checkpoint. `profile` is `{"start": s, "steps": n}` (see trace.py). A
    caller that passes `interrupt` learns from its `reason` whether the stage was stopped.
    `on_begin` is called once the state is there and the data have been opened, unless the stage
    had ended before.
    """
    if log_every < 1:
        raise ValueError(f"log_every={log_every} must be >= 1")
    begun = time.perf_counter()
    folder = Path(workdir) / stage.name
    writer = writer if writer and is_first() else Silent()
    program = build(stage)
    like = jax.eval_shape(program.init, jax.random.key(stage.seed))
    placed = sharding.infer(mesh, like, rules)
    for axis in sharding.idle_axes(mesh, placed):
        writer.say(
            f"warning: mesh axis {axis}={mesh.shape[axis]} splits no parameter, so its devices all "
            f"do the same work: give a rule for it in config.sharding, or set config.mesh.{axis}=1"
        )
    checkpoints = Checkpoints(folder / "checkpoints", best=stage.best, say=writer.say)

    with contextlib.ExitStack() as stack:
        interrupt = interrupt or stack.enter_context(Interrupt(writer.say))
        stack.enter_context(jax.set_mesh(mesh))
        state, at = begin(stage, program, checkpoints, workdir, placed, writer.say)
        saved, before = (None if at is FRESH else at), at.seconds
        writer.begin(stage.name, at.step)
        summary, table = overview(state, program.labels)
        writer.say(f"{stage.name}: {summary}")
        writer.log(f"{stage.name}: every parameter\n{table}")

        data = iter(())
        if at.step < stage.steps:
            data = training_batches(stage, at, workers)
            stack.callback(data.close)
            open_splits(stage, mesh)
            writer.say(f"{stage.name}: steps {at.step} to {stage.steps}; compiling the first")
        if at.step < stage.steps or at is FRESH:
            on_begin()
        step_fn, key = compiled(stage, program, mesh, placed)
        watch = Watch(writer, stage.steps, log_every=log_every, last_good=checkpoints.newest)
        trace = Trace(Path(workdir) / "tensorboard" / stage.name, profile, writer.say)
        stack.enter_context(trace)

        def save():
            nonlocal saved
            if saved is None or (saved.step, saved.metrics) != (at.step, at.metrics):
                watch.settle(at.step, state)
                checkpoints.save(state, at)
                saved = at

        while True:  # `at.step` steps are done: save the state, judge it, and only then go on
            at = dataclasses.replace(at, seconds=before + time.perf_counter() - begun)
            ended = at.step >= stage.steps or hooks_end(hooks, state, at, watch.metrics, log_every)
            evals = due(stage, at, ended)
            if evals or ended or (at.step > 0 and at.step % stage.save_every == 0):
                save()  # whatever happens to the evaluation
            for name in evals:
                directory = folder / "eval" / str(at.step)
                try:
                    found = evaluate(
                        stage, name, program, state, mesh,
                        directory=directory, workers=workers, say=writer.say, stop=interrupt.agreed,
                    )  # fmt: skip
                except Interrupted:
                    break
                at = dataclasses.replace(at, metrics={**at.metrics, **found})
                save()
                tell(writer, at.step, name, found, directory)
            if not ended and at.metrics and worn_out(stage, at.step, checkpoints):
                writer.say(f"{stage.name}: {stage.best} has not risen for {stage.patience} steps")
                ended = True
            stopped = interrupt.agreed()
            if stopped:
                save()
            if ended or stopped:
                break

            batch = next(data)
            trace.step(state)
            with jax.profiler.StepTraceAnnotation("train", step_num=at.step):
                placed_batch = sharding.put(batch, mesh, accumulate=stage.accumulate)
                state, logs = step_fn(state, placed_batch, key)
            rows = global_rows(batch)
            at = Record(
                step=at.step + 1,
                examples=at.examples + rows,
                batch=rows,
                seconds=at.seconds,
                metrics={},
            )
            watch.push(at.step, logs, rows)

    place = checkpoints.path(at.step)
    if stopped:
        writer.say(
            f"{stage.name}: stopped after step {at.step} ({interrupt.reason}) and saved {place}; "
            "the same command continues from there"
        )
    else:
        writer.say(f"{stage.name}: ended after step {at.step}; {place}")
    return state


def open_splits(stage: Stage, mesh: Mesh) -> None:
    """Reads a batch of every split that an eval names: what is missing is refused before training.

    The devices get it as well: they must be able to share its rows.
    """
    for split in sorted({ev.split for ev in stage.evals.values()}):
        sharding.put(stage.data(split)[0], mesh)


def compiled(stage: Stage, program: Program, mesh: Mesh, placed: Any) -> tuple[Callable, jax.Array]:
    """The step, jitted over the mesh, and the key of all its randomness."""

    def step(state, batch, key):
        state, logs = program.step(state, batch, key)
        return state, pack(logs)

    everywhere = sharding.replicated(mesh)
    key = jax.jit(lambda: jax.random.key(stage.seed), out_shardings=everywhere)()
    return jax.jit(step, donate_argnums=0, out_shardings=(placed, everywhere)), key


def training_batches(stage: Stage, at: Record, workers: int) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of the batches from global example `at.examples` on.

    A batch size that has changed since the checkpoint was written moves the start with it. What is
    wrong with the split is told at once, not with the first batch.
    """
    return _from_example(stage.data("train"), stage.name, at, workers)


def _from_example(
    dataset: grain.MapDataset, name: str, at: Record, workers: int
) -> Iterator[Mapping[str, np.ndarray]]:
    index = at.examples // max(at.batch, 1)
    stream = iterate(dataset, start=index, workers=workers)
    try:
        batch = next(stream, None)
        if batch is not None and at.batch not in (0, global_rows(batch)):
            stream.close()
            index = at.examples // global_rows(batch)
            stream = iterate(dataset, start=index, workers=workers)
            batch = next(stream, None)
        while batch is not None:
            yield batch
            batch = next(stream, None)
    finally:
        stream.close()
    raise ValueError(
        f"stage {name!r}: the training split ends after {len(dataset)} batches; let it repeat"
    )


def global_rows(batch: Mapping[str, np.ndarray]) -> int:
    """The examples that a batch holds in all processes."""
    return len(next(iter(batch.values()))) * jax.process_count()


def due(stage: Stage, at: Record, ended: bool) -> list[str]:
    """The evals to run now: those of this step, and all at the end, unless it has been done."""
    return [
        name
        for name, ev in stage.evals.items()
        if (ended or (at.step and at.step % ev.every == 0))
        and not any(metric.startswith(f"{name}/") for metric in at.metrics)
    ]


def worn_out(stage: Stage, step: int, checkpoints: Checkpoints) -> bool:
    """Whether the best value is too long ago: known from the checkpoints, so a resume agrees."""
    if stage.patience is None:
        return False
    best = from_first(checkpoints.best_step())
    return best is not None and step - best >= stage.patience


def hooks_end(
    hooks: Sequence[Hook],
    state: TrainState,
    at: Record,
    metrics: Mapping[str, float],
    log_every: int,
) -> bool:
    """Whether a hook ends the stage here. All hooks are asked; process 0 decides for all."""
    if not hooks or (jax.process_count() > 1 and at.step % log_every):
        return False
    known = {**metrics, **at.metrics, "seconds": at.seconds}
    return from_first(any([hook(at.step, state, known) for hook in hooks]))


def tell(writer: Writer, step: int, name: str, found: Mapping[str, float], directory: Path) -> None:
    """Writes what an evaluation has found, and the pictures that it has drawn."""
    shown = ", ".join(f"{k.removeprefix(name + '/')} {v:.4g}" for k, v in list(found.items())[:8])
    writer.say(f"{name} after step {step}: {shown}")
    writer.scalars(step, found)
    pictures = sorted(p for p in directory.glob("*") if p.suffix in (".png", ".jpg"))[:PICTURES]
    writer.images(step, {f"{name}/{p.stem}": cv2.imread(str(p))[..., ::-1] for p in pictures})
