"""Compiles the shim with libaom's static library, once, into the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from jaxvision.written import whole_file

ARCHIVE = "JAXVISION_LIBAOM_A"  # a variable that names another static library
SOURCES = tuple(Path(__file__).with_name(name) for name in ("steer.c", "state.h"))
WRAPPED = (
    "av1_rd_pick_partition",
    "av1_prune_partitions_by_max_min_bsize",
    "av1_restore_context",
    "av1_prune_ab_partitions",
    "av1_ml_prune_4_partition",
    "av1_rd_pick_intra_mode_sb",
)
FLAGS = ("-O2", "-fPIC", "-shared", "-Wl,-z,defs")
INSTALL = "apt-get install gcc libaom-dev"
LONGEST = 600  # seconds of a compilation; it takes one


class SteeringError(ValueError):
    """The encoder that can be steered cannot be had, or is not as it was known."""


def build(cache_dir: str | Path | None = None) -> Path:
    """The shared library, compiled if it is not there yet.

    Its name holds a hash of the sources, the static library and the compiler, so that another
    version of any makes another file.

    Args:
      cache_dir: the folder; `$XDG_CACHE_HOME/jaxvision/steering` (`~/.cache/…`) if not given.

    Raises:
      SteeringError: without Linux, gcc or libaom.a, with the mend; if they do not go together.
    """
    if sys.platform != "linux":
        raise SteeringError(f"steering needs Linux and GNU ld; this is {sys.platform}")
    compiler = shutil.which("gcc")
    if compiler is None:
        raise SteeringError(f"steering needs gcc, which is not there: {INSTALL}")
    archive = _archive(compiler)
    digest = hashlib.sha256(_said(compiler, "--version").encode())
    digest.update(" ".join((*FLAGS, *WRAPPED)).encode())
    for part in (*SOURCES, archive):
        digest.update(part.read_bytes())
    folder = Path(cache_dir) if cache_dir is not None else default_cache()
    path = folder / f"libaom_steered_{digest.hexdigest()[:20]}.so"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            _compile(compiler, archive, part)
    return path


def default_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "jaxvision" / "steering"


def _archive(compiler: str) -> Path:
    named = os.environ.get(ARCHIVE)
    path = Path(named or _said(compiler, "-print-file-name=libaom.a").strip())
    if named and not path.is_file():
        raise SteeringError(f"{ARCHIVE}={named} is no file: name a libaom.a, or unset it")
    if not path.is_file():  # gcc repeats a name that it does not find
        raise SteeringError(
            f"steering needs libaom.a, which gcc does not find: {INSTALL}, or {ARCHIVE}=FILE"
        )
    return path


def _compile(compiler: str, archive: Path, target: Path) -> None:
    wraps = ",".join(f"--wrap={name}" for name in WRAPPED)
    whole = (f"-Wl,--whole-archive,{archive},--no-whole-archive", f"-Wl,{wraps}")
    libraries = ("-lm", "-lpthread")
    command = [compiler, *FLAGS, str(SOURCES[0]), "-o", str(target), *whole, *libraries]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line or "undefined" in line]
        why = (lines or done.stderr.splitlines() or [f"gcc ended with {done.returncode}"])[0]
        raise SteeringError(f"{archive} cannot be steered: {why.strip()}")


def _said(compiler: str, option: str) -> str:
    done = subprocess.run([compiler, option], capture_output=True, text=True, timeout=LONGEST)
    if done.returncode:
        raise SteeringError(f"{compiler} {option} ended with {done.returncode}: {INSTALL}")
    return done.stdout
