"""Records of finished work: a unit whose record is there, and fits, is not made again.

A record is a JSON file in `ROOT/records`, written whole after all files of its unit are. It holds
what the unit was made of and the sizes and SHA-256 sums of its files. Without one, files of that
unit are void.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from jaxvision.written import whole_file

Record = dict[str, Any]


def place(root: Path, step: str, name: str) -> Path:
    return Path(root) / "records" / step / f"{name}.json"


def sha256(path: Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """ValueError, with the file's name, for what is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}); delete it and run again") from error


def described(root: Path, paths: list[Path]) -> dict[str, Record]:
    """Bytes and SHA-256 of files, by their path below `root`."""
    root = Path(root)
    return {
        path.relative_to(root).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        }
        for path in paths
    }


def finish(
    root: Path, step: str, name: str, *, made_of: Record, files: list[Path], facts: Record
) -> Record:
    """Writes the record of a unit, the last thing to do of it."""
    record = {"made_of": made_of, **facts, "files": described(root, files)}
    write_json(place(root, step, name), record)
    return record


def finished(root: Path, step: str, name: str) -> Record | None:
    """The record of a unit, None if there is none or if one of its files is gone or another."""
    path = place(root, step, name)
    if not path.is_file():
        return None
    record = read_json(path)
    for file, facts in record["files"].items():
        there = Path(root) / file
        if not there.is_file() or there.stat().st_size != facts["bytes"]:
            return None
        if sha256(there) != facts["sha256"]:
            return None
    return record


def names(root: Path, step: str) -> list[str]:
    """Of all records of a step, in order."""
    folder = Path(root) / "records" / step
    return sorted(p.relative_to(folder).as_posix()[:-5] for p in folder.rglob("*.json"))
