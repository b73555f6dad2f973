"""Does what stage 1 has learned help stage 2, and how is it best handed on?

    python benchmarks/negative_transfer.py --out=benchmarks/results/negative_transfer.json

Stage 2 tells SPLIT, RECT and AB apart. Each arm trains it another way, on the same blocks, from the
same stage 1 of each seed; one backbone for all stages gets the steps of stage 1 and of stage 2:

scratch         a backbone of its own
head            stage 1's backbone as it is, a new head
sequential      that, then all of it at one rate: the recipe that is said to forget
discriminative  the same with a tenth of the rate for the backbone
adapters        stage 1's backbone as it is, with adapters of stage 2's own
multitask       one backbone for all stages at once
regret          that, and what a wrong type costs the encoder more than the right one

Printed and kept: macro-F1 on the test blocks that are partitioned, for each seed, and the mean
difference to `sequential` with a bootstrap over test clips (95 %) of the seeds' mean.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import loop, settings
from jaxvision.agreement import Interrupt
from jaxvision.bench import hardware
from jaxvision.cnn_av1 import comparison
from jaxvision.cnn_av1.classes import MACRO, stage_labels
from jaxvision.cnn_av1.data import DataConfig, PartitionData
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.task import build
from jaxvision.metrics import classes
from jaxvision.sharding import make_mesh
from jaxvision.start import restore_model
from jaxvision.written import whole_file

CONFIG = Path(__file__).parent.parent / "configs" / "cnn_av1.py"
ARMS = ("scratch", "head", "sequential", "discriminative", "adapters", "multitask", "regret")
REFERENCE = "sequential"
WIDE_HEAD = "^head/(?!temperature)"
EVERYTHING = ".*(?<!temperature)$"
ADAPTERS = 16  # hidden channels
REGRET = 1.0  # its weight beside the likelihoods
DRAWS = 2000


def arm_config(arm: str, seed: int, steps: int, *, tiny: bool) -> ConfigDict:
    """The run of an arm: the stages' names in order, the last one of which is measured."""
    config = settings.load(f"{CONFIG}:{'tiny' if tiny else 'base'}")
    config.seed = seed
    stages = config.stages
    stage2 = stages.stage2.to_dict() | dict(lr_scale=(), adapters=0)
    stage2["loss"] |= dict(mixup=0.0)  # a multi-task net has none
    with config.unlocked():
        stages.stage1.steps = steps
        stages.head = ConfigDict(stage2 | dict(train=WIDE_HEAD, init_from=("stage1",)))
        stages.sequential = ConfigDict(stage2 | dict(init_from=("head",)))
        slow = (("^backbone/", 0.1),)
        stages.discriminative = ConfigDict(stage2 | dict(init_from=("head",), lr_scale=slow))
        stages.scratch = ConfigDict(stage2 | dict(init_from=()))
        own = "^(head/(?!temperature)|adapters/)"
        stages.adapters = ConfigDict(
            stage2 | dict(init_from=("stage1",), adapters=ADAPTERS, train=own)
        )
        one_size = dict(sizes=(16,), shares=(1.0,), left=0.0)  # the blocks of the other arms
        many = stages.multitask.to_dict() | one_size | dict(batch=stage2["batch"])
        loss = many["loss"] | dict(form=stage2["loss"]["form"], symmetry=stage2["loss"]["symmetry"])
        stages.multitask = ConfigDict(many | dict(loss=loss | dict(regret=0.0)))
        stages.regret = ConfigDict(many | dict(loss=loss | dict(regret=REGRET)))
    for name in (*ARMS, "stage1"):
        share = {"head": 0.5, "multitask": 2, "regret": 2}.get(name, 1)
        stages[name].steps = int(share * steps)
        stages[name].eval_every = stages[name].save_every = max(steps // 4, 2)
        stages[name].warmup = steps // 20
        stages[name].patience = None
        stages[name].best = ""  # the last checkpoint, of all alike
    after = {"head": (), "adapters": (), "sequential": ("head",), "discriminative": ("head",)}
    config.run = (*(("stage1",) if arm in after else ()), *after.get(arm, ()), arm)
    return config


def measure(arm: str, config: ConfigDict, workdir: Path, data: PartitionData) -> np.ndarray:
    """Trains what is not there yet; the confusion of each test clip, int64 `[clips 3 3]`."""
    experiment = build(config)
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    with Interrupt(print) as interrupt:
        for stage in experiment.stages.values():
            loop.fit(stage, workdir, mesh, interrupt=interrupt)
            if interrupt.reason:
                raise SystemExit(f"stopped ({interrupt.reason}); with --workdir it goes on")
    net, _ = restore_model(experiment.stages[arm], workdir)
    test = data.stage_blocks("test", "macro")
    labels = stage_labels(test.labels, "macro")
    if isinstance(net, MultiTask):
        found = comparison.run(net, test)["macro"].argmax(-1)
    else:
        found = comparison.classes_of(net, test).argmax(-1)
    clips = np.unique(test.sequence)
    return np.stack(
        [classes.confusion(labels[test.sequence == k], found[test.sequence == k], 3) for k in clips]
    )


def macro_f1(counts: np.ndarray) -> float:
    return classes.scores(counts).macro_f1


def summary(found: dict[str, list[np.ndarray]], *, seed: int = 0) -> dict[str, dict]:
    """By arm: macro-F1 of every seed and class, the mean, and the difference to the reference."""
    rng = np.random.default_rng(seed)
    clips = len(found[REFERENCE][0])
    draws = [rng.integers(0, clips, clips) for _ in range(DRAWS)]

    def means(tables):
        return np.array([np.mean([macro_f1(t[draw].sum(0)) for t in tables]) for draw in draws])

    base, out = means(found[REFERENCE]), {}
    reference = float(np.mean([macro_f1(table.sum(0)) for table in found[REFERENCE]]))
    for arm, tables in found.items():
        whole = [classes.scores(table.sum(0)) for table in tables]
        drawn = means(tables)
        out[arm] = {
            "macro_f1": [score.macro_f1 for score in whole],
            "f1": np.mean([score.f1 for score in whole], axis=0).tolist(),
            "mean": float(np.mean([score.macro_f1 for score in whole])),
            "interval": np.quantile(drawn, (0.025, 0.975)).tolist(),
            "difference": float(np.mean([score.macro_f1 for score in whole]) - reference),
            "difference_interval": np.quantile(drawn - base, (0.025, 0.975)).tolist(),
        }
    return out


def table(results: dict[str, dict]) -> str:
    lines = [f"| arm | macro-F1 | {' | '.join(MACRO)} | difference to {REFERENCE} |"]
    lines += [f"| --- | --- | {' | '.join(['---'] * len(MACRO))} | --- |"]
    for arm, row in results.items():
        low, high = row["interval"]
        near, far = row["difference_interval"]
        each = " | ".join(f"{value:.3f}" for value in row["f1"])
        lines.append(
            f"| {arm} | {row['mean']:.3f} [{low:.3f}, {high:.3f}] | {each} | "
            f"{row['difference']:+.3f} [{near:+.3f}, {far:+.3f}] |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="results as JSON")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of 128 blocks, for each arm")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--workdir", type=Path, help="keeps the runs, and goes on where they were")
    parser.add_argument("--tiny", action="store_true", help="the tiny preset: does it run?")
    given = parser.parse_args(arguments)
    arms = given.arms.split(",")
    for arm in arms:
        if arm not in ARMS:
            parser.error(f"arm {arm!r} is none of {', '.join(ARMS)}")
    if REFERENCE not in arms or given.seeds < 1 or given.steps < 4:
        parser.error(f"--arms must hold {REFERENCE}; --seeds at least 1, --steps 4")
    with tempfile.TemporaryDirectory() as temporary:
        workdir, begun = given.workdir or Path(temporary), time.perf_counter()
        found: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
        for seed in range(given.seeds):
            for arm in arms:
                config = arm_config(arm, seed, given.steps, tiny=given.tiny)
                data = PartitionData(
                    configs.from_config(DataConfig, config.data, path="data."), seed=seed
                )
                counts = measure(arm, config, workdir / str(seed), data)
                found[arm].append(counts)
                took = time.perf_counter() - begun
                score = macro_f1(counts.sum(0))
                print(f"seed {seed} {arm}: macro-F1 {score:.3f}, {took:.0f} s", flush=True)
    results = summary(found)
    print(table(results))
    if given.out:
        record = {
            "hardware": hardware(jax.devices()[0]),
            "jax": jax.__version__,
            "seeds": given.seeds,
            "steps": given.steps,
            "test_blocks": int(found[arms[0]][0].sum()),
            "arms": results,
        }
        with whole_file(given.out) as part:
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
