"""A COFNet without weights: it answers with given boxes and notes what it was asked."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.cofnet.model import COFNet, Denoised, Fields

SIGNAL = 2.0


class FakeCOFNet:
    """Its dense head has one level of a single row, of `cells` boxes `[b p 4]` and logits.

    `denoise` answers `boxes [b n 4]`, their centres moved right by `drift` times the share of the
    schedule, and `logits [b n k]`. `asked` lists the x and t of each call, `mask` is the last one.
    """

    alpha_bar = COFNet.alpha_bar

    def __init__(self, boxes, logits, *, cells, cell_logits, drift=0.0, objective="x0"):
        cells, cell_logits = np.float32(cells), np.float32(cell_logits)
        self.shapes = [(1, cells.shape[1])]
        self.cfg = SimpleNamespace(
            signal=SIGNAL, schedule="cosine", objective=objective, size=(16, 16 * cells.shape[1])
        )
        level = np.zeros((cells.shape[0], *self.shapes[0], 1), np.float32)
        self.fields = Fields([level], {"boxes": cells, "logits": cell_logits})
        self.boxes, self.logits, self.drift = np.float32(boxes), np.float32(logits), drift
        self.asked, self.mask = [], None

    def encode(self, images):
        return jax.tree.map(jnp.asarray, self.fields)

    def denoise(self, fields, x, t, mask=None):
        note = lambda x, t: self.asked.append((np.asarray(x), np.asarray(t)))  # noqa: E731
        jax.debug.callback(note, x, t, ordered=True)
        self.mask = mask
        right = np.array([1, 0, 0, 0], np.float32)
        boxes = self.boxes + self.drift * (t[..., None] / 1000) * right
        return Denoised([boxes], [jnp.asarray(self.logits)], x)


def alpha_bar(t):
    """The cosine schedule's ᾱ in float64 (Nichol and Dhariwal 2021, eq. 17), 1 at time -1."""
    f = lambda t: np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
    return np.maximum(f(np.asarray(t) + 1.0) / f(0.0), 1e-5)


def logit(p):
    p = np.asarray(p, np.float64)
    return np.log(p / (1 - p))


def focal(p, q):
    """Quality focal loss of probability `p` for target `q` (Li et al. 2020, eq. 3), float64."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    return (q - p) ** 2 * -(q * np.log(p) + (1 - q) * np.log(1 - p))
