"""How every contestant is timed, whichever framework it comes from."""

import statistics
import time
from collections.abc import Callable

LONG_ENOUGH = 0.02  # seconds of a round: the wait at its end takes some ten microseconds
PATIENCE = 4.0  # seconds of rounds of one contestant


class Deadline:
    """The minutes that a run may take."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def seconds(runs: dict[str, Callable], wait: Callable, *, rounds: int = 15) -> dict:
    """Medians of interleaved rounds: `run()` some times in a row, one wait for all, a division.

    In place of a contestant's median stands what it raised, if it did: out of memory, a kernel that
    does not compile, a device that it does not know. The others go on.
    """
    results, repeats, times = {}, {}, {}

    def timed(name, count):
        start = time.perf_counter()
        try:
            for _ in range(count):
                out = runs[name]()
            wait(out)
        except Exception as error:  # whatever a peer's library raises
            results[name] = error
            return None
        return (time.perf_counter() - start) / count

    for name in runs:
        if timed(name, 1) is not None and (once := timed(name, 1)) is not None:
            repeats[name] = max(1, int(LONG_ENOUGH / max(once, 1e-6)))
            times[name] = []
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - start > PATIENCE * len(times):
            break
        for name in [k for k in times if k not in results]:
            if (each := timed(name, repeats[name])) is not None:
                times[name].append(each)
    return results | {k: statistics.median(v) for k, v in times.items() if k not in results}


def reason(error: BaseException) -> str:
    """What went wrong, in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]
