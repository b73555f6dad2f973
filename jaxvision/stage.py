"""What to train: the records that every system is spelled with.

A stage is a model, its data, its objectives and its budget. Training in several stages is a
sequence of them: each starts from grafts of the parameters that earlier stages left behind.
Freezing, adversarial pairs, auxiliary optimizers, ensembles and evaluation-only pipelines need
nothing else.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import clu.metrics
import grain
import jax
import optax
from flax import nnx

Batch = Mapping[str, jax.Array]
Logs = Mapping[str, jax.Array]
LossFn = Callable[[nnx.Module, Batch, nnx.Rngs], tuple[jax.Array, Logs]]
PredictFn = Callable[[nnx.Module, Batch, nnx.Rngs], Mapping[str, jax.Array]]
# (model, folder of the run, folder to write to, what takes lines of progress) -> scalars
ReportFn = Callable[[nnx.Module, Path, Path, Callable[[str], None]], Mapping[str, float]]

FROZEN = "frozen"


class HostMetric(Protocol):
    """A metric computed with NumPy on the host (COCO AP, bits of a real file, BD-rate)."""

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        """Takes a global batch and its predictions; rows with `batch["mask"]` False are padding."""

    def result(self) -> Mapping[str, float]:
        """The scalars over everything added."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss, and the optimizer for the parameters whose path matches the regex `params`."""

    loss: LossFn
    optimizer: optax.GradientTransformation
    params: str = ".*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graft:
    """Copies parameters by name from an earlier stage, or from a checkpoint directory.

    `source` is a stage's name or a path (anything with a slash). `rename` holds (regex,
    replacement) pairs applied to the source's paths in order.
    """

    source: str
    rename: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        for pattern, replacement in self.rename:
            check_regex(f"graft of {self.source!r}: rename", pattern, replacement)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    """Metrics over one split of the stage's data, computed every `every` steps and at the end.

    `host` makes fresh host metrics for each evaluation: `host(step_directory) -> [HostMetric, …]`,
    where `step_directory` is a folder of the workdir that pictures and tables may be written to.
    """

    split: str
    predict: PredictFn
    metrics: type[clu.metrics.Collection] | None = None
    host: Callable[[Path], Sequence[HostMetric]] = lambda directory: ()
    every: int = 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training problem.

    `data(split)` is a map-style dataset of *batches*: item i is this process's share of global
    batch i, so that an index alone says where a run stands. The training split repeats for ever, an
    evaluation split ends and pads its last batch (`mask` False). A batch holds `accumulate`
    micro-batches. `best` names the scalar (`"val/ap50"`) whose best checkpoint is kept besides the
    latest; the stage ends early when it has not risen for `patience` steps.
    """

    name: str
    model: Callable[[nnx.Rngs], nnx.Module]
    data: Callable[[str], grain.MapDataset]
    objectives: Mapping[str, Objective]
    steps: int
    init_from: tuple[Graft, ...] = ()
    evals: Mapping[str, Eval] = dataclasses.field(default_factory=dict)
    accumulate: int = 1
    ema: float | None = None
    save_every: int = 1_000
    best: str | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self):
        if FROZEN in self.objectives:
            raise ValueError(f"stage {self.name!r}: {FROZEN!r} is not a name for an objective")
        if self.steps < 0 or self.accumulate < 1 or self.save_every < 1:
            raise ValueError(
                f"stage {self.name!r}: steps={self.steps} must be >= 0, "
                f"accumulate={self.accumulate} and save_every={self.save_every} >= 1"
            )
        for name, objective in self.objectives.items():
            check_regex(f"stage {self.name!r}: params of objective {name!r}", objective.params)
        for name, ev in self.evals.items():
            if ev.every < 1:
                raise ValueError(
                    f"stage {self.name!r}: eval {name!r} is due every {ev.every} steps: "
                    f"eval_every={ev.every} must be >= 1"
                )
        if self.steps and not self.objectives:
            raise ValueError(f"stage {self.name!r} has {self.steps} steps and no objective")
        if self.seed < 0:
            raise ValueError(f"stage {self.name!r}: seed={self.seed} must be >= 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"stage {self.name!r}: ema={self.ema} is not a decay between 0 and 1")
        if self.patience is not None and (self.patience < 1 or not self.best):
            raise ValueError(
                f"stage {self.name!r}: patience={self.patience} must be >= 1, and "
                f"best={self.best!r} name the metric to wait for"
            )
        if self.best and self.best.split("/")[0] not in self.evals:
            raise ValueError(
                f"stage {self.name!r}: best={self.best!r} names none of its evals "
                f"{sorted(self.evals)}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that the program knows of a system: its stages in order, and how to use the result.

    `predict(model, inputs, output)` reads files, writes results under `output` and yields one
    record per input. `forward(model, batch)` is the pure function that `export` and `bench`
    compile; `example` is one batch for it, with leading dimension 1. `report` measures the last
    stage's model as it will be used, after `train` and `eval`: see `ReportFn`.
    """

    stages: Mapping[str, Stage]
    predict: Callable[[nnx.Module, Sequence[Path], Path], Iterable[Mapping[str, Any]]]
    forward: Callable[[nnx.Module, Batch], Mapping[str, jax.Array]]
    example: Batch
    report: (
        Callable[[nnx.Module, Path, Path, Callable[[str], None]], Mapping[str, float]] | None
    ) = None


def check_regex(what: str, pattern: str, replacement: str = "") -> None:
    """Raises `ValueError` for a pattern, or a replacement of what it matches, that `re` refuses."""
    try:
        re.sub(pattern, replacement, "")
    except (re.error, IndexError) as error:
        given = repr(pattern) + (f" -> {replacement!r}" if replacement else "")
        raise ValueError(f"{what} {given} is not a regular expression: {error}") from error


def path_name(path: tuple[Any, ...]) -> str:
    """`(DictKey('blocks'), DictKey(0), DictKey('kernel'))` -> 'blocks/0/kernel'."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def label_params(params: Any, objectives: Mapping[str, Objective]) -> Any:
    """Labels every leaf with the first objective that claims it, else 'frozen'.

    Raises `ValueError` for an objective that claims nothing: its regex has a typo.
    """

    def label(path, _):
        name = path_name(path)
        return next((o for o, obj in objectives.items() if re.search(obj.params, name)), FROZEN)

    labels = jax.tree_util.tree_map_with_path(label, params)
    idle = set(objectives) - set(jax.tree.leaves(labels))
    if idle:
        names = [path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(
            f"objectives {sorted(idle)} claim no parameter; there are {names[:4]} … ({len(names)})"
        )
    return labels
