"""What the doctor says of one check."""

import dataclasses
from collections.abc import Iterable

OK, WARN, ERROR = "OK", "WARN", "ERROR"
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Finding:
    """`check` is a short name; `mend` says in a line what to do, "" where nothing is amiss."""

    level: str
    check: str
    text: str
    mend: str = ""


def some(names: Iterable) -> str:
    """The first few of `names`, and how many more."""
    names = [str(name) for name in names]
    rest = f", … {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
