"""Finds a shared libaom: the one named, or that of a wheel, or the system's."""

import functools
import importlib.util
import os
from pathlib import Path

from absl import logging

from jaxvision.data.av1.selftest import check
from jaxvision.data.av1.structs import AomError, Library, load

__all__ = ["AomError", "Library", "check", "open_library"]

VARIABLE = "JAXVISION_LIBAOM"
# Packages whose wheels bring a libaom, and the folders beside them that hold it.
WHEELS = (
    ("imagecodecs", ("imagecodecs.libs",)),
    ("cv2", ("opencv_python_headless.libs", "opencv_python.libs")),
)
SYSTEM = "libaom.so.3"


def open_library(path: str | Path | None = None) -> Library:
    """A libaom that passed `check`, which is done once for each path.

    The one at `path`, else the one that the variable JAXVISION_LIBAOM names; without either, the
    first that works of those in the wheels of imagecodecs and OpenCV, and the system's.

    Raises:
      AomError: if there is none, with the places that were looked at and why each was refused.
    """
    named = path if path is not None else os.environ.get(VARIABLE)
    if named:
        try:
            return _opened(str(named))
        except AomError as error:
            where = "given" if path is not None else f"named by {VARIABLE}"
            raise AomError(f"the libaom {where} cannot be used: {error}") from error
    refused = []
    for place in places():
        try:
            library = _opened(place)
            if refused:
                logging.warning("taking %s, for: %s", place, "; ".join(refused))
            return library
        except AomError as error:
            refused.append(str(error))
    looked = [f"{folder} beside {package}" for package, folders in WHEELS for folder in folders]
    raise AomError(
        f"no libaom was found in {', '.join(looked)}, nor in {VARIABLE}: pip install imagecodecs"
        f" ({'; '.join(refused)})"
    )


def places() -> list[str]:
    """Where a libaom may be, the best first."""
    found = []
    for package, folders in WHEELS:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        beside = Path(spec.origin).parent.parent
        for folder in folders:
            found += [str(file) for file in sorted((beside / folder).glob("libaom*"))]
    return [*found, SYSTEM]


@functools.cache
def _opened(path: str) -> Library:
    library = load(path)
    check(library)
    return library
