"""Where the files of a data set in COCO's form lie: its folders, its splits and its file names."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.data.annotations import Keep

_CHUNK = 1 << 20
_ALSO = {"val": ("valid", "validation")}  # Roboflow's name, and another common one


def find(root: str | os.PathLike, split: str) -> tuple[Path, Path]:
    """The images folder and the annotations file of a split of the data set in `root`.

    COCO's own layout is `annotations/instances_<split>.json` with `<split>/`; the JSON may also lie
    in `root`, or be `<split>/_annotations.coco.json` or `annotations.json`. `train` also finds the
    only `instances_train<year>.json`; `val` also finds all that is called `valid` (Roboflow) or
    `validation`. The images are looked for by the first name that the JSON lists: in `<split>/`,
    `images/<split>/`, `images/`, beside the JSON, in `root` and its folders; never in the folder of
    another split, whose pictures may have the same names.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: no such folder; it should hold images and COCO annotations"
        )
    annotations = _find_annotations(root, split)
    return _find_images(root, split, annotations), annotations


def holdout(field: str, modulus: int, remainder: int, inverse: bool = False) -> Keep:
    """Keeps the images whose `field` ends in a number n with `n % modulus == remainder`.

    `inverse` keeps the others: the same three values thus split a file in two, by clip for
    instance, so that no frame of a held-out clip is trained on.
    """
    whole = all(type(n) is int for n in (modulus, remainder))
    if not (isinstance(field, str) and whole):
        raise ValueError(
            f"holdout: {(field, modulus, remainder)} must be a field's name and two whole numbers, "
            "as ('clip', 5, 1)"
        )
    if modulus < 2 or not 0 <= remainder < modulus:
        raise ValueError(f"holdout: remainder {remainder} must be from 0 to modulus {modulus} - 1")

    def keep(image: Mapping[str, Any]) -> bool:
        if field not in image:
            raise ValueError(f"holdout: images have no field {field!r}; they have {sorted(image)}")
        digits = re.search(r"(\d+)$", str(image[field]))
        if not digits:
            raise ValueError(f"holdout: {field} {image[field]!r} does not end in a number")
        return (int(digits[1]) % modulus == remainder) != inverse

    return keep


def _find_annotations(root: Path, split: str) -> Path:
    for name in _names(split):
        for path in _places(root, name):
            if path.is_file():
                return path
        for folder in (root / "annotations", root):
            dated = sorted(folder.glob(f"instances_{name}[0-9]*.json"))
            if len(dated) > 1:
                raise ValueError(
                    f"{root}: split {split!r} may be {' or '.join(p.name for p in dated)}; name one"
                )
            if dated:
                return dated[0]
    if (root / "annotations.json").is_file():
        return root / "annotations.json"
    there = [str(p.relative_to(root)) for p in sorted(root.glob("*.json"))]
    there += [str(p.relative_to(root)) for p in sorted(root.glob("*/*.json"))]
    raise FileNotFoundError(
        f"{root}: no annotations for split {split!r}: expected "
        f"{', '.join(str(p.relative_to(root)) for p in _places(root, split))} or annotations.json; "
        f"there is {', '.join(there[:6]) or 'no JSON file'}"
    )


def _names(split: str) -> tuple[str, ...]:
    """What a split may be called."""
    return (split, *_ALSO.get(split, ()))


def _places(root: Path, name: str) -> list[Path]:
    return [
        root / "annotations" / f"instances_{name}.json",
        root / f"instances_{name}.json",
        root / name / "_annotations.coco.json",
    ]


def _find_images(root: Path, split: str, annotations: Path) -> Path:
    stem = annotations.stem.removeprefix("instances_")
    names = (stem, *_names(split))
    near = [root / name for name in names] + [root / "images" / name for name in names]
    near += [root / "images", annotations.parent, root]
    near += sorted(p for p in root.iterdir() if p.is_dir())
    others = _splits(root) - set(names)
    folders = [f for f in dict.fromkeys(near) if f.is_dir() and (f == root or f.name not in others)]
    name = _first_file_name(annotations)
    for folder in folders:
        if name and not missing_files(folder, [name]):
            return folder
    if (root / stem).is_dir():  # the first image may be the one that is missing
        return root / stem
    raise FileNotFoundError(
        f"{root}: image {name!r} of {annotations.name} is in none of "
        f"{', '.join(str(f.relative_to(root)) for f in folders)}"
    )


def _splits(root: Path) -> set[str]:
    """The splits that have annotations of their own in `root`."""
    named = [*root.glob("instances_*.json"), *root.glob("annotations/instances_*.json")]
    own = {path.stem.removeprefix("instances_") for path in named}
    return own | {path.parent.name for path in root.glob("*/_annotations.coco.json")}


def _first_file_name(annotations: Path) -> str | None:
    """The first `file_name` in a JSON file, without parsing what may be half a gigabyte."""
    text = b""
    with annotations.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            text = text[-_CHUNK:] + chunk
            match = re.search(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")', text)
            if match:
                return json.loads(match[1])
    return None


def missing_files(folder: Path, names: Sequence[str]) -> list[int]:
    """The places of `names` that `folder` lacks; every folder named is listed once."""
    listed: dict[Path, set[str]] = {}
    missing = []
    for place, name in enumerate(names):
        path = folder / name
        if path.parent not in listed:
            listed[path.parent] = set(_list(path.parent))
        if path.name not in listed[path.parent]:
            missing.append(place)
    return missing


def _list(folder: Path) -> Iterable[str]:
    return os.listdir(folder) if folder.is_dir() else ()
