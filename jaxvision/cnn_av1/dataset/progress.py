"""How far a step is: a line a unit, with the rate and the time that is left."""

import datetime
import time
from collections.abc import Callable

EVERY = 10.0  # seconds


class Progress:
    """Counts units of `total`; those found finished do not count in the rate.

    Where units are short, lines are at least `pause` seconds apart, but for the last one.
    """

    def __init__(self, total: int, what: str, *, say: Callable[[str], None], pause: float = 0):
        self._total, self._what, self._say, self._pause = total, what, say, pause
        self._done = self._made = 0
        self._begun = self._said = time.monotonic()

    def skipped(self) -> None:
        self._done += 1

    def made(self, text: str) -> None:
        self._done += 1
        self._made += 1
        now = time.monotonic()
        if now - self._said < self._pause and self._done < self._total:
            return
        self._said, took = now, now - self._begun
        told = f"{text}  {self._done}/{self._total} {self._what}"
        if took >= 1:  # a rate before that says nothing
            rate = self._made / took
            left = datetime.timedelta(seconds=round((self._total - self._done) / rate))
            told += f", {60 * rate:.1f} a minute, ETA {left}"
        self._say(told)

    def within(self, text: str) -> None:
        """A part of a unit is done: says so when nothing was said for a while."""
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._said = now
            self._say(text)

    def end(self) -> None:
        """Says what was there already."""
        if self._done > self._made:
            kept = self._done - self._made
            self._say(f"{kept} of {self._total} {self._what} were finished before, and kept")
