"""Follows a running stage without making it wait: logs, rates, the first number that is none."""

import collections
import math
import time
from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.names import flatten
from jaxvision.stage import Logs
from jaxvision.step import TrainState
from jaxvision.writer import Writer

RUN_AHEAD = 16  # steps that the host may be ahead of the device


@flax.struct.dataclass
class Packed:
    """The logs of a step as one small array: one transfer, one thing to ask whether it is done."""

    values: jax.Array
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)


def pack(logs: Logs) -> Packed:
    names = tuple(sorted(logs))
    return Packed(values=jnp.stack([logs[k].astype(jnp.float32) for k in names]), names=names)


class Watch:
    """Takes the logs of a step once the device has them, a few steps later, without waiting."""

    def __init__(self, writer: Writer, steps: int, *, log_every: int, last_good: Callable[[], str]):
        self.metrics: dict[str, float] = {}  # the latest that were written
        self._writer, self._steps, self._log_every = writer, steps, log_every
        self._last_good = last_good
        self._pending: collections.deque[tuple[int, int, Packed]] = collections.deque()
        self._since: tuple[float, int] | None = None
        self._examples = 0

    def push(self, step: int, logs: Packed, rows: int) -> None:
        """Notes that `step` has been started; raises if an earlier one was not finite."""
        self._pending.append((step, rows, logs))
        while self._pending and (
            len(self._pending) > RUN_AHEAD or self._pending[0][2].values.is_ready()
        ):
            self._take()

    def settle(self, step: int, state: TrainState) -> None:
        """Waits for the steps that have been started; raises unless all that they made is finite.

        What comes then (evaluation, saving) does not count into the rate.
        """
        while self._pending:
            self._take()
        self._since = None
        parts = {"params": state.params, "ema": state.ema}
        finite = _finite(parts) | _known({"model_state": state.model_state})
        if bad := [name for name, ok in flatten(finite).items() if not ok]:
            raise FloatingPointError(self._message(step, bad))

    def _take(self) -> None:
        step, rows, packed = self._pending.popleft()
        logs = dict(zip(packed.names, np.asarray(packed.values).tolist(), strict=True))
        if bad := [name for name, value in logs.items() if not math.isfinite(value)]:
            raise FloatingPointError(self._message(step, [f"{k} = {logs[k]}" for k in bad]))
        self._rate(step, rows)
        self._writer.progress(step, self._steps, self.metrics | _train(logs))
        if step % self._log_every == 0 or step == self._steps:
            self.metrics |= _train(logs)
            self._writer.scalars(step, self.metrics)

    def _rate(self, step: int, rows: int) -> None:
        """Speed since the last pause, or the last line of the log before this one."""
        now = time.perf_counter()
        if self._since is None:
            self._since, self._examples = (now, step), 0
            return
        self._examples += rows
        elapsed, done = now - self._since[0], step - self._since[1]
        if elapsed > 0:
            self.metrics["steps_per_s"] = done / elapsed
            self.metrics["examples_per_s"] = self._examples / elapsed
        if step % self._log_every == 0:
            self._since, self._examples = (now, step), 0

    def _message(self, step: int, bad: list[str]) -> str:
        shown = ", ".join(bad[:4]) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "")
        return (
            f"step {step} is not finite: {shown}; last good checkpoint: {self._last_good()}; "
            "lower the learning rate, clip gradients (clip), or look for bad numbers in the data"
        )


def _train(logs: Mapping[str, float]) -> dict[str, float]:
    return {f"train/{name}": value for name, value in logs.items()}


@jax.jit
def _finite(tree):
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), tree)


@jax.jit
def _known(tree):
    """Statistics may hold infinities: a running minimum begins as one."""
    return jax.tree.map(lambda x: ~jnp.any(jnp.isnan(x)), tree)
