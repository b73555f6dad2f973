"""The embedded photographs: there, free, and apart."""

import inspect
import re

import pytest
from skimage import data

from jaxvision.data import photographs as embedded
from jaxvision.data.images import image_size
from jaxvision.data.photographs import TEST, TRAIN, photographs

CALLED = {"clock_motion": "clock", "ihc": "immunohistochemistry"}  # by scikit-image
FREE = "CC0|public domain|known copyright restrictions"


@pytest.mark.parametrize("name", [*TRAIN, *TEST])
def test_scikit_image_states_the_terms_of_each(name):
    stem = name.split(".")[0]
    stated = set(re.findall(FREE, inspect.getdoc(getattr(data, CALLED.get(stem, stem)))))
    told = (TRAIN | TEST)[name]
    assert stated & set(re.findall(FREE, told)), f"{name}: told {told!r}, stated {stated}"


def test_photographs_are_large_and_none_is_in_both_splits():
    split = photographs()
    assert [path.stem for path in split["val"]] == ["astronaut", "chelsea", "coffee"]
    assert not set(split["train"]) & set(split["val"])
    assert min(min(image_size(path)) for paths in split.values() for path in paths) >= 256


def test_a_photograph_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(embedded, "TRAIN", {"gone.png": "nothing"})
    with pytest.raises(FileNotFoundError, match="gone.png.*give --config.data.root=FOLDER"):
        photographs()
