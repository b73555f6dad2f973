"""Speed and memory of an evaluation, as a host metric."""

import resource
import sys
import time
from collections.abc import Mapping, MutableMapping

import jax
import numpy as np


class Throughput:
    """Images per second and peak memory, written into `measurements` with every batch.

    The clock starts at the end of the first batch, which compiles; so one batch alone gives no
    rate. Peak memory is the device's where it counts its own, else the process's.
    """

    def __init__(self, measurements: MutableMapping[str, float]):
        self.measurements = measurements
        self._start: float | None = None
        self._images = 0

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        del predictions
        now = time.monotonic()
        if self._start is None:
            self._start = now
        else:
            self._images += int(np.sum(batch["mask"]))
            self.measurements["images/s"] = self._images / max(now - self._start, 1e-9)
        self.measurements["peak memory (GiB)"] = peak_memory() / 2**30

    def result(self) -> dict[str, float]:
        """Nothing: how fast a run was is not a property of the model, and not to be compared."""
        return {}


def peak_memory() -> int:
    """Bytes: of the first local device if it keeps count, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
