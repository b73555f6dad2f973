"""What a network has to beat: the most frequent type, and boosted trees on hand features."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from jaxvision.cnn_av1.classes import TYPES
from jaxvision.cnn_av1.features import hand_features

ITERATIONS, LEAVES, RATE = 120, 15, 0.08


class BoostedTrees:
    """Histogram gradient boosting (Ke et al. 2017) over the ten types."""

    def __init__(self, *, context: int = 0, seed: int = 0):
        self._context = context
        self._trees = HistGradientBoostingClassifier(
            max_iter=ITERATIONS,
            learning_rate=RATE,
            max_leaf_nodes=LEAVES,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        )

    def fit(self, blocks: np.ndarray, qps: np.ndarray, labels: np.ndarray) -> None:
        """Learns from blocks `[n p p]`, quantisers `[n]` and types `[n]`."""
        if len(np.unique(labels)) < 2:
            raise ValueError("boosted trees need blocks of at least two partition types")
        self._trees.fit(hand_features(blocks, qps, context=self._context), labels)

    def predict(self, blocks: np.ndarray, qps: np.ndarray) -> np.ndarray:
        """Probabilities float32 `[n 10]`; 0 for a type that was not there to learn."""
        features = hand_features(blocks, qps, context=self._context)
        out = np.zeros((len(blocks), len(TYPES)), np.float32)
        out[:, self._trees.classes_] = self._trees.predict_proba(features)
        return out


def frequencies(labels: np.ndarray) -> np.ndarray:
    """How often each type comes, `[10]`: the prediction of one who sees no pixel."""
    counts = np.bincount(labels, minlength=len(TYPES))
    return (counts / max(counts.sum(), 1)).astype(np.float32)
