"""What the verbs of the command line do."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

from jaxvision import bench as benchmark
from jaxvision import export as exporting
from jaxvision import loop, settings, sharding
from jaxvision.agreement import Interrupt, done_by_first, is_first
from jaxvision.checkpoint import Checkpoints
from jaxvision.config import mesh_from, rules_from
from jaxvision.spelling import nearest
from jaxvision.stage import Experiment, Stage
from jaxvision.step import TrainState, build
from jaxvision.writer import RunWriter, Silent

T = TypeVar("T")
LAUNCH = "python -m jaxvision.launch"
CHANGES_THE_MODEL = ("system", "model.", "data.names")
KEEPS_THE_MODEL = ("remat", "dtype", "backend")  # settings of it that say how to compute it
SCALARS = "scalars.json"  # what `eval` has found
HARMLESS = ("device", "log_every", "loader.", "profile.", "predict.", "onnx")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One command: its config, the folder of its run, the stage and the output that it names."""

    config: ConfigDict
    workdir: Path
    stage: str | None = None
    output: Path | None = None


def say(text: str) -> None:
    """Prints, in the first process."""
    if is_first():
        print(text, flush=True)


def train(job: Job, experiment: Experiment) -> bool:
    """Runs all stages, each of which continues from its own checkpoint; whether all have ended."""
    config, workdir = job.config, job.workdir
    mesh, rules = mesh_from(config), rules_from(config)
    tell_changes(job)
    if not experiment.stages:
        raise ValueError("config.run names no stage: there is nothing to train")
    for stage in experiment.stages.values():
        loop.check_own(stage, workdir)

    began = False

    def keep_config():  # not before it is known to work: a run that is refused keeps its own
        nonlocal began
        began = True
        done_by_first(lambda: str(settings.write(config, workdir)))

    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(RunWriter(workdir)) if is_first() else Silent()
        interrupt = stack.enter_context(Interrupt(writer.say))
        for stage in experiment.stages.values():
            loop.fit(
                stage,
                workdir,
                mesh,
                rules=rules,
                writer=writer,
                log_every=config.log_every,
                workers=config.loader.workers,
                profile=config.profile.to_dict(),
                interrupt=interrupt,
                on_begin=keep_config,
            )
            if interrupt.reason:
                return False
        news = began
        keep_config()
        writer.say(where(job, experiment))
    if news:
        try:
            report(job, experiment, workdir)
        except KeyboardInterrupt:
            say(f"the report is not written: {LAUNCH} eval --workdir={workdir} writes it")
            raise
    return True


def report(job: Job, experiment: Experiment, output: Path) -> dict[str, float]:
    """What the system writes about a whole run into `output`, by the first process."""
    if experiment.report is None or not is_first():
        return {}
    model, _ = loop.restore_model(list(experiment.stages.values())[-1], job.workdir)
    return dict(experiment.report(model, job.workdir, output, say))


def tell_changes(job: Job) -> None:
    """Says what has changed in the config of a run that continues; refuses another model."""
    changed = changes(job)
    if changed and any(job.workdir.glob("*/checkpoints/[0-9]*")):
        shown = ", ".join(f"{k} {old!r} -> {new!r}" for k, (old, new) in list(changed.items())[:6])
        shown += f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        if any(map(changes_the_model, changed)):
            raise ValueError(
                f"{job.workdir} holds checkpoints of another model ({shown}): use another --workdir"
            )
        say(f"warning: {job.workdir} was begun with another config: {shown}")


def changes_the_model(setting: str) -> bool:
    """Whether parameters trained under one value of a setting are no use under another."""
    own = setting.rpartition(".")[2] not in KEEPS_THE_MODEL
    return setting.startswith(CHANGES_THE_MODEL) and own


def changes(job: Job) -> dict[str, tuple[Any, Any]]:
    """The settings that matter and differ from those saved with the run: old and new values."""
    if not (job.workdir / settings.SAVED).is_file():
        return {}
    changed = settings.differences(settings.read(job.workdir), job.config)
    return {k: v for k, v in changed.items() if not k.startswith(HARMLESS)}


def where(job: Job, experiment: Experiment) -> str:
    """What a finished run has left, and what to do with it."""
    lines = [f"{job.workdir}/", "  config.json, log.txt, metrics.csv, tensorboard/"]
    for stage in experiment.stages.values():
        checkpoints = Checkpoints(job.workdir / stage.name / "checkpoints", best=stage.best)
        steps, best = checkpoints.steps(), checkpoints.best_step() if stage.best else None
        text = f"  {stage.name}/checkpoints/{steps[-1]}"
        if best is not None:
            text += (
                f"; best {best}, {stage.best} {checkpoints.record(best).metrics[stage.best]:.4g}"
            )
        if (job.workdir / stage.name / "eval").is_dir():
            text += f"; tables and pictures in {stage.name}/eval/"
        lines.append(text)
    lines.append(f"next: {LAUNCH} predict --workdir={job.workdir} --input=PATH")
    return "\n".join(lines)


