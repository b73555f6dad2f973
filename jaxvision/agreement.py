"""Decisions that all processes of a run must take alike, and the signals that ask to stop."""

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def from_first(value: Any) -> Any:
    """What process 0 passed (a JSON value), in every process."""
    if jax.process_count() == 1:
        return value
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    buffer = data if jax.process_index() == 0 else np.zeros(size, np.uint8)
    received = np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)
    return json.loads(received.tobytes())


def done_by_first(action: Callable[[], Any]) -> Any:
    """What `action()` returns in process 0 (a JSON value), in every process, once it is done.

    Where it raises there, all processes raise: none is left waiting for the others.
    """
    value = failure = None
    if is_first():
        try:
            value = action()
        except Exception as error:
            failure = error
    reason, value = from_first([_told(failure), value])
    if failure:
        raise failure
    if reason:
        raise OSError(*reason)
    return value


def _told(error: Exception | None) -> list[Any] | None:
    """What `OSError` makes the same error of, in another process."""
    number = getattr(error, "errno", None)
    if error is None or number is None:
        return error and [str(error)]
    return [number, error.strerror, error.filename and str(error.filename)]


class Interrupted(Exception):
    """The run was asked to stop."""


class Interrupt:
    """Turns SIGTERM, SIGINT (Ctrl-C) and preemption into a question to ask between steps.

    The first signal is noted, the second Ctrl-C raises `KeyboardInterrupt` at once. With several
    processes jax's preemption service takes SIGTERM and makes all of them stop after the same step;
    Ctrl-C is handed on to it. `agreed` must then be called equally often by every process.
    """

    def __init__(self, say: Callable[[str], None] = print):
        self.reason: str | None = None  # why the run is ending, once it is agreed
        self._say = say
        self._asked: str | None = None
        self._calls = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            alone = jax.process_count() == 1
            ours = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
            self._previous = {s: signal.signal(s, self._handle) for s in ours}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number, frame) -> None:
        del frame
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = signal.Signals(number).name
        if number == signal.SIGINT:
            self._say("stopping after this step and saving; Ctrl-C again aborts at once")
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def agreed(self) -> bool:
        """Whether to stop now; the same answer in every process."""
        if self.reason:
            return True
        self._calls += 1
        if jax.process_count() == 1:
            self.reason = self._asked
        elif multihost_utils.reached_preemption_sync_point(self._calls):
            self.reason = self._asked or "SIGTERM or preemption"
        return bool(self.reason)
