"""What a table must say of where its numbers come from."""

import dataclasses
from pathlib import Path

import jax

from jaxvision import settings
from jaxvision.bench import hardware
from jaxvision.checkpoint import Checkpoints
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.report.checks_run import stages_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage's training, as its latest checkpoint has it."""

    name: str
    steps: int
    minutes: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """The model's hash, the machine that measured, and the run that trained, where there is one."""

    model: str
    lambdas: tuple[int, ...]
    hardware: str
    jax: str
    seed: int | None
    stages: tuple[Stage, ...]


def facts_of(codec: Codec, workdir: Path) -> Facts:
    stages = []
    for name in stages_of(workdir):
        checkpoints = Checkpoints(Path(workdir) / name / "checkpoints")
        for step in checkpoints.steps()[-1:]:
            minutes = checkpoints.record(step).seconds / 60
            stages.append(Stage(name=name, steps=step, minutes=minutes))
    return Facts(
        model=codec.digest.hex()[:16],
        lambdas=tuple(codec.cfg.compressor.lambdas),
        hardware=hardware(jax.devices()[0]),
        jax=jax.__version__,
        seed=settings.read(workdir).get("seed") if stages_of(workdir) else None,
        stages=tuple(stages),
    )


def sentences(facts: Facts) -> list[str]:
    """The facts in words."""
    trained = "; no checkpoint says how it was trained"
    if facts.stages:
        parts = (f"{s.name} {s.steps:,} steps in {s.minutes:.1f} min" for s in facts.stages)
        trained = f", trained: {', '.join(parts)}"
        trained += "" if facts.seed is None else f"; seed {facts.seed}, one run"
    return [
        f"Model `{facts.model}`{trained}.",
        f"Measured on {facts.hardware}, JAX {facts.jax}.",
    ]
