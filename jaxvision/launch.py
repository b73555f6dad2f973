"""python -m jaxvision.launch [VERB] --config=configs/SYSTEM.py[:PRESET] [FLAG …]

VERB is the first argument:
  train     every stage of the config, in order (when no verb is given); the same command continues
  eval      measures a trained stage on its evaluation data
  predict   runs a trained stage on your images and videos
  export    writes a trained stage for other programs: StableHLO, or ONNX
  bench     measures speed, memory and arithmetic of training and inference

Every verb:
  --config=FILE.py[:PRESET]   what to run; without it, what --workdir was trained with
  --workdir=FOLDER            where the run lives; runs/SYSTEM-PRESET if not given
  --config.KEY.KEY=VALUE      overrides one setting, as --config.stages.detect.lr=1e-4
  --device=auto|cpu|gpu|tpu   what to run on
  --debug                     an error shows where it was raised

train:
  --profile                   records a profiler trace of five steps, for TensorBoard
  --stopped_status=N          exit status of a run that a signal has stopped, for schedulers that
                              start again only what has failed; 0 if not given
eval, predict, export, bench:
  --stage=NAME                another stage than the last
eval, predict, export, bench:
  --output=PATH               where results go; within the workdir if not given
predict:
  --input=PATH                image, folder, pattern or video; several flags, or with commas between
  --tile=N                    looks at tiles of N pixels as well, for small objects in large frames
export:
  --format=stablehlo|onnx     the file's form (onnx: uv run --extra onnx …)
  --platforms=cpu,cuda        what a StableHLO file must run on

Several processes (started by SLURM, Kubernetes or on Cloud TPU, they find one another):
  --coordinator=HOST:PORT     of process 0
  --num_processes=N  --process_id=I
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from jaxvision import settings
from jaxvision.errors import one_line, out_of_memory
from jaxvision.spelling import nearest

VERBS = ("train", "eval", "predict", "export", "bench")
ONLY_FOR = {
    "profile": ("train",),
    "stopped_status": ("train",),
    "stage": ("eval", "predict", "export", "bench"),
    "output": ("eval", "predict", "export", "bench"),
    "input": ("predict",),
    "tile": ("predict",),
    "format": ("export",),
    "platforms": ("export",),
}


class UsageError(ValueError):
    """The command line is wrong."""


class Terminated(BaseException):  # no Exception: libraries swallow those
    """SIGTERM has come where there was nothing to save."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    if {"--help", "-h", "help"} & set(argv):
        print(__doc__)
        return 0
    places: dict[str, Path] = {}
    stopped_status = 0
    try:
        verb, values, overrides = parse(argv)
        stopped_status = values.stopped_status
        with terminable() if verb == "train" else contextlib.nullcontext():
            config, workdir = configure(verb, values, overrides)
            places = writes_to(verb, values, workdir)
            ended = run(verb, values, config, workdir)
        return 0 if ended else stopped_status
    except Terminated:
        print("stopped (SIGTERM) outside training, nothing is lost: the same command goes on")
        return stopped_status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        if debug or (isinstance(error, RuntimeError) and not out_of_memory(error)):
            raise
        print(f"error: {one_line(error, places)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raises `Terminated` at SIGTERM; `agreement.Interrupt` takes over while there is a state."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(number, frame) -> None:
    del number, frame
    raise Terminated


def parse(argv: Sequence[str]) -> tuple[str, flags.FlagValues, list[str]]:
    """The verb, the flags, and the overrides of the config among `argv`."""
    verb, rest = "train", list(argv)
    if rest and not rest[0].startswith("-"):
        verb, *rest = rest
    if verb not in VERBS:
        raise UsageError(f"no verb {verb!r}{nearest(verb, VERBS)}")
    values = define_flags()
    try:
        overrides = values(["", *rest], known_only=True)[1:]
    except flags.Error as error:
        raise UsageError(str(error)) from error
    for argument in overrides:
        name = argument.lstrip("-").split("=")[0]
        if argument.startswith("-") and not name.removeprefix("no").startswith("config."):
            known = [f"--{known}" for known in values]
            raise UsageError(f"no flag --{name}{nearest(f'--{name}', known)}")
    for name, verbs in ONLY_FOR.items():
        if values[name].present and verb not in verbs:
            raise UsageError(f"--{name} is a flag of {', '.join(verbs)}, not of {verb}")
    return verb, values, overrides


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    for name in ("config", "workdir", "stage", "output", "coordinator"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    for name in ("tile", "num_processes", "process_id"):
        flags.DEFINE_integer(name, None, "", flag_values=values)
    flags.DEFINE_integer("stopped_status", 0, "", 0, 255, flag_values=values)
    for name in ("profile", "debug"):
        flags.DEFINE_boolean(name, False, "", flag_values=values)
    flags.DEFINE_multi_string("input", [], "", flag_values=values)
    flags.DEFINE_enum("device", None, ["auto", "cpu", "gpu", "tpu"], "", flag_values=values)
    flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx"], "", flag_values=values)
    flags.DEFINE_list("platforms", ["cpu", "cuda"], "", flag_values=values)
    return values


def configure(verb: str, values, overrides: Sequence[str]) -> tuple[ConfigDict, Path]:
    """The config of a command line, and the folder of its run."""
    if values.device in ("cpu", "gpu", "tpu"):  # before a config asks whether there is a GPU
        os.environ["JAX_PLATFORMS"] = {"gpu": "cuda,cpu"}.get(values.device, values.device)
    if values.config:
        config = settings.load(values.config)
    elif values.workdir:
        config = settings.read(Path(values.workdir))
    else:
        there = ", ".join(sorted(map(str, Path("configs").glob("*.py")))) or "none in configs/"
        mend = "" if verb == "train" else ", or --workdir=FOLDER of a run"
        raise UsageError(f"{verb} needs --config=FILE.py[:PRESET]{mend}; there are {there}")
    config = settings.override(config, overrides)
    if values.device:
        config.device = values.device
    if values.profile and not config.profile.steps:
        config.profile.start, config.profile.steps = 10, 5
    if values.tile is not None:
        if "tile" not in config.predict:
            raise ValueError(
                f"system {config.system!r} does not predict by tiles: leave out --tile"
            )
        config.predict.tile = values.tile
    return config, Path(values.workdir or Path("runs", f"{config.system}-{config.preset}"))


def writes_to(verb: str, values, workdir: Path) -> dict[str, Path]:
    """The flags by which a command may be told to write elsewhere, and where it would now."""
    if verb == "train":
        return {"--workdir": workdir}
    return {"--output": Path(values.output or workdir)}


def run(verb: str, values, config: ConfigDict, workdir: Path) -> bool:
    """Does what the verb says, on the devices and with the processes that there are.

    Returns whether it has come to its end: False after a signal that stopped a training.
    """
    import jax

    from jaxvision import distributed, verbs

    processes = {k: values[k].value for k in ("coordinator", "num_processes", "process_id")}
    distributed.start(config.device, **processes)
    if config.matmul_precision != "default":
        jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    output = Path(values.output) if values.output else None
    job = verbs.Job(config=config, workdir=workdir, stage=values.stage, output=output)
    match verb:
        case "train":
            return verbs.train(job, build(config))
        case "eval":
            verbs.evaluate(job, build(config))
        case "predict":
            verbs.predict(job, build(config), inputs_from(values.input))
        case "export" if values.format == "onnx":
            settings.override(config, [f"--config.{setting}" for setting in config.onnx])
            verbs.export_onnx(job, build(config))
        case "export":
            verbs.export(job, build(config), tuple(values.platforms))
        case "bench":
            verbs.bench(job, build(config))
    return True


def build(config: ConfigDict):
    """The experiment of a config, by its system's `task.build`, which may complete the config."""
    package = f"jaxvision.{config.system}"
    try:
        task = importlib.import_module(f"{package}.task")
    except ModuleNotFoundError as error:
        if error.name not in (package, f"{package}.task"):
            raise
        known = [p.parent.name for p in Path(__file__).parent.glob("*/task.py")]
        raise ValueError(f"no system {config.system!r}{nearest(config.system, known)}") from error
    try:
        with config.unlocked():
            return task.build(config)
    except KeyError as error:
        lacking = str(error.args[0]).splitlines()[0]
        raise ValueError(f"the config of {config.system!r} lacks {lacking}") from error


def inputs_from(given: Sequence[str]) -> list[Path]:
    """The paths of `--input` flags; commas separate unless they are part of a name."""
    names = [n for g in given for n in ([g] if Path(g).exists() else g.split(",")) if n]
    if not names:
        raise UsageError("predict needs --input=PATH: an image, a folder, a pattern or a video")
    return [Path(name) for name in names]


if __name__ == "__main__":
    sys.exit(main())
