"""The checklist's questions to a run's folder: checkpoints, logs, tables, curves; to a README."""

import csv
from collections.abc import Sequence
from pathlib import Path

import jaxvision
from jaxvision import settings
from jaxvision.checkpoint import Checkpoints
from jaxvision.wavenet_mv.report.checks_model import Answer

DOWNLOADS = ("setup_coco.sh", "setup_davis.sh")
COMMANDS = ("python -m jaxvision.launch", "configs/wavenet_mv.py")
FIGURES = {"rd.pdf": b"%PDF", "rd.png": b"\x89PNG"}


def stages_of(workdir: Path) -> tuple[str, ...]:
    """The stages of the run; () where the folder holds none."""
    try:
        return tuple(settings.read(workdir).run)
    except (FileNotFoundError, ValueError, AttributeError):
        return ()


def saved(workdir: Path) -> Answer:
    """5: every stage has left checkpoints and a TensorBoard log."""
    stages = stages_of(workdir)
    if not stages:
        return Answer(False, f"no run was found: {settings.SAVED} is missing or damaged")
    parts, whole = [], True
    for stage in stages:
        steps = Checkpoints(workdir / stage / "checkpoints").steps()
        events = (workdir / "tensorboard" / stage).glob("events.out.tfevents.*")
        logged = sum(path.stat().st_size for path in events)
        whole &= bool(steps) and logged > 0
        last = f"checkpoint {steps[-1]}" if steps else "no checkpoint"
        parts.append(
            f"{stage}: {last}, {f'{logged} bytes' if logged else 'nothing'} for TensorBoard"
        )
    return Answer(whole, "; ".join(parts))


def reported(workdir: Path) -> Answer:
    """6: tables of rates and tasks, and curves under `fig/`."""
    parts, whole = [], True
    for name in ("codec.csv", "tasks.csv"):
        rows = _rows(workdir / name)
        whole &= rows > 0
        parts.append(f"{name}: {rows} rows" if rows else f"{name}: absent or empty")
    for name, magic in FIGURES.items():
        path = workdir / "fig" / name
        right = path.is_file() and path.read_bytes().startswith(magic)
        whole &= right
        parts.append(
            f"fig/{name}: " + (f"{path.stat().st_size} bytes" if right else "absent or damaged")
        )
    return Answer(whole, "; ".join(parts))


def documented(readme: Path | None) -> Answer:
    """7: the README says how to download the data and what to run."""
    path = source_readme() if readme is None else Path(readme)
    if not path.is_file():
        return Answer(False, f"there is no {path.name} where the package was installed from")
    text = path.read_text(encoding="utf-8")
    missing = [word for word in (*DOWNLOADS, *COMMANDS) if word not in text]
    if missing:
        return Answer(False, f"{path.name} does not say {_listed(missing)}")
    return Answer(True, f"{path.name} says {_listed((*DOWNLOADS, *COMMANDS))}")


def source_readme() -> Path:
    """Where the README lies in a source tree; an installed package has none."""
    return Path(jaxvision.__file__).resolve().parents[1] / "README.md"


def _rows(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        return max(sum(1 for row in csv.reader(file) if row) - 1, 0)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
