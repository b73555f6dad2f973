"""The state that a stage begins with: its own checkpoint, else grafts, else fresh parameters."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision import checkpoint
from jaxvision.checkpoint import Checkpoints
from jaxvision.graft import graft
from jaxvision.names import describe_difference, flatten, types
from jaxvision.record import Record
from jaxvision.stage import FROZEN, Stage
from jaxvision.step import Program, TrainState, build

FRESH = Record(step=0, examples=0, batch=0, seconds=0.0, metrics={})


def begin(
    stage: Stage,
    program: Program,
    checkpoints: Checkpoints,
    workdir: Path,
    placed: Any,
    say: Callable[[str], None],
) -> tuple[TrainState, Record]:
    """The state of `stage`, placed by `placed`, and where its run stands."""
    key = jax.random.key(stage.seed)
    latest = checkpoints.latest()
    if latest is not None:
        like = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            jax.eval_shape(program.init, key),
            placed,
        )
        state = checkpoints.restore(latest, like)
        say(f"{stage.name}: continues from {checkpoints.path(latest)}")
        return state, checkpoints.record(latest)
    state = jax.jit(program.init, out_shardings=placed)(key)
    if stage.init_from:
        state = _grafted(stage, program, state, workdir, placed, say)
    return state, FRESH


def check_own(stage: Stage, workdir: Path) -> None:
    """Refuses a stage that has checkpoints in `workdir`, but of another model or optimizer."""
    checkpoints = Checkpoints(Path(workdir) / stage.name / "checkpoints")
    if steps := checkpoints.steps():
        like = jax.eval_shape(build(stage).init, jax.random.key(stage.seed))
        checkpoints.check(steps[-1], like)


def restore_model(stage: Stage, workdir: Path, *, prefer: str = "best") -> tuple[nnx.Module, int]:
    """The model of a trained stage in inference mode, and the step it is of.

    From the best checkpoint if the stage names a metric, else the latest; with the averaged
    parameters if there are any.
    """
    state = restore_state(stage, workdir, prefer=prefer)
    return build(stage).apply(state), int(state.step)


def restore_state(stage: Stage, workdir: Path, *, prefer: str = "best") -> TrainState:
    """The state of a trained stage, without its optimizer's: what `evaluate` takes."""
    like = jax.eval_shape(build(stage).init, jax.random.key(stage.seed))
    found, step = checkpoint.find(Path(workdir) / stage.name, prefer)
    items = ("params", "model_state", "ema")
    there = found.load(step, items)
    parts = {}
    for item in items:
        wanted = getattr(like, item)
        if types(flatten(wanted)) != types(there[item]):
            difference = describe_difference(types(there[item]), types(flatten(wanted)))
            raise ValueError(
                f"checkpoint {found.path(step)} is of another model: {item}: {difference}; "
                "use the configuration that it was trained with"
            )
        leaves = [jnp.asarray(there[item][name]) for name in flatten(wanted)]
        parts[item] = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    return TrainState(step=jnp.int32(step), opt_state=None, **parts)


def overview(state: TrainState, labels: Any) -> tuple[str, str]:
    """Two tables of the parameters: by owner, and one row for each."""
    owners = flatten(labels)
    rows = [
        (name, str(list(x.shape)), str(x.dtype), f"{x.size:,}", owners[name])
        for name, x in flatten(state.params).items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    full = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    sizes = {name: 0 for name in sorted(set(owners.values()), key=lambda n: (n == FROZEN, n))}
    for name, x in flatten(state.params).items():
        sizes[owners[name]] += x.size
    parts = ", ".join(f"{owner} {size:,}" for owner, size in sizes.items())
    return f"{sum(sizes.values()):,} parameters in {len(rows)} arrays: {parts}", full


def _grafted(stage, program, state, workdir, placed, say) -> TrainState:
    """The state with the parameters of earlier stages, and an optimizer that begins from them."""
    arrays = flatten(state.params) | flatten(state.model_state)
    missing = set(flatten(state.params))
    for g in stage.init_from:
        source = Path(g.source) if "/" in g.source else Path(workdir) / g.source
        donor = checkpoint.load(source)
        donor = donor["params"] | donor["ema"] | donor["model_state"]
        arrays, report = graft(arrays, donor, g.rename, title=f"{stage.name}: graft from {source}")
        say(str(report))
        missing -= set(report.loaded)
    if stage.steps == 0 and missing:
        size = sum(math.prod(arrays[name].shape) for name in missing)
        say(
            f"{stage.name}: {len(missing)} arrays ({size:,} numbers) come from no graft and stay "
            f"random, for the stage has no steps: {', '.join(sorted(missing)[:4])}"
        )
    params, model_state = (
        jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in flatten(tree)])
        for tree in (state.params, state.model_state)
    )
    # Copies, so that no two arrays of the state are one buffer: the step donates them all.
    restart = lambda *trees: jax.tree.map(jnp.copy, program.restart(*trees))  # noqa: E731
    return jax.jit(restart, out_shardings=placed)(params, model_state)
