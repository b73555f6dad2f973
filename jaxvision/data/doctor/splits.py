"""Which splits a folder holds, and whether they agree about the classes."""

from collections.abc import Sequence
from pathlib import Path

from jaxvision.data.annotations import Counts, Keep, read
from jaxvision.data.doctor.finding import ERROR, OK, WARN, Finding, some
from jaxvision.data.doctor.table import Table
from jaxvision.data.images import image_size
from jaxvision.data.layout import find, holdout
from jaxvision.errors import one_line

EXPECTED = (
    "annotations/instances_<split>.json, instances_<split>.json, <split>/_annotations.coco.json or "
    "annotations.json"
)
RENAME = (
    "rename the file, or name another split (--train, --val; --config.data.train, "
    "--config.data.val when training)"
)
HOLD_OUT = (
    "hold out a part to evaluate on: --holdout id 10 0, and when training "
    "--config.data.holdout=\"('id', 10, 0)\""
)


def discover(root: Path) -> tuple[list[tuple[str, Path, Path]], list[Finding]]:
    """(name, images folder, annotations file) of every split in `root`, as `find` finds them."""
    names = []
    for folder in (root / "annotations", root):
        found = sorted(folder.glob("instances_*.json"))
        names += [path.stem.removeprefix("instances_") for path in found]
    names += sorted(path.parent.name for path in root.glob("*/_annotations.coco.json"))
    if not names and (root / "annotations.json").is_file():
        names = ["annotations"]
    splits, findings = [], []
    for name in dict.fromkeys(names):
        try:
            splits.append((name, *find(root, name)))
        except (FileNotFoundError, ValueError) as error:
            mend = "give --images and --annotations (data.images, data.annotations when training)"
            findings.append(Finding(ERROR, "layout", f"{name}: {error}", mend))
    if not names:
        there = some(sorted(p.name for p in root.iterdir())) or "nothing"
        text = f"{root}: no annotations; it holds {there}"
        mend = f"expected is {EXPECTED}; or give --images and --annotations"
        findings.append(Finding(ERROR, "layout", text, mend))
    return splits, findings


def asked_for(root: Path, *, train: str, val: str, rule: tuple) -> list[Finding]:
    """Whether a training finds the splits that it asks for, and each in a file of its own."""
    places, findings = {}, []
    for name in dict.fromkeys((train,) if rule else (train, val)):
        try:
            places[name] = find(root, name)
        except (FileNotFoundError, ValueError) as error:
            mend = RENAME if name == train else f"{HOLD_OUT}; or {RENAME}"
            findings.append(Finding(ERROR, "splits", f"{name}: {error}", mend))
    if len(places) > len({file for _, file in places.values()}):
        name = places[train][1].name
        text = f"{train} and {val} are one file, {name}: what is left to evaluate on?"
        findings.append(Finding(ERROR, "splits", text, HOLD_OUT))
    return [*findings, *(_parts(*places[train], rule) if rule and places else [])]


def _parts(folder: Path, file: Path, rule: tuple) -> list[Finding]:
    """What a holdout makes of one file."""
    keeps = [holdout(*rule, inverse) for inverse in (True, False)]
    mend = "give a field that ends in a number, with remainders of which some are held out"
    try:
        train, val = (_counts(folder, file, keep) for keep in keeps)
    except (ValueError, OSError) as error:
        return [Finding(ERROR, "holdout", one_line(error, {}), mend)]
    findings = [Finding(OK, "holdout", f"{train.images} images to train on, {val.images} held out")]
    for counts, part in ((train, "what is trained on"), (val, "what is held out")):
        if useless := counts.useless():
            findings.append(Finding(ERROR, "holdout", f"{part} has {useless}", mend))
    return findings


def as_in_training(folder: Path, file: Path) -> Finding:
    """What the reading that a training does makes of one file."""
    try:
        counts = _counts(folder, file)
    except (ValueError, OSError) as error:
        text = f"training stops at this file: {one_line(error, {})}"
        return Finding(ERROR, "training", text, "mend that entry, and all that are like it")
    if useless := counts.useless():
        mend = "label the objects, or export their boxes again"
        return Finding(ERROR, "training", f"training refuses this split: {useless}", mend)
    text = f"training takes {counts.objects} objects in {counts.images} images"
    return Finding(OK, "training", text)


def _counts(folder: Path, file: Path, keep: Keep | None = None) -> Counts:
    return read(file, keep=keep, size_of=lambda name: image_size(folder / name)).counts


def compare(tables: Sequence[Table]) -> list[Finding]:
    """Differences in classes between the first split that trains and each other one."""
    if len(tables) < 2:
        return []
    first = next((t for t in tables if t.name.startswith("train")), tables[0])
    findings = []
    for other in tables:
        if other is not first:
            findings += _compare(first, other)
    if findings:
        return findings
    names = " and ".join(t.name for t in tables)
    return [Finding(OK, "category map", f"{names} have the same classes under the same ids")]


def _compare(first: Table, other: Table) -> list[Finding]:
    ids = [{name: i for i, name in t.categories.items()} for t in (first, other)]
    ranks = [
        {t.categories[c]: k for k, c in enumerate(sorted(t.categories))} for t in (first, other)
    ]
    used = {other.categories.get(c) for c in other.category}
    findings = []
    new = [name for name in ids[1] if name not in ids[0]]
    if new:
        level = ERROR if used & set(new) else WARN
        text = f"classes of {other.name} that {first.name} lacks: {some(new)}"
        mend = "use one list of categories for all splits (spelling and capitals count)"
        findings.append(Finding(level, "category map", text, mend))
    gone = [name for name in ids[0] if name not in ids[1]]
    if gone:
        text = f"classes of {first.name} that {other.name} lacks: {some(gone)}"
        mend = "copy the list of categories, also of classes that have no box there"
        findings.append(Finding(WARN, "category map", text, mend))
    both = [name for name in ids[0] if name in ids[1]]
    moved = [name for name in both if ids[0][name] != ids[1][name]]
    if moved:
        turned = [name for name in both if ranks[0][name] != ranks[1][name]]
        shown = some(f"{n} {ids[0][n]} -> {ids[1][n]}" for n in moved)
        text = f"same name, other id in {first.name} and {other.name}: {shown}"
        mend = "write both splits with one list of categories"
        findings.append(Finding(ERROR if turned else WARN, "category map", text, mend))
    return findings
