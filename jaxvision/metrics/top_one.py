"""How often the likeliest class is the right one, on the host."""

from collections.abc import Mapping

import numpy as np

SCALARS = ("top1", "top1_mean")


class TopOne:
    """A host metric of class indices `[b]` under `field`; a truth below 0 is not counted.

    `top1` is over examples, `top1_mean` the mean over the classes of their own, which guessing the
    most frequent class does not raise.
    """

    def __init__(self, field: str = "action"):
        self.field = field
        self._pairs: list[tuple[int, int]] = []

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        """Takes the rows that `mask` does not mark as padding."""
        truth, found = np.asarray(batch[self.field]), np.asarray(predictions[self.field])
        if truth.shape != found.shape or truth.ndim != 1:
            raise ValueError(
                f"{self.field} {truth.shape} and predictions {found.shape} must both be [b]"
            )
        counted = np.asarray(batch.get("mask", np.ones(len(truth), bool))) & (truth >= 0)
        self._pairs += zip(truth[counted].tolist(), found[counted].tolist(), strict=True)

    def result(self) -> dict[str, float]:
        if not self._pairs:
            raise ValueError(f"no example with a known {self.field} was evaluated")
        truth, found = np.array(self._pairs).T
        right = truth == found
        by_class = [right[truth == k].mean() for k in np.unique(truth)]
        return {"top1": float(right.mean()), "top1_mean": float(np.mean(by_class))}
