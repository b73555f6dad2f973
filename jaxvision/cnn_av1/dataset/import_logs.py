"""Step 1 for those who have an encoder's logs already: logs and their video to tables."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.labelling import STEP, luma_sum, within
from jaxvision.cnn_av1.dataset.logs import check_logs, read_logs
from jaxvision.cnn_av1.dataset.rows import Row
from jaxvision.cnn_av1.dataset.sources import VIDEO, Source, opened
from jaxvision.cnn_av1.dataset.tables import check_depths, check_sources
from jaxvision.data.av1 import partitions

UNIT = "log"


def import_logs(
    root: Path,
    logs: Path,
    video: Source,
    *,
    qp: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Writes the tables of one video from logs in one of the forms of `dataset/logs.py`.

    Raises:
      ValueError: for logs that cannot be read or are not of this video, by file and line.
    """
    if video.kind != VIDEO:
        raise ValueError(f"{video.place}: logs are of a video, .y4m or .yuv")
    root, name = Path(root), f"{video.name}/{UNIT}"
    clip = opened(video)
    check_sources(root, [video])
    check_depths(root, {video.name: clip.depth})
    made_of = {
        "source": video.as_json(),
        "cq": None,
        "logs": str(Path(logs).absolute()),
        "sums": {path.name: records.sha256(path) for path in _files(Path(logs))},
        "qp": qp,
    }
    record = records.finished(root, STEP, name)
    if record and record["made_of"] == made_of:
        say(f"{name}: {sum(record['nodes'].values())} nodes were imported before, and kept")
        return
    entries = read_logs(Path(logs), qp=qp)
    sums = [luma_sum(planes[0]) for planes in clip.frames]
    check_logs(entries, width=clip.width, height=clip.height, frames=len(sums))
    counts = {"nodes": Counter(), "edge": Counter()}
    frames: dict[int, list[Row]] = defaultdict(list)
    for entry in entries:
        place = entry.row, entry.col, entry.size
        frames[entry.frame] += []
        if entry.size in partitions.NODE_SIZES:
            inside = within(*place, clip.width, clip.height)
            counts["nodes" if inside else "edge"][entry.size] += 1
            if inside:
                row = Row(entry.frame, *place, entry.partition, entry.qp, -1, entry.is_key)
                frames[entry.frame].append(row)
    records.place(root, STEP, name).unlink(missing_ok=True)  # void from now on
    files = []
    for frame, found in sorted(frames.items()):
        files.append(rows.table(root, video.name, UNIT, frame))
        rows.write_rows(files[-1], found)
    facts = {
        "width": clip.width,
        "height": clip.height,
        "depth": clip.depth,
        "luma": {str(frame): sums[frame] for frame in sorted(frames)},
        "hidden": 0,
        "compared": 0,
        **{key: {str(s): n for s, n in sorted(of.items())} for key, of in counts.items()},
    }
    records.finish(root, STEP, name, made_of=made_of, files=files, facts=facts)
    edge = sum(counts["edge"].values())
    say(f"{name}: {len(frames)} frames, {sum(counts['nodes'].values())} nodes, {edge} at the edge")


def _files(logs: Path) -> list[Path]:
    """What `read_logs` would read; it says what is wrong with what is not there."""
    if logs.is_dir():
        return sorted(p for p in logs.iterdir() if p.suffix in (".csv", ".txt"))
    return [logs] if logs.is_file() else []
