"""What may end a stage before its last step."""

from collections.abc import Callable, Mapping

from jaxvision.step import TrainState

# A hook sees the number of steps done, the state and the latest metrics; True ends the stage there.
# `metrics["seconds"]` is the stage's wall time over all its starts: a stage that its budget has
# ended ends at once when it is started again. Hooks are asked after each step; where several
# processes train together, process 0 decides, every `log_every` steps.
Hook = Callable[[int, TrainState, Mapping[str, float]], bool]


def time_budget(seconds: float) -> Hook:
    """Ends the stage when it has run for `seconds` of wall time."""
    if seconds <= 0:
        raise ValueError(f"a time budget of {seconds} s is not positive")

    def spent(step: int, state: TrainState, metrics: Mapping[str, float]) -> bool:
        return metrics["seconds"] >= seconds

    return spent
