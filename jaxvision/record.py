"""What lies beside the arrays of a checkpoint: where the run stood, and how to know damage."""

import dataclasses
import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD = "record.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Where a run stood, besides its arrays."""

    step: int
    examples: int  # of the training data, read by all processes together
    batch: int  # global batch size
    seconds: float  # of wall time since the stage began, over all its starts
    metrics: Mapping[str, float]  # evaluated at this very step; empty if nothing was


def read_record(path: Path) -> dict[str, Any] | None:
    """The record as written; None if it is absent or is not one."""
    try:
        content = json.loads((path / RECORD).read_text())
    except (OSError, ValueError):
        return None
    wanted = {field.name for field in dataclasses.fields(Record)} | {"best", "arrays", "files"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        return None
    metrics = {k: math.nan if v is None else v for k, v in content["metrics"].items()}
    return content | {"metrics": metrics}


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the record whole or not at all; a metric that is not a number becomes null."""
    metrics = {k: v if math.isfinite(v) else None for k, v in content["metrics"].items()}
    text = json.dumps({**content, "metrics": metrics}, indent=1, allow_nan=False)
    new = path / f".{RECORD}"
    new.write_text(text)
    sync(new)
    new.replace(path / RECORD)


def checksums(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of every file below `folder`, each made sure to be on the disk."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for file in files:
        sync(file)
    return {str(file.relative_to(folder)): _checksum(file) for file in files}


def _checksum(file: Path) -> list[int]:
    """Size and CRC-32."""
    checksum = size = 0
    with file.open("rb") as stream:
        while block := stream.read(2**22):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return [size, checksum]


def sync(path: Path) -> None:
    """Has the system write a file (or a folder's list of names) to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`; None if nothing is."""
    content = read_record(path)
    if content is None:
        return f"{RECORD} is " + ("cut short" if (path / RECORD).exists() else "missing")
    for name, expected in content["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected[0]:
            return f"{name} has {file.stat().st_size} of {expected[0]} bytes"
        if _checksum(file) != expected:
            return f"{name} has changed"
    return None
