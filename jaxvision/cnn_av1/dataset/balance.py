"""How often each example should come so that classes come alike."""

import numpy as np


def class_balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Weights float64 `[n]` for `jaxvision.data.pipeline.shuffled`: each class comes as often.

    Labels `[n]` below 0 are not learnt from, and come never. An epoch is as long as there are
    others: an example of a class of n_c among k classes comes n / (k n_c) times.

    Raises:
      ValueError: where no label is left.
    """
    labels = np.asarray(labels)
    known = labels >= 0
    if labels.ndim != 1 or not known.any():
        raise ValueError(f"labels {labels.shape} with {known.sum()} of a class: nothing to balance")
    classes, which, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    weights = np.zeros(len(labels))
    weights[known] = (known.sum() / (len(classes) * counts))[which]
    return weights
