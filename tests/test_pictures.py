"""Crops of photographs: by index alone, of every size of picture."""

import pickle

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import pictures
from jaxvision.data.pictures import (
    CentreCrops,
    Crops,
    PicturesConfig,
    random_crop,
    split_pictures,
)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "below").mkdir()
    for i, size in enumerate([(40, 50), (9, 30), (33, 32), (64, 80)]):
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        image.save(tmp_path / ("below" if i % 2 else ".") / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_splits_hold_every_nth_out_or_read_a_folder_of_their_own(folder):
    names = lambda paths: [p.name for p in paths]  # noqa: E731
    split = split_pictures(PicturesConfig(root=str(folder), holdout=3))
    assert (names(split["train"]), names(split["val"])) == (["2.png", "1.png"], ["0.png", "3.png"])
    both = split_pictures(PicturesConfig(root=str(folder), val=str(folder / "below")))
    assert len(both["train"]) == 4 and names(both["val"]) == ["1.png", "3.png"]


def test_without_a_folder_the_photographs_that_are_embedded_are_taken(folder, caplog):
    pictures._embedded.cache_clear()
    split = split_pictures(PicturesConfig())
    assert [p.stem for p in split["val"]] == ["astronaut", "chelsea", "coffee"]
    assert len(split["train"]) == 10 and "10 photographs of scikit-image" in caplog.text
    other = split_pictures(PicturesConfig(val=str(folder)))
    assert (len(other["val"]), other["train"]) == (4, split["train"])
    assert split_pictures(PicturesConfig()) == split  # and is not changed by that
    assert len(caplog.records) == 1


def test_crops_depend_on_seed_and_index_alone(folder):
    cfg = PicturesConfig(root=str(folder), crop=16)
    paths = split_pictures(cfg)["train"]
    crops = Crops(paths, cfg, seed=1)
    first = [crops[g]["image"] for g in range(12)]  # beyond an epoch
    assert {x.shape for x in first} == {(16, 16, 3)} and first[0].dtype == np.uint8
    again = pickle.loads(pickle.dumps(Crops(paths, cfg, seed=1)))  # as a worker process has it
    for g in (11, 0, 5):
        np.testing.assert_array_equal(again[g]["image"], first[g])
    other = Crops(paths, cfg, seed=2)
    assert any((other[g]["image"] != first[g]).any() for g in range(3))


def test_a_crop_without_scaling_is_a_part_of_its_picture(folder):
    cfg = PicturesConfig(root=str(folder), crop=16, scale=1.0)
    path = folder / "below" / "3.png"
    image = np.asarray(Image.open(path))
    crop = Crops([path], cfg, seed=0)[0]["image"]
    windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16), axis=(0, 1))
    windows = windows.transpose(0, 1, 3, 4, 2)
    found = [(windows == c).all((2, 3, 4)).any() for c in (crop, crop[:, ::-1])]
    assert any(found)


def test_a_crop_is_shrunk_no_more_than_asked_for():
    ramp = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], 120, 0).repeat(3, 2)
    steps = []
    for seed in range(40):  # a ramp of 2 a pixel: its slope tells by how much it was shrunk
        crop = random_crop(ramp, 20, scale=0.25, rng=np.random.default_rng(seed))
        assert crop.shape == (20, 20, 3)
        steps.append(abs(int(crop[0, -1, 0]) - int(crop[0, 0, 0])) / 19)
    assert 1.9 < min(steps) < 3 and 6 < max(steps) < 8.2  # from 2 to 2 / 0.25


def test_centre_crops_enlarge_what_is_small(folder):
    crops = CentreCrops([folder / "below" / "1.png", folder / "0.png"], crop=24)
    assert [crops[i]["image"].shape for i in range(2)] == [(24, 24, 3)] * 2
    image = np.asarray(Image.open(folder / "0.png"))
    np.testing.assert_array_equal(crops[1]["image"], image[8:32, 13:37])


def test_what_is_missing_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for cfg, error, message in (
        (PicturesConfig(root=str(tmp_path / "none")), FileNotFoundError, "none: there is no such"),
        (PicturesConfig(root=str(tmp_path / "empty")), ValueError, "empty holds no picture"),
    ):
        with pytest.raises(error, match=message):
            split_pictures(cfg)
    for field, value in (("crop", 7), ("holdout", 1), ("scale", 0.0), ("scale", 1.5)):
        with pytest.raises(ValueError, match=f"data.{field}={value}"):
            PicturesConfig(**{field: value})