def evaluate(job: Job, experiment: Experiment) -> None:
    """Measures a trained stage by all of its evals; tables and pictures land in its folder."""
    stage = chosen(job, experiment)
    if not stage.evals:
        raise ValueError(f"stage {stage.name!r} has no evaluation")
    mesh, program = mesh_from(job.config), build(stage)
    state = trained(job, stage, loop.restore_state)
    step = int(state.step)
    state = jax.device_put(state, sharding.infer(mesh, state, rules_from(job.config)))
    overrides = {k: new for k, (_, new) in changes(job).items()}
    directory = Path(done_by_first(lambda: str(eval_folder(job, stage, step, overrides))))
    found: dict[str, float] = {}
    for name in stage.evals:
        found |= loop.evaluate(
            stage, name, program, state, mesh,
            directory=directory, workers=job.config.loader.workers, say=say,
        )  # fmt: skip
    if is_first():
        directory.mkdir(parents=True, exist_ok=True)
        record = {"stage": stage.name, "step": step, "overrides": overrides, **found}
        text = json.dumps({k: v if v == v else None for k, v in record.items()}, indent=1)
        (directory / SCALARS).write_text(text + "\n", encoding="utf-8")
    width = max(map(len, found), default=0)
    say("\n".join(f"  {name:<{width}}  {value:.4f}" for name, value in found.items()))
    say(f"step {step}; {directory}")
    if job.stage in (None, list(experiment.stages)[-1]):
        report(job, experiment, directory if overrides or job.output else job.workdir)


def eval_folder(job: Job, stage: Stage, step: int, overrides: Mapping[str, Any]) -> Path:
    """Where `eval` writes: apart from what was measured with other settings, and named by them."""
    if job.output:
        return job.output
    name = "-".join([str(step), *(key.rpartition(".")[2] for key in list(overrides)[:3])])
    folder = job.workdir / stage.name / "eval" / name
    numbered = (folder.with_name(f"{name}-{i}") for i in itertools.count(2))
    return next(
        path
        for path in itertools.chain([folder], numbered)
        if not (overrides and path.exists()) or measured_with(path) == json.dumps(overrides)
    )


def measured_with(folder: Path) -> str | None:
    """The overrides of the evaluation that lies in `folder`, as JSON."""
    try:
        record = json.loads((folder / SCALARS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return json.dumps(record.get("overrides"))


def predict(job: Job, experiment: Experiment, inputs: Sequence[Path]) -> None:
    """Runs a trained stage on files."""
    if jax.process_count() > 1:
        raise ValueError("predict runs in one process: start it with --num_processes=1")
    model, _ = trained(job, chosen(job, experiment), loop.restore_model)
    output = job.output or job.workdir / "predictions"
    count = 0
    for record in experiment.predict(model, inputs, output):
        rest = ", ".join(f"{k} {v}" for k, v in record.items() if k not in ("file", "error"))
        say(record.get("error") or f"{record.get('file', '')}: {rest}")
        count += 1
    say(f"{count} input(s); {output}")


def export(job: Job, experiment: Experiment, platforms: Sequence[str]) -> None:
    """Writes a trained stage as StableHLO."""
    stage = chosen(job, experiment)
    model, step = trained(job, stage, loop.restore_model)
    folder = job.output or job.workdir / "export"
    about = dict(system=job.config.system, preset=job.config.preset, stage=stage.name, step=step)
    exporting.export(
        experiment.forward, model, experiment.example, folder,
        platforms=platforms, about=about, say=say,
    )  # fmt: skip


def export_onnx(job: Job, experiment: Experiment) -> None:
    """Writes a trained stage as ONNX, into the output folder or the file that is named."""
    model, _ = trained(job, chosen(job, experiment), loop.restore_model)
    path = job.output or job.workdir / "export"
    path = path if path.suffix == ".onnx" else path / "model.onnx"
    exporting.export_onnx(experiment.forward, model, experiment.example, path, say=say)


def bench(job: Job, experiment: Experiment) -> None:
    """Measures a stage, trained or not."""
    result = benchmark.measure(
        experiment,
        chosen(job, experiment),
        mesh_from(job.config),
        rules=rules_from(job.config),
        workers=job.config.loader.workers,
        dtype=job.config.model.get("dtype", "float32"),
    )
    result = {"system": job.config.system, "preset": job.config.preset, **result}
    path = job.output or job.workdir / "bench.json"
    say(benchmark.table(result))
    if is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    say(str(path))


def chosen(job: Job, experiment: Experiment) -> Stage:
    """The stage that the command names, or the last."""
    stages = experiment.stages
    if job.stage is not None and job.stage not in stages:
        raise ValueError(f"no stage {job.stage!r}{nearest(job.stage, stages)}")
    if not stages:
        raise ValueError("config.run names no stage")
    return stages[job.stage or list(stages)[-1]]


def trained(job: Job, stage: Stage, restore: Callable[[Stage, Path], T]) -> T:
    """What `restore` reads of the trained stage; says what is there if it has not been trained."""
    if not (job.workdir / stage.name / "checkpoints").is_dir():
        settings.read(job.workdir)  # says what is there if this is not even a run
        raise FileNotFoundError(
            f"{job.workdir} has no checkpoint of stage {stage.name!r} yet: train it first"
        )
    restored = restore(stage, job.workdir)
    step = restored.step if isinstance(restored, TrainState) else restored[1]
    say(f"{stage.name}: step {step} of {job.workdir}")
    return restored
