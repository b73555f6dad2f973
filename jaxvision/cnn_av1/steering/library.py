"""The library that can be steered, opened: masks in, counts and costs out."""

import contextlib
import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvision.cnn_av1 import masks
from jaxvision.cnn_av1.steering.build import SteeringError, build
from jaxvision.data.av1.library import Library, open_library
from jaxvision.written import whole_file

TESTED = ("3.6.0", "3.12.1")  # versions of libaom that were steered
FIRST, LAST = (3, 6), (3, 12)  # those between are put to the same test, others refused
UNKNOWN = 255  # the type of a record whose node ended without one
# A searched node. `cost` is of NONE, HORZ, VERT and SPLIT with all that is below, in libaom's own
# unit (its rate term included); NaN is of a type that was not tried, infinity of one that was given
# up as dearer than the best, whose cost is therefore at least `final`. `basic` is the least before
# extended types were tried, `final` the least of all (NaN: given up), which is that of `type`. Rows
# and columns count 4 pixels.
RECORD = np.dtype(
    [(name, np.int32) for name in ("frame", "row", "col", "size", "type", "mask")]
    + [("cost", np.float64, 4), ("basic", np.float64), ("final", np.float64)]
)
STATE_BYTES, TERMINATE_AT = 328, 280  # of the node's state, on 64-bit Linux


class Counters(NamedTuple):
    """Since the last `reset`. All but `insane` are the same in every run with one thread.

    `nodes` that were searched and of these those that masks `narrowed`; `insane` ones had numbers
    that cannot be; `pixels` of luma whose intra modes were searched, each as often as it was.
    """

    nodes: int
    narrowed: int
    insane: int
    pixels: int


class CostLog:
    """What the search found at each node, RECORD by RECORD, as far as there was room."""

    def __init__(self, lib: ctypes.CDLL, capacity: int):
        self._lib, self._records = lib, np.zeros(capacity, RECORD)
        self._count = 0

    def address(self) -> int:
        return self._records.ctypes.data

    def take_count(self, count: int) -> None:
        self._count = count

    @property
    def lost(self) -> int:
        """Nodes for which there was no room."""
        return max(0, self._count - len(self._records))

    def records(self) -> np.ndarray:
        """RECORD `[n]`, in the order in which nodes were begun. After the block has ended."""
        return self._records[: min(self._count, len(self._records))]


class Steered:
    """libaom with the shim. The shim is one for the whole process, as the loaded library is.

    Masks hold until they are set anew, for every encoder of this library. They are for key frames
    that are coded at once (`lag-in-frames` 0), at `cpu-used` 0 to 3. They narrow what libaom would
    search by itself. Of nodes at the frame's edge, and where libaom finds nothing that can be coded
    at all, they are not regarded.
    """

    def __init__(self, library: Library):
        self.library, self._lib = library, library.lib
        self._masks: np.ndarray | None = None
        try:
            for name, *arguments in (
                ("jaxvision_masks", ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
                ("jaxvision_log", ctypes.c_void_p, ctypes.c_int64),
                ("jaxvision_frame", ctypes.c_int),
                ("jaxvision_reset",),
                ("jaxvision_counters", ctypes.c_void_p),
            ):
                function = getattr(library.lib, name)
                function.restype, function.argtypes = None, arguments
        except AttributeError as error:
            raise SteeringError(f"{library.path} is no library that can be steered") from error
        sizes = tuple(self._numbers()[5:])
        if sizes != (STATE_BYTES, TERMINATE_AT, RECORD.itemsize):
            raise SteeringError(f"{library.path} was compiled with other layouts: {sizes}")

    def set_masks(self, table: np.ndarray | None, *, frame: int = 0) -> None:
        """Masks for what is encoded next, uint16 `[4 rows cols]`; None leaves all to libaom.

        `frame` is the number that records get. The table is copied.
        """
        self._lib.jaxvision_frame(frame)
        if table is None:
            self._lib.jaxvision_masks(None, 0, 0)
            self._masks = None
            return
        if table.ndim != 3 or table.shape[0] != len(masks.NODE_SIZES):
            raise ValueError(f"masks are {table.shape}, not [4 rows cols]")
        rows, cols = table.shape[1:]
        masks.checked(table, rows * masks.CELL, cols * masks.CELL)
        copy = np.array(table, order="C")
        self._lib.jaxvision_masks(copy.ctypes.data, rows, cols)
        self._masks = copy  # which libaom reads: it lives as long as it is set

    def reset(self) -> None:
        self._lib.jaxvision_reset()

    def counters(self) -> Counters:
        return Counters(*self._numbers()[:4])

    @contextlib.contextmanager
    def logged(self, capacity: int) -> Iterator[CostLog]:
        """Records up to `capacity` searched nodes of what is encoded meanwhile, by one thread.

        A frame has at most 85 for each 64 × 64 pixels, more only where a search is repeated.
        """
        if capacity < 1:
            raise ValueError(f"capacity={capacity} must be at least 1")
        log = CostLog(self._lib, capacity)
        self._lib.jaxvision_log(log.address(), capacity)
        try:
            yield log
        finally:
            log.take_count(self._numbers()[4])
            self._lib.jaxvision_log(None, 0)

    def _numbers(self) -> list[int]:
        numbers = np.zeros(8, np.int64)
        self._lib.jaxvision_counters(numbers.ctypes.data)
        return numbers.tolist()


def open_steered(cache_dir: str | Path | None = None) -> Steered:
    """Builds if need be, tests if it is new, and opens.

    The test (`replay`) runs once for each build, in a process of its own: a library with another
    layout could end that.

    Raises:
      SteeringError: if it cannot be built, is of a version that is not known, or does not pass.
    """
    path = build(cache_dir)
    library = open_library(path)
    check_version(library.version)
    stamp = path.with_suffix(".json")
    if not stamp.is_file():
        _test(path, stamp)
    return Steered(library)


def check_version(version: str) -> None:
    """SteeringError for a libaom whose inner layout nobody has looked at."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or not FIRST <= tuple(map(int, found.groups())) <= LAST:
        first, last = (".".join(map(str, known)) for known in (FIRST, LAST))
        raise SteeringError(
            f"libaom {version} cannot be steered: versions {first} to {last} can; install such a "
            "libaom-dev"
        )


def _test(path: Path, stamp: Path) -> None:
    command = [sys.executable, "-m", "jaxvision.cnn_av1.steering.replay", str(path)]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1] if done.returncode > 0 and lines else f"it crashed ({done.returncode})"
        raise SteeringError(
            f"{path} did not pass its test, and is not used: {why}"
            f" (libaom {' and '.join(TESTED)} are known to pass)"
        )
    with whole_file(stamp) as part:
        part.write_text(json.dumps(json.loads(done.stdout), indent=1) + "\n")
