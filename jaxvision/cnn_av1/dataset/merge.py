"""Step 3: the blocks of a sequence in one file, `intra_raw_blocks/<sequence>_<size>.bin`."""

import shutil
from collections.abc import Callable
from pathlib import Path

from jaxvision.cnn_av1.dataset import blocks as step2
from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.progress import Progress
from jaxvision.written import whole_file

STEP = "merge"


def merged(root: Path, sequence: str, size: int) -> Path:
    return Path(root) / "intra_raw_blocks" / f"{sequence}_{size}.bin"


def sizes_of(root: Path) -> list[tuple[str, int]]:
    """Sequence and size of all blocks that there are."""
    found = []
    for name in records.names(root, step2.STEP):
        sequence, size = name.rsplit("_", 1)
        found.append((sequence, int(size)))
    return found


def merge(root: Path, *, say: Callable[[str], None] = print) -> None:
    """Joins blocks, quality by quality and frame by frame.

    Raises:
      ValueError: where there are no blocks, or not all, or tables were added since.
    """
    root, found = Path(root), step2.units(root)
    names = sizes_of(root)
    if not names:
        raise ValueError(f"{root} holds no blocks: run `blocks` first")
    progress = Progress(len(names), "files", say=say, pause=2)
    for sequence, size in names:
        name = f"{sequence}_{size}"
        blocks = records.finished(root, step2.STEP, name)
        of = found.get(sequence)
        if blocks is None or of is None or blocks["made_of"]["tables"] != step2.sum_of(of):
            raise ValueError(f"{root}: blocks {name} do not fit their tables: run `blocks` again")
        made_of = {"blocks": {file: facts["sha256"] for file, facts in blocks["files"].items()}}
        record = records.finished(root, STEP, name)
        if record and record["made_of"] == made_of:
            progress.skipped()
            continue
        path = merged(root, sequence, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part, part.open("wb") as file:
            for _, stem in step2.parts(root, sequence, of):
                with stem.with_name(f"{stem.name}_{size}.bin").open("rb") as frame:
                    shutil.copyfileobj(frame, file)
        facts = {key: blocks[key] for key in ("size", "context", "count")}
        records.finish(root, STEP, name, made_of=made_of, files=[path], **facts)
        progress.made(f"{path.name}: {blocks['count']} blocks")
    progress.end()
