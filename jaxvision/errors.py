"""What a user is told of an error: one line that names the thing and the mend."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

MENDS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
}


def out_of_memory(error: Exception) -> bool:
    """Whether the device had no memory left; tensorstore says the same word of a full disk."""
    return isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def reason(error: Exception) -> str:
    """Why a folder could not be written, and the mend."""
    number = _number(error)
    lines = str(error).splitlines() or [type(error).__name__]
    return f"{os.strerror(number) if number else lines[0]}; {MENDS.get(number, 'mend the folder')}"


def _number(error: Exception) -> int | None:
    """The system's number of an error, also of those that tensorstore puts into words."""
    worded = re.search(r"os_error_code='(\d+)'", str(error))
    if worded:
        return int(worded[1])
    if "No space left on device" in str(error):
        return errno.ENOSPC
    return getattr(error, "errno", None)


def one_line(error: Exception, places: Mapping[str, Path]) -> str:
    """An error in one line; `places` are the flags by which a command may write elsewhere."""
    if isinstance(error, OSError) and error.errno:
        return _of_the_system(error, places)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if out_of_memory(error):
        return f"out of device memory: use a smaller batch or more accumulation ({text})"
    return text if len(lines) < 2 else f"{text} … (--debug shows all)"


def _of_the_system(error: OSError, places: Mapping[str, Path]) -> str:
    thing, flag = error.filename, None
    if thing is not None:
        flag = next((flag for flag, place in places.items() if _related(thing, place)), None)
    elif error.errno in MENDS and places:  # a write that failed does not say where
        flag, thing = list(places.items())[-1]
    mends = [MENDS[error.errno]] if error.errno in MENDS else []
    mends += [f"give another {flag}"] if flag else []
    why = error.strerror or os.strerror(error.errno)
    text = why if thing is None else f"{thing}: {why}"
    return f"{text}; {' or '.join(mends)}" if mends else text


def _related(thing: str | bytes, place: Path) -> bool:
    """Whether one of two paths lies within the other."""
    a, b = Path(os.fsdecode(thing)).absolute(), place.absolute()
    return a.is_relative_to(b) or b.is_relative_to(a)
