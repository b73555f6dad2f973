"""Scenes for the doctor to look at, and what it finds in them."""

import json
import shutil

import pytest

from jaxvision.data.doctor import ERROR, OK, WARN, examine
from jaxvision.data.skywatch import generate

QUIET = ("classes", "resolution", "empty images")  # checks that a handful of scenes cannot pass


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("doctor") / "scenes"
    return generate(root, train=10, val=6, size=96, seed=1, workers=1)


@pytest.fixture
def root(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(original, tmp_path / "scenes")


def edit(root, split="train"):
    """The JSON of a split, and a function that writes it back."""
    path = root / "annotations" / f"instances_{split}.json"
    data = json.loads(path.read_text())
    return data, lambda new=None: path.write_text(json.dumps(data if new is None else new))


def examined(root, **options):
    """(level, check) -> text of all findings, the quiet ones left out."""
    report = examine(root, **{"size": (96, 96), **options})
    found = {}
    for split, findings in report.findings.items():
        for f in findings:
            assert f.level in (OK, WARN, ERROR) and (f.mend or f.level == OK)
            if f.check not in QUIET:
                found.setdefault((f.level, f.check), "")
                found[f.level, f.check] += f"{split}: {f.text}\n"
    return found


def problems(root, **options):
    return {key: text for key, text in examined(root, **options).items() if key[0] != OK}
