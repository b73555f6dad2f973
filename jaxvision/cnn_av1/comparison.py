"""Networks beside what they have to beat, on the same test blocks, with intervals."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from jaxvision.cnn_av1 import symmetry
from jaxvision.cnn_av1.baseline import BoostedTrees, frequencies
from jaxvision.cnn_av1.classes import NONE, TYPES
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.evaluation import type_scores
from jaxvision.cnn_av1.levels import LEVELS, shrunk
from jaxvision.cnn_av1.pipeline import MultiTask, Pipeline
from jaxvision.cnn_av1.stage_model import StageModel
from jaxvision.metrics import classes

BATCH = 512
TREES = "boosted trees"
POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
LENIENT = 0.005  # of accuracy
DRAWS = 1000
SHOWN = ("accuracy", "macro_f1", "macro_f1_8", "top3", "calibration_error", "log_loss")
BOUNDED = ("accuracy", "macro_f1", "top3")  # those that get an interval


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What one system says of the test blocks: probabilities `[n 10]`, decisions `[n]`."""

    types: np.ndarray
    hard: np.ndarray


def run(net: nnx.Module, found: BlockSet) -> dict[str, np.ndarray]:
    """What a `Pipeline` or a `MultiTask` says of all blocks, `[n …]`, by batches."""
    return _by_batches(net, found, levels=isinstance(net, MultiTask))


def by_eight_views(net: nnx.Module, found: BlockSet) -> np.ndarray:
    """Probabilities of the types `[n 10]`, the mean over the symmetries of the square."""
    total = np.zeros((len(found), len(TYPES)), np.float32)
    for number, table in enumerate(symmetry.TABLES):
        blocks = symmetry.turned_blocks(found.blocks, np.full(len(found), number))
        seen = dataclasses.replace(found, blocks=np.asarray(blocks))
        total += run(net, seen)["types"][:, table]
    return total / len(symmetry.TABLES)


def classes_of(net: StageModel, found: BlockSet) -> np.ndarray:
    """The probabilities of one stage's classes, `[n k]`."""
    return nnx.softmax(_by_batches(net, found, levels=False)["logits"])


