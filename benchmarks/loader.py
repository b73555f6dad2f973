"""Images per second of the loader against a plain OpenCV loop, in one run on the same files.

    python benchmarks/loader.py

The plain loop is what one writes first: imread, resize to the canvas, half of the images flipped,
in one process, with OpenCV's own threads and without; ratios are to the faster one. The loader does
more (exact letterbox or scale jitter with crop, boxes, colour, batches of fixed shape), in two
threads or two processes. Rounds alternate, so that other load falls on all alike; what was read
ahead is thrown away before the clock starts, and the pause after a round lets the readers fill up
and fall idle. CPU time per image (of this process, so not for workers) does not depend on what
else runs.
"""

import dataclasses
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from absl import app, flags

from jaxvision.data.coco import CocoSource
from jaxvision.data.pipeline import batches, iterate
from jaxvision.data.transforms import AugmentConfig, train_examples

_SIZE = flags.DEFINE_integer("size", 640, "side of the canvas")
_FILES = flags.DEFINE_integer("files", 48, "images made of each width")
_WIDTHS = flags.DEFINE_list("widths", ["640", "1920"], "their widths; the height is 3/4 of it")
_BATCH = flags.DEFINE_integer("batch", 8, "images in a batch")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "rounds of each contestant")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "length of a round")
_PAUSE = flags.DEFINE_float("pause", 0.5, "seconds between rounds")
_OUT = flags.DEFINE_string("out", "", "JSON file for the result")

_READ_AHEAD = 6  # batches that may wait: 2 workers x 2, and one in each worker's hands


def make(root: Path, count: int, width: int) -> None:
    """JPEGs of smooth shapes with fine grain, about as hard to decode as photographs."""
    rng = np.random.default_rng(0)
    height = width * 3 // 4
    records, annotations = [], []
    for k in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 6, (height, width, 1))
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / f"{k}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        records.append(dict(id=k, file_name=f"{k}.jpg", width=width, height=height))
        for n in range(5):
            x, y = rng.uniform(0, width - 60), rng.uniform(0, height - 60)
            box = dict(image_id=k, category_id=1, bbox=[x, y, 40.0, 30.0])
            annotations.append(box | dict(id=5 * k + n))
    data = dict(images=records, annotations=annotations, categories=[dict(id=1, name="thing")])
    (root / "annotations.json").write_text(json.dumps(data))


def plain(files: list[str], size: int) -> Callable[[], int]:
    """Reads one image a call as one would without a loader."""
    rng, at = np.random.default_rng(0), 0

    def step() -> int:
        nonlocal at
        image = cv2.resize(cv2.imread(files[at % len(files)]), (size, size))
        at += 1
        if rng.random() < 0.5:
            image = cv2.flip(image, 1)
        return len(image[None])

    return step


def contestants(root: Path) -> dict[str, tuple[Callable[[], int], int, int]]:
    """What reads some images, how many calls clear what was read ahead, and OpenCV's threads."""
    source = CocoSource.load(root, root / "annotations.json", broken="error")
    side = _SIZE.value
    nothing = AugmentConfig.none()
    rows = {
        "flip": dataclasses.replace(nothing, flip=0.5),
        "augmented": AugmentConfig(),
    }
    files = [str(source.path(i)) for i in range(len(source))]
    made = {
        "plain, 1 thread": (plain(files, side), 1, 1),
        "plain, OpenCV's threads": (plain(files, side), 1, cv2.getNumberOfCPUs()),
    }
    for name, augment in rows.items():
        examples = train_examples(source, augment, size=(side, side), max_boxes=100, seed=0)
        endless = batches(examples, batch=_BATCH.value, repeat=True)
        for kind in ("threads", "workers"):
            read = iterate(endless, **{kind: 2})
            made[f"{name}, 2 {kind}"] = (functools.partial(read_one, read), _READ_AHEAD, 1)
    return made


def read_one(batches_read: Iterator) -> int:
    return len(next(batches_read)["image"])


def measure(made: dict[str, tuple[Callable[[], int], int, int]]) -> dict[str, np.ndarray]:
    """Images a second and CPU milliseconds an image of every round: `[rounds 2]`."""
    results: dict[str, list] = {name: [] for name in made}
    for _ in range(_ROUNDS.value):
        for name, (step, ahead, opencv_threads) in made.items():
            time.sleep(_PAUSE.value)
            cv2.setNumThreads(opencv_threads)
            for _ in range(ahead):
                step()
            count, start, cpu = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - start < _SECONDS.value:
                count += step()
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            results[name].append((count / wall, 1e3 * cpu / count))
    return {name: np.array(rounds) for name, rounds in results.items()}


def report(results: dict[str, np.ndarray], width: int) -> dict[str, dict]:
    print(f"{width} x {width * 3 // 4} JPEG to {_SIZE.value}, {os.cpu_count()} cores")
    table = {}
    plains = [rounds for name, rounds in results.items() if name.startswith("plain")]
    base = max(plains, key=lambda rounds: np.median(rounds[:, 0]))
    for name, rounds in results.items():
        rate, cpu = np.median(rounds, axis=0)
        ratio = float(np.median(rounds[:, 0] / base[:, 0]))
        cpu = None if "workers" in name else round(float(cpu), 2)
        table[name] = dict(images_per_s=round(float(rate), 1), ratio=round(ratio, 2), cpu_ms=cpu)
        low, high = rounds[:, 0].min(), rounds[:, 0].max()
        shown = "" if cpu is None else f"{cpu:7.2f} ms CPU an image"
        speed = f"{rate:7.1f} images/s ({low:.0f} to {high:.0f})"
        print(f"  {name:24s} {speed}  {ratio:5.2f} x plain {shown}")
    return table


def main(argv) -> None:
    del argv
    tables = {}
    for width in map(int, _WIDTHS.value):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), _FILES.value, width)
            made = contestants(Path(folder))
            tables[width] = report(measure(made), width)
            for step, *_ in made.values():
                if isinstance(step, functools.partial):
                    step.args[0].close()
    if _OUT.value:
        hardware = dict(cores=os.cpu_count(), python=sys.version.split()[0], opencv=cv2.__version__)
        Path(_OUT.value).write_text(json.dumps(dict(hardware=hardware, results=tables), indent=1))


if __name__ == "__main__":
    app.run(main)
