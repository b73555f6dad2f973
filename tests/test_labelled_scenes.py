"""Drawn scenes: each object has its mask and its box, each scene its class."""

import pickle

import numpy as np
from labelled_folder import tight

from jaxvision.data.labelled import LabelledConfig, LabelledData, ScenesConfig
from jaxvision.data.labelled.scenes import CLASSES, scene


def test_each_drawn_object_has_its_tight_box_and_the_commonest_class_names_the_scene():
    data = LabelledData(LabelledConfig(size=96), seed=3)
    rows, seen = data.rows("train"), np.zeros(len(CLASSES), int)
    several = 0
    for g in range(60):
        row = rows[g]
        real = row["labels"] >= 0
        left = row["segments"].copy()
        for box, label in zip(row["boxes"][real].astype(int), row["labels"][real], strict=True):
            x0, y0, x1, y1 = box
            inside = np.zeros_like(left, bool)
            inside[y0:y1, x0:x1] = row["segments"][y0:y1, x0:x1] == label + 1
            assert tight(inside) == box.tolist()
            left[inside] = 0
        assert not left.any()  # all else is background
        counts = np.bincount(row["labels"][real], minlength=len(CLASSES))
        several += np.count_nonzero(counts) > 1
        if real.any():
            assert counts[row["action"]] == counts.max() and (counts == counts.max()).sum() == 1
        else:
            assert row["action"] == -1
        seen += counts
        assert not row["crowd"].any() and not row["boxes"][~real].any()
    assert (seen > 0).all() and several > 5


def test_objects_are_painted_where_their_masks_say():
    behind = np.full((96, 96, 3), 128, np.uint8)
    for seed in range(8):
        cfg = ScenesConfig(empty=0.0, length=(0.3, 0.4))
        sample = scene(behind, cfg, np.random.default_rng(seed))
        change = np.abs(sample["image"].astype(int) - 128).max(axis=-1)
        objects = sample["segments"] > 0
        assert (change[objects] > 8).mean() > 0.9  # the least contrast is 0.16 of white, on average
        near = np.zeros_like(objects)  # blades and rotors reach out of the box
        for x0, y0, x1, y1 in sample["boxes"].astype(int):
            near[max(0, y0 - 12) : y1 + 12, max(0, x0 - 12) : x1 + 12] = True
        assert (change[~near] == 0).all() and (~near).any()


def test_scenes_depend_on_seed_and_index_alone_and_share_no_photograph():
    cfg = LabelledConfig(size=48, seed=7)
    first = LabelledData(cfg, seed=1)
    again = pickle.loads(pickle.dumps(LabelledData(cfg, seed=1).rows("train")))
    drawn = [first.rows("train")[g] for g in (5, 4096 + 5)]  # an epoch is of new scenes
    for g, row in zip((4096 + 5, 5), drawn[::-1], strict=True):
        assert all(np.array_equal(again[g][key], row[key]) for key in row)
    assert (drawn[0]["image"] != drawn[1]["image"]).any()
    other = LabelledData(cfg, seed=2)
    assert (other.rows("train")[5]["image"] != drawn[0]["image"]).any()
    np.testing.assert_array_equal(other.rows("val")[5]["image"], first.rows("val")[5]["image"])
    sets = [set(first.source(split).photographs) for split in ("train", "val")]
    assert not sets[0] & sets[1] and {p.stem for p in sets[1]} == {"astronaut", "chelsea", "coffee"}
