"""Sets of blocks in memory, how they are split, balanced and drawn."""

import numpy as np
import pytest

from jaxvision.cnn_av1.dataset.balance import class_balanced_weights
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.dataset.ensembles import bootstrap
from jaxvision.cnn_av1.dataset.split import split_sources
from jaxvision.data.av1 import partitions
from jaxvision.data.pipeline import shuffled


def test_sources_are_split_and_never_blocks():
    names = {f"s{i:02}": None for i in range(20)}
    split = split_sources(names)
    assert split == split_sources(dict(reversed(names.items())))
    assert list(split.values()).count("val") == 4
    assert split_sources(names, seed=1) != split
    more = split_sources(names | {"t": None}, share=4 / 21)
    assert sum(more[name] != split[name] for name in names) <= 1  # a new one moves one at most
    assert split_sources({"a": None, "b": None}, share=0.01) in (
        {"a": "train", "b": "val"},
        {"a": "val", "b": "train"},
    )
    held = {"coffee": "val", "camera": "train", **names}
    split = split_sources(held)
    assert (split["coffee"], split["camera"]) == ("val", "train")
    assert split_sources(held, val=["camera"])["coffee"] == "train"


@pytest.mark.parametrize(
    ("sources", "options", "match"),
    [
        ({"a": None}, {}, r"1 source \(a\) cannot be split"),
        ({}, {}, "0 source"),
        ({"a": None, "b": None}, dict(share=1.0), "val-share=1.0"),
        ({"a": None, "b": None}, dict(val=["c"]), "'c' is none of a, b"),
        ({"a": None, "b": None}, dict(val=["a", "b"]), "no source is left to train"),
        ({"a": "train", "b": "train"}, {}, "no source is left to val"),
    ],
)
def test_what_cannot_be_split_is_refused(sources, options, match):
    with pytest.raises(ValueError, match=match):
        split_sources(sources, **options)


def test_balanced_classes_come_alike():
    labels = np.repeat([0, 2, 3, -1], [60, 20, 10, 7])
    weights = class_balanced_weights(labels)
    sums = [weights[labels == k].sum() for k in (0, 2, 3)]
    np.testing.assert_allclose(sums, 30)
    assert (weights[labels < 0] == 0).all()
    drawn = shuffled(len(labels), seed=0, weights=weights)
    found = labels[[drawn[i] for i in range(len(drawn))]]
    assert len(drawn) == 90 and (np.bincount(found, minlength=4)[[0, 2, 3]] == 30).all()
    for wrong in (np.full(3, -1), np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match="nothing to balance"):
            class_balanced_weights(wrong)


def test_members_are_drawn_by_source():
    rng = np.random.default_rng(0)
    source, labels = np.repeat(np.arange(8), 10), rng.integers(4, 8, 80)
    drawn = [bootstrap(source, labels, seed=42, member=k) for k in (1, 2, 3)]
    for chosen in drawn:
        times = np.bincount(chosen, minlength=80).reshape(8, 10)
        assert (times == times[:, :1]).all()  # whole sources, some more than once, some never
        assert times[:, 0].sum() == 8 and (times[:, 0] == 0).any()
        assert set(labels[chosen]) == set(labels)
    assert len({tuple(chosen) for chosen in drawn}) == 3
    np.testing.assert_array_equal(drawn[0], bootstrap(source, labels, seed=42, member=1))
    few = bootstrap(source[:20], labels[:20], seed=42, member=1)  # of two sources: their blocks
    assert len(few) == 20 and len(set(few)) > 10
    assert len(bootstrap(source[:0], labels[:0], seed=42, member=1)) == 0


def test_a_member_without_a_class_is_drawn_again():
    source, labels = np.arange(5), np.array([4, 4, 4, 4, 7])
    for member in range(1, 20):  # one draw in three lacks the last
        assert 4 in bootstrap(source, labels, seed=0, member=member)


def blocks(n=6, size=8, context=1, costs=False):
    rng = np.random.default_rng(0)
    side = size + 2 * context
    return dict(
        blocks=rng.integers(0, 1024, (n, side, side)).astype(np.uint16),
        labels=rng.integers(0, 4, n).astype(np.uint8),
        qps=rng.integers(0, 256, n).astype(np.uint8),
        sequence=rng.integers(0, 2, n).astype(np.int32),
        names=("a", "b"),
        size=size,
        context=context,
        costs=np.full((n, 4), np.nan, np.float32) if costs else None,
    )


@pytest.mark.parametrize("costs", [False, True])
def test_a_set_is_loaded_as_saved(tmp_path, costs):
    wanted = BlockSet(**blocks(costs=costs))
    wanted.save(tmp_path / "deep" / "set.npz")
    found = BlockSet.load(tmp_path / "deep" / "set.npz")
    for key in ("blocks", "labels", "qps", "sequence", "costs"):
        np.testing.assert_array_equal(getattr(found, key), getattr(wanted, key))
    assert (found.names, found.size, found.context) == (("a", "b"), 8, 1)
    data = (tmp_path / "deep" / "set.npz").read_bytes()
    wanted.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == data
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("cut", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is no set of blocks"):
            BlockSet.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        BlockSet.load(tmp_path / "none.npz")


def test_a_set_is_taken_from_and_counted():
    whole = BlockSet(**blocks(costs=True))
    part = whole.take(np.array([4, 1]))
    assert len(part) == 2 and part.names == whole.names
    np.testing.assert_array_equal(part.blocks, whole.blocks[[4, 1]])
    counts = whole.counts()
    assert list(counts) == list(partitions.NAMES) and sum(counts.values()) == 6
    assert counts["HORZ"] == (whole.labels == 1).sum()
    assert len(whole.take(np.zeros(6, bool))) == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(labels=np.zeros(5, np.uint8)), "as many of each, not 6 blocks, 5 labels, 6 qps"),
        (dict(costs=np.zeros((2, 4), np.float32)), "6 sequence, 2 costs"),
        (dict(context=0), r"blocks are uint16 \(6, 10, 10\), not uint16 \(6, 8, 8\)"),
        (dict(qps=np.zeros(6, np.int64)), "qps are int64"),
        (dict(labels=np.full(6, 4, np.uint8)), "label 4 is none that a node of 8 pixels can have"),
        (dict(sequence=np.full(6, 2, np.int32)), "is not from 0 to 1"),
        (dict(blocks=np.full((6, 10, 10), 1024, np.uint16)), "a pixel is 1024, beyond 10 bits"),
        (dict(size=12), "size=12|blocks are"),
    ],
)
def test_sets_that_do_not_fit_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        BlockSet(**blocks() | change)
