"""A profiler trace of a few steps, for TensorBoard."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax


class Trace:
    """Records `steps` steps after the first `start` of this start; `steps=0` records nothing."""

    def __init__(self, folder: Path, wanted: Mapping[str, int] | None, say: Callable[[str], None]):
        wanted = dict(wanted or {})
        self._start, self._steps = wanted.pop("start", 0), wanted.pop("steps", 0)
        if wanted or self._start < 0 or self._steps < 0:
            raise ValueError(f"profile has start >= 0 and steps >= 0; got {wanted or self._start}")
        self._folder, self._say = Path(folder), say
        self._seen = 0
        self._running = False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *error) -> None:
        self._stop()

    def step(self, previous: object) -> None:
        """A step is about to begin; `previous` is what the one before has made."""
        if self._running and self._seen == self._start + self._steps:
            jax.block_until_ready(previous)
            self._stop()
        if self._steps and self._seen == self._start:
            jax.block_until_ready(previous)
            jax.profiler.start_trace(self._folder)
            self._running = True
        self._seen += 1

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._say(f"profiler trace: tensorboard --logdir {self._folder}")
