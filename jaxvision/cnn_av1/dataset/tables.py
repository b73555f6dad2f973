"""Step 1: sources to tables of partition nodes, by encoding and decoding them with libaom."""

import concurrent.futures
import threading
from collections.abc import Callable
from pathlib import Path

from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.labelling import SETTINGS, STEP, Unit, label_unit
from jaxvision.cnn_av1.dataset.progress import Progress
from jaxvision.cnn_av1.dataset.sources import STREAM, Source, depth_of
from jaxvision.data.av1.encoder import LABEL_OPTIONS
from jaxvision.data.av1.library import Library


def make_tables(
    root: Path,
    sources: list[Source],
    library: Library,
    *,
    qualities: tuple[int, ...],
    cpu_used: int = 0,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Encodes each source at each quality (0-63) and writes its tables; streams are only decoded.

    Raises:
      ValueError: for qualities out of range, for sources of 8 and of 10 bits in one set, where the
        set's other labels were made by another library or with other options, and where a
        partition that the decoder tells is not that of the tree that the block sizes make.
    """
    if not qualities or not all(0 <= cq <= 63 for cq in qualities):
        raise ValueError(f"cq={','.join(map(str, qualities))}: qualities are from 0 to 63")
    if not 0 <= cpu_used <= 9 or jobs < 1:
        raise ValueError(f"cpu-used={cpu_used} is not from 0 to 9, or jobs={jobs} below 1")
    root = Path(root)
    options = {key: str(value) for key, value in LABEL_OPTIONS.items()}
    options["cpu-used"] = str(cpu_used)
    encoder = {"library": library.version, **SETTINGS, "options": dict(sorted(options.items()))}
    check_sources(root, sources)
    check_depths(root, {one.name: depth_of(one) for one in sources})
    units = [Unit(one, None) for one in sources if one.kind == STREAM]
    units += [Unit(one, cq) for one in sources if one.kind != STREAM for cq in qualities]
    progress = Progress(len(units), "units", say=say)
    todo = []
    for unit in units:
        made_of = _made_of(unit, encoder)
        if _known(root, unit, made_of):
            progress.skipped()
        else:
            todo.append((unit, made_of))

    stopped = threading.Event()

    def tell(text):
        if stopped.is_set():
            raise concurrent.futures.CancelledError
        progress.within(text)

    def work(job):
        unit, made_of = job
        tell(unit.name)
        try:
            return unit, label_unit(root, unit, made_of, library, tell=tell)
        except BaseException:  # whatever ends one unit, the others are to stop too
            stopped.set()
            raise

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:  # libaom runs without the GIL
        waiting = [pool.submit(work, job) for job in todo]
        try:
            for future in concurrent.futures.as_completed(waiting):
                if isinstance(future.exception(), concurrent.futures.CancelledError):
                    continue  # for the sake of another, which is to come
                unit, record = future.result()
                frames, nodes = len(record["luma"]), sum(record["nodes"].values())
                progress.made(f"{unit.name}: {frames} frames, {nodes} nodes of 64 to 8")
        except BaseException:  # also Ctrl-C: other units end with the frame that they are at
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.end()


def check_depths(root: Path, depths: dict[str, int]) -> None:
    """ValueError if sequences, and those that `root` holds already, differ in their bits."""
    for name in records.names(root, STEP):
        record = records.read_json(records.place(root, STEP, name))
        depths = {name.split("/")[0]: record["depth"]} | depths
    if len(set(depths.values())) > 1:
        (low, less), *_, (high, more) = sorted(depths.items(), key=lambda one: one[1])
        raise ValueError(
            f"{low} has {less} bits and {high} {more}: one set is of one depth; --deepen takes "
            "8-bit videos as 10-bit ones"
        )


def _made_of(unit: Unit, encoder: records.Record) -> records.Record:
    made_of = {"source": unit.source.as_json(), "cq": unit.cq}
    if unit.source.kind != STREAM:
        made_of["encoder"] = encoder
    return made_of


def check_sources(root: Path, sources: list[Source]) -> None:
    """ValueError if `root` holds a sequence of the same name that is made of something else."""
    wanted = {one.name: one.as_json() for one in sources}
    for name in records.names(root, STEP):
        path = records.place(root, STEP, name)
        other = records.read_json(path)["made_of"]["source"]
        new = wanted.get(name.rsplit("/", 1)[0], other)
        if new != other:
            differing = ", ".join(f"{k} {other[k]} → {new[k]}" for k in new if new[k] != other[k])
            raise ValueError(
                f"{root} holds {name} already, made otherwise ({differing}): give another "
                f"--out, or delete {path.parent}"
            )


def _known(root: Path, unit: Unit, made_of: records.Record) -> bool:
    """Whether a unit is finished; ValueError if others were encoded in another way."""
    for name in records.names(root, STEP):
        other = records.read_json(records.place(root, STEP, name))["made_of"].get("encoder")
        if other and "encoder" in made_of and other != made_of["encoder"]:
            raise ValueError(
                f"{root} holds labels of another encoder ({name}: libaom {other['library']}, "
                f"cpu-used {other['options']['cpu-used']}): give another --out"
            )
    return records.finished(root, STEP, unit.name) is not None
