"""The labels that come with the library, and rows of training made of them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from jaxvision.cnn_av1 import embedded
from jaxvision.cnn_av1.classes import NONE, TYPES
from jaxvision.cnn_av1.data import (
    DataConfig,
    Examples,
    LevelExamples,
    PartitionData,
    level_batches,
    stage_batches,
    weights,
)
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.embedded import CODED, UNKNOWN, ClipLabels, Labels
from jaxvision.cnn_av1.levels import INPUT, LEVELS, around, level_of, shrunk
from jaxvision.data.av1.partitions import NODE_SIZES


@pytest.fixture(scope="module")
def data():
    return PartitionData(DataConfig(clips=1), seed=0)


def test_the_file_is_small_and_its_photographs_are_split_whole():
    labels = embedded.read()
    assert embedded.FILE.stat().st_size <= 1_000_000
    splits = {}
    for clip in labels.clips:
        splits.setdefault(clip.photograph, set()).add(clip.split)
    assert all(len(found) == 1 for found in splits.values())
    test = {name for name, found in splits.items() if found == {"test"}}
    assert test == {"astronaut", "chelsea", "coffee"}
    assert labels.about["library"] == "3.6.0"


def test_it_holds_enough_nodes_of_every_type():
    labels = embedded.read()
    sixteen = np.concatenate([clip.labels[16].ravel() for clip in labels.clips])
    coded = sixteen[(sixteen != UNKNOWN) & (sixteen & CODED > 0)] & 15
    assert len(coded) > 20_000
    assert (np.bincount(coded, minlength=len(TYPES)) > 500).all()


@pytest.mark.parametrize("size", NODE_SIZES)
def test_coded_nodes_are_of_the_tree_above_them(size):
    """Below a coded node that is no SPLIT nothing is coded; below one that is, four are."""
    for clip in embedded.read().clips[:4]:
        above, below = clip.labels[size], clip.labels.get(size // 2)
        if below is None:
            continue
        known = above != UNKNOWN
        coded = known & (above & CODED > 0)
        split = coded & (above & 15 == 3)
        rows, cols = above.shape[2:]
        inside = below[:, :, : 2 * rows, : 2 * cols]
        inside = (inside != UNKNOWN) & (inside & CODED > 0)
        quads = inside.reshape(*above.shape[:3], 2, cols, 2).sum((3, 5))
        np.testing.assert_array_equal(quads[split], 4)
        np.testing.assert_array_equal(quads[coded & ~split], 0)


def test_blocks_are_the_pixels_at_their_places():
    labels = embedded.read()
    clip = labels.clips[0]
    luma = embedded.luma(clip, labels)
    found = embedded.blocks(clip.split, size=16, context=8, clips=1)
    coded = (clip.labels[16] != UNKNOWN) & (clip.labels[16] & CODED > 0)
    frames, _, rows, cols = np.nonzero(coded)
    for i in (0, len(found) // 2, len(found) - 1):
        frame, row, col = frames[i], 16 * rows[i], 16 * cols[i]
        inner = found.blocks[i, 8:24, 8:24]
        np.testing.assert_array_equal(inner, luma[frame, row : row + 16, col : col + 16])
    left = embedded.blocks(clip.split, size=16, context=8, clips=1, nodes="left")
    assert len(left) + len(found) == (clip.labels[16] != UNKNOWN).sum() and len(left)
    for part in (found, left):
        assert (np.nanmin(part.costs, axis=1) >= 1).all()  # in units of the best type's
        basic = part.labels < 4
        own = part.costs[basic, part.labels[basic]]
        np.testing.assert_allclose(own[np.isfinite(own)], 1, atol=1e-6)
    with pytest.raises(ValueError, match="nodes 'tried' are none of coded, left"):
        embedded.blocks(clip.split, size=16, context=8, nodes="tried")


def test_pixels_that_have_changed_are_refused(monkeypatch):
    labels = embedded.read()
    monkeypatch.setattr(embedded, "checksum", lambda x: hashlib.sha256(b"other").hexdigest())
    with pytest.raises(ValueError, match="variant 0: these pixels are not those that were"):
        embedded.luma(labels.clips[0], labels)


def test_labels_survive_their_file(tmp_path):
    rng = np.random.default_rng(0)
    grids = {s: rng.integers(0, 10, (2, 3, 64 // s, 128 // s), np.uint8) for s in NODE_SIZES}
    clip = ClipLabels(
        "x",
        1,
        "val",
        "0",
        np.ones((2, 3), np.uint8),
        grids,
        {16: np.ones((2, 3, 4, 8, 4), np.uint8)},
    )
    with (tmp_path / "labels.npz").open("wb") as file:
        embedded.write(file, Labels(128, 64, {"library": "1"}, (clip,)))
    (again,) = embedded.read(tmp_path / "labels.npz").clips
    for size in NODE_SIZES:
        np.testing.assert_array_equal(again.labels[size], grids[size])
    assert set(again.regrets) == {16} and again.split == "val"
    (tmp_path / "labels.npz").write_bytes(b"no")
    embedded.read.cache_clear()
    with pytest.raises(ValueError, match="holds no labels of clips"):
        embedded.read(Path(tmp_path / "labels.npz"))


def test_regrets_are_kept_to_a_few_percent_of_themselves():
    costs = np.array([1.0, 1.001, 1.02, 1.3, np.nan, 0.9999999, 99.0])
    again = embedded.regrets(embedded.regret_steps(costs))
    known = [1, 2, 3]
    np.testing.assert_allclose(again[known], costs[known] - 1, rtol=0.1)
    assert again[0] == again[5] == 0 and np.isnan(again[4]) and again[6] > 0.35


@pytest.mark.parametrize("size", NODE_SIZES)
def test_every_size_is_seen_as_one_square(size):
    level = LEVELS[size]
    assert (size + 2 * level.context) == INPUT * level.shrink
    x = np.arange(2 * (INPUT * level.shrink) ** 2).reshape(2, *[INPUT * level.shrink] * 2)
    found = shrunk(x.astype(np.uint16), level.shrink)
    assert found.shape == (2, INPUT, INPUT, 2)
    cell = x[1, : level.shrink, : level.shrink].astype(np.uint16)
    np.testing.assert_allclose(found[1, 0, 0], [cell.mean(), cell.std()], rtol=1e-3, atol=0.5)


def test_pixels_go_on_beyond_the_edge():
    plane = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    found = around(plane, np.array([0, 16]), np.array([0, 32]), size=8, context=4)
    np.testing.assert_array_equal(found[0, 4:12, 4:12], plane[:8, :8])
    np.testing.assert_array_equal(found[0, :4, :4], plane[0, 0])
    np.testing.assert_array_equal(found[1, 4:12, 4:12], plane[16:, 32:])
    np.testing.assert_array_equal(found[1, 12:, 12:], plane[-1, -1])
    with pytest.raises(ValueError, match="size=12 is none of 64"):
        level_of(12)


def test_stages_see_their_own_blocks(data):
    every = data.typed_blocks("val")
    parts = {stage: data.stage_blocks("val", stage) for stage in ("macro", "rect", "ab")}
    assert len(every) == len(data.blocks("val"))
    assert len(parts["macro"]) == (every.labels != NONE).sum()
    split = (every.labels == 3).sum()
    assert len(parts["rect"]) + len(parts["ab"]) + split == len(parts["macro"])
    two = PartitionData(DataConfig(clips=1, four_way=False), seed=0)
    assert two.typed_blocks("val").labels.max() == 7


def test_members_are_drawn_from_whole_photographs():
    data = PartitionData(DataConfig(), seed=0)
    every = data.stage_blocks("train", "ab")
    sizes = np.bincount(every.sequence)
    for number in range(2):
        counts = np.bincount(data.member_blocks(number).sequence, minlength=len(sizes))
        times = counts[sizes > 0] / sizes[sizes > 0]
        np.testing.assert_array_equal(times, np.round(times))
        names = np.array(every.names)[: len(sizes)][sizes > 0]
        by_photograph = {}
        for name, time in zip(names, times, strict=True):
            by_photograph.setdefault(name.rpartition("_")[0], set()).add(time)
        assert all(len(found) == 1 for found in by_photograph.values())


def test_batches_are_balanced_as_asked(data):
    found = data.stage_blocks("train", "binary")
    labels = (found.labels > 0).astype(int)
    kept = dict(labels=labels, batch=256, seed=1)
    made = stage_batches(found, train=True, balance="classes", **kept)
    share = np.mean([(made[i]["type"] > 0).mean() for i in range(4)])
    assert share == pytest.approx(0.5, abs=0.06)
    plain = stage_batches(found, train=True, balance="none", **kept)
    share = np.mean([(plain[i]["type"] > 0).mean() for i in range(4)])
    assert share == pytest.approx(labels.mean(), abs=0.06)
    val = stage_batches(found, train=False, balance="none", **kept)
    types = np.concatenate([val[i]["type"][val[i]["mask"]] for i in range(len(val))])
    np.testing.assert_array_equal(types, found.labels)
    with pytest.raises(ValueError, match="balance 'class' is none of"):
        weights(labels, "class")


def test_sizes_come_by_their_shares(data):
    sets = [data.level_blocks("train", level) for level in LEVELS.values()]
    shares = (0.1, 0.2, 0.4, 0.3)
    made = level_batches(sets, shares=shares, batch=400, train=True, seed=0)
    row = made[0]
    assert row["block"].shape == (400, INPUT, INPUT, 2) and row["block"].dtype == np.float32
    np.testing.assert_allclose(np.bincount(row["level"], minlength=4) / 400, shares, atol=0.08)
    with pytest.raises(ValueError, match="4 sets cannot have the shares"):
        level_batches(sets, shares=(1.0,), batch=4, train=True, seed=0)
    assert np.isnan(row["costs"][row["level"] == 3]).all()  # regrets of 8 pixels are not kept
    plain = LevelExamples(sets)
    assert len(plain) == sum(map(len, sets))
    first = Examples(sets[1])[0]
    there = plain[len(sets[0])]
    np.testing.assert_array_equal(there["block"], shrunk(first["block"][None], 2)[0])
    assert there["type"] == first["type"] and there["level"] == 1


def test_a_prepared_folder_is_read_or_refused(tmp_path):
    def wanted(**fields):
        return PartitionData(DataConfig(root=str(tmp_path), **fields), seed=0)

    with pytest.raises(FileNotFoundError, match="cnn_av1 prepare"):
        wanted().blocks("train")
    n = 6
    made = BlockSet(
        blocks=np.zeros((n, 16, 16), np.uint16),
        labels=np.arange(n, dtype=np.uint8),
        qps=np.full(n, 99, np.uint8),
        sequence=np.zeros(n, np.int32),
        names=("one",),
        size=16,
    )
    made.save(tmp_path / "block_16" / "val.npz")
    with pytest.raises(ValueError, match="16 pixels with 0 around; this needs 16 with 8"):
        wanted().blocks("val")
    found = wanted(context=0).blocks("test")  # there is no test split: val is tested
    np.testing.assert_array_equal(found.labels, made.labels)
    with pytest.raises(ValueError, match="split 'dev' is none"):
        wanted(context=0).blocks("dev")
    for fields, message in ((dict(size=12), "size=12"), (dict(context=-1), "context=-1")):
        with pytest.raises(ValueError, match=message):
            DataConfig(**fields)