def _by_batches(net: nnx.Module, found: BlockSet, *, levels: bool) -> dict[str, np.ndarray]:
    graph, state = nnx.split(net)
    level = LEVELS[found.size]

    parts = []
    for at in range(0, len(found), BATCH):
        here = found.take(np.arange(at, min(at + BATCH, len(found))))
        blocks = shrunk(here.blocks, level.shrink) if levels else here.blocks
        short = BATCH - len(here)
        padded = np.pad(blocks, ((0, short), *[(0, 0)] * (blocks.ndim - 1)))
        qps = np.pad(here.qps.astype(np.int32), (0, short))
        out = _forward(graph, state, padded, qps, np.full(BATCH, level.number, np.int32))
        parts.append({key: np.asarray(x)[: len(here)] for key, x in out.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@functools.partial(jax.jit, static_argnums=0)
def _forward(graph, state, blocks, qps, numbers):
    out = nnx.merge(graph, state)(blocks, qps, numbers)
    return out if isinstance(out, dict) else {"logits": out}


def baselines(train: BlockSet, val: BlockSet, test: BlockSet, *, seed: int) -> dict[str, Answer]:
    """The most frequent type, and boosted trees on hand features of the same pixels."""
    prior = frequencies(train.labels)
    frequent = np.tile(prior, (len(test), 1))
    trees = BoostedTrees(context=train.context, seed=seed)
    trees.fit(train.blocks, train.qps, train.labels)
    held = trees.predict(val.blocks, val.qps)
    boosted = trees.predict(test.blocks, test.qps)
    return {
        "most frequent type": _likeliest(frequent),
        TREES: _likeliest(boosted),
        **favoured(TREES, prior, held, val.labels, boosted),
    }


def favoured(
    name: str, prior: np.ndarray, held: np.ndarray, labels: np.ndarray, types: np.ndarray
) -> dict[str, Answer]:
    """Decisions that favour rare types: the largest of `types [n 10]` over `prior [10]` to a power.

    That is logit adjustment after training (Menon et al. 2021, eq. 9). The power is the largest of
    `POWERS` that costs at most `LENIENT` of the accuracy on held-out blocks, of probabilities
    `held [m 10]` and `labels [m]`. Probabilities stay as they are.
    """
    rare = np.maximum(prior, 1 / len(labels))

    def right(power: float) -> float:
        return float(np.mean((held / rare**power).argmax(-1) == labels))

    power = max(power for power in POWERS if right(power) >= right(0.0) - LENIENT)
    return {
        f"{name}, rare types favoured": Answer(types, (types / rare**power).argmax(-1)),
    }


def table(answers: Mapping[str, Answer], test: BlockSet, *, seed: int) -> list[dict[str, object]]:
    """A row for each system, `SHOWN`, and `<name>_low`, `<name>_high` for those of `BOUNDED`.

    Where boosted trees are among the systems, `<name>_gain` is the difference to theirs, with
    `<name>_gain_low`, `<name>_gain_high`. Intervals hold 95 % of a bootstrap over sequences, the
    same draws for all systems: blocks of one sequence are alike (Efron and Tibshirani 1993,
    chapter 13).
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(test.sequence == k) for k in np.unique(test.sequence)]
    draws = [rng.integers(0, len(groups), len(groups)) for _ in range(DRAWS)]
    rows, bounds = [], {name: _bounds(a, test.labels, groups, draws) for name, a in answers.items()}
    for name, answer in answers.items():
        _, found = type_scores(answer.types, answer.hard, test.labels)
        row: dict[str, object] = {"system": name, **{key: found[key] for key in SHOWN}}
        for key, values in bounds[name].items():
            row[f"{key}_low"], row[f"{key}_high"] = np.quantile(values, (0.025, 0.975))
        rows.append(row)
    reference = next((row for row in rows if row["system"] == TREES), None)
    for row in rows if reference is not None else []:
        for key in BOUNDED:
            gains = bounds[row["system"]][key] - bounds[TREES][key]
            row[f"{key}_gain"] = row[key] - reference[key]
            row[f"{key}_gain_low"], row[f"{key}_gain_high"] = np.quantile(gains, (0.025, 0.975))
    return rows


def _bounds(answer, labels, groups: Sequence[np.ndarray], draws) -> dict[str, np.ndarray]:
    """Values of the metrics in each draw, from the groups' own counts."""
    count = len(TYPES)
    tables = np.stack([classes.confusion(labels[g], answer.hard[g], count) for g in groups])
    near = [classes.top_k(answer.types[g], labels[g], 3) * len(g) for g in groups]
    sizes = np.array([len(g) for g in groups])
    near_counts = np.array(near)
    scores = [classes.scores(tables[draw].sum(0)) for draw in draws]
    return {
        "accuracy": np.array([score.accuracy for score in scores]),
        "macro_f1": np.array([score.macro_f1 for score in scores]),
        "top3": np.array([near_counts[draw].sum() / sizes[draw].sum() for draw in draws]),
    }


def networks(
    nets: Mapping[str, nnx.Module],
    train: BlockSet,
    val: BlockSet,
    test: BlockSet,
    *,
    threshold: float,
    say: Callable[[str], None],
) -> tuple[dict[str, Answer], dict[str, dict[str, np.ndarray]]]:
    """The answers of trained nets, and their raw outputs by name.

    A pipeline answers twice: with stage 1's threshold at one half, and at the one chosen on
    held-out blocks. A multi-task net answers by its flat head, by the mean of eight views, by
    each of these with rare types favoured, and by the product along the tree.
    """
    answers, outputs = {}, {}
    for name, net in nets.items():
        say(f"report: {name} on {len(test)} test blocks")
        out = outputs[name] = run(net, test)
        if isinstance(net, Pipeline):
            answers[name] = Answer(out["types"], out["hard"])
            chosen = np.where(out["binary"] >= threshold, out["parts"], NONE)
            answers[f"{name}, threshold {threshold:.2f}"] = Answer(out["types"], chosen)
        else:
            prior = frequencies(train.labels)
            held, views = run(net, val)["types"], f"{name}, eight views"
            held_views, test_views = (by_eight_views(net, found) for found in (val, test))
            answers[name] = _likeliest(out["types"])
            answers |= favoured(name, prior, held, val.labels, out["types"])
            answers[views] = _likeliest(test_views)
            answers |= favoured(views, prior, held_views, val.labels, test_views)
            answers[f"{name}, along the tree"] = _likeliest(out["assembled"])
    return answers, outputs


def _likeliest(types: np.ndarray) -> Answer:
    return Answer(types, types.argmax(-1))
