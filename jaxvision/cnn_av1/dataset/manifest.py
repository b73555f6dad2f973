"""`manifest.json`: what a labelled set is made of, by whom, and the sum of every file."""

from collections.abc import Callable
from pathlib import Path

from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.split import split_sources
from jaxvision.data.av1 import partitions

FORMAT = "jaxvision cnn_av1 1"
NAME = "manifest.json"
STEP = "align"  # whose records it is made of: one a sequence and size


def write_manifest(
    root: Path, *, share: float, seed: int, val: tuple[str, ...], say: Callable[[str], None]
) -> Path:
    """Writes it from the records of finished sequences.

    Where its sources cannot be split, as when there is but one, `split` is null, which is said.
    ValueError where sequences differ in depth or blocks of one size in context.
    """
    root = Path(root)
    found = {name: records.finished(root, STEP, name) for name in records.names(root, STEP)}
    void = [name for name, record in found.items() if record is None]
    if void or not found:
        raise ValueError(f"{root}: {void[0] if void else 'it'} is not aligned: run `align` again")
    sequences: dict[str, records.Record] = {}
    files: dict[str, records.Record] = {}
    contexts: dict[str, int] = {}
    for name, record in found.items():
        about, size = record["sequence"], str(record["size"])
        kept = sequences.setdefault(about["name"], about | {"blocks": {}})
        kept["blocks"][size] = record["count"]
        files |= record["files"] | record["of"]
        if contexts.setdefault(size, record["context"]) != record["context"]:
            raise ValueError(
                f"{root}: blocks of {size} have contexts {contexts[size]} and {record['context']} "
                f"({name}): run `blocks` again, for all"
            )
    depths = {one["name"]: one["depth"] for one in sequences.values()}
    if len(set(depths.values())) > 1:
        raise ValueError(f"{root}: one set is of one depth, not of {depths}")
    held = held_sources(sequences)
    split = None
    try:
        split = split_sources(held, share=share, seed=seed, val=val)
    except ValueError as error:
        if val:
            raise
        say(f"no split yet: {error}")
    value = {
        "format": FORMAT,
        "depth": next(iter(depths.values())),
        "contexts": contexts,
        "partitions": list(partitions.NAMES),
        "split": {"by": "source", "share": share, "seed": seed, "sources": split}
        if split
        else None,
        "sequences": dict(sorted(sequences.items())),
        "files": dict(sorted(files.items())),
    }
    records.write_json(root / NAME, value)
    return root / NAME


def held_sources(sequences: records.Record) -> dict[str, str | None]:
    """Source -> the split that it is held to, from a manifest's sequences."""
    return {one["source"]: one["split"] for one in sequences.values()}


def read_manifest(root: Path) -> records.Record:
    """ValueError if there is none, or if it is of another kind."""
    path = Path(root) / NAME
    if not path.is_file():
        raise ValueError(
            f"{path}: there is no such file: run `label` or `align`, or `import-raw` for folders "
            "without one"
        )
    manifest = records.read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not of the format {FORMAT!r}")
    return manifest
