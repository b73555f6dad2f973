"""Sets to train on: who is on which side, what is in each, and what is refused."""

import json

import av1_sets
import numpy as np
import pytest

from jaxvision.cnn_av1.classes import AB_TYPES, RECT_TYPES
from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.dataset.prepare import check_same_pixels, prepare
from jaxvision.cnn_av1.dataset.raw import import_raw
from jaxvision.data.av1 import partitions


def silent(text):
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepare")
    import_raw(folder / "set", av1_sets.raw_folder(folder / "raw"), say=silent)
    return folder / "set"


@pytest.fixture(scope="module")
def made(root):
    out = root.parent / "made"
    prepare(root, out, say=silent)
    return out


def load(made, name):
    return {side: BlockSet.load(made / name / f"{side}.npz") for side in ("train", "val")}


def test_each_block_is_on_one_side_with_its_own_label(root, made):
    sides = load(made, "block_16")
    places = {side: blocks.blocks[:, 0, 0] for side, blocks in sides.items()}
    found = np.sort(np.concatenate(list(places.values())))
    np.testing.assert_array_equal(found, np.arange(sum(av1_sets.SEQUENCES.values())))
    first = 0
    split = json.loads((root / "manifest.json").read_text())["split"]["sources"]
    for name, count in av1_sets.SEQUENCES.items():
        blocks, at = sides[split[name]], places[split[name]]
        own = (at >= first) & (at < first + count)
        assert {blocks.names[i] for i in blocks.sequence[own]} == {name}
        np.testing.assert_array_equal(blocks.labels[own], np.arange(count) % 10)
        assert set(blocks.qps[own]) == {100 + first % 100}
        first += count
    assert not set(sides["train"].names) & set(sides["val"].names)


def test_specialists_get_their_types(made):
    whole, rect = load(made, "block_16"), load(made, "stage3/rect")
    for side in ("train", "val"):
        wanted = whole[side].take(np.isin(whole[side].labels, RECT_TYPES))
        np.testing.assert_array_equal(rect[side].blocks, wanted.blocks)
    members = [load(made, f"stage3/ab_{k}") for k in (1, 2, 3)]
    ab = {side: whole[side].take(np.isin(whole[side].labels, AB_TYPES)) for side in whole}
    drawn = []
    for member in members:
        np.testing.assert_array_equal(member["val"].blocks, ab["val"].blocks)
        assert set(member["train"].labels) == set(AB_TYPES)
        places = member["train"].blocks[:, 0, 0]
        assert set(places) <= set(ab["train"].blocks[:, 0, 0])  # nothing that validates
        drawn.append(tuple(np.sort(places)))
    assert len(set(drawn)) == 3


def test_metadata_tells_what_is_in_the_sets(root, made):
    about = json.loads((made / "block_16" / "metadata.json").read_text())
    assert about["made_of"]["manifest"] == records.sha256(root / "manifest.json")
    assert (about["size"], about["context"], about["depth"]) == (16, 0, 10)
    for name, sides in about["sets"].items():
        for side, blocks in load(made, name).items():
            told = sides[side]
            assert told["blocks"] == len(blocks) and told["counts"] == blocks.counts()
            assert list(told["counts"]) == list(partitions.NAMES)
            assert sum(told["shares"].values()) == pytest.approx(1, abs=1e-5)
            assert sum(told["sequences"].values()) == sum(told["qps"].values()) == len(blocks)
            assert about["sequences"][side] == list(blocks.names)
    assert len(about["files"]) == 10


def test_a_finished_set_is_kept_and_another_is_made_anew(root, tmp_path):
    said = []
    prepare(root, tmp_path, say=said.append)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    prepare(root, tmp_path, say=said.append)
    assert said[-1].endswith("all was made before, and kept")
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    (tmp_path / "stage3/ab_2/train.npz").write_bytes(b"cut off")
    prepare(root, tmp_path, say=said.append)
    assert len(BlockSet.load(tmp_path / "stage3/ab_2/train.npz"))
    prepare(root, tmp_path, val=("cat", "dog"), say=said.append)
    assert BlockSet.load(tmp_path / "block_16/val.npz").names == ("cat", "dog")
    seeds = set()
    for seed in range(6):
        prepare(root, tmp_path, seed=seed, share=0.3, say=said.append)
        seeds.add(BlockSet.load(tmp_path / "block_16/val.npz").names)
    assert len(seeds) > 1 and {len(names) for names in seeds} == {2}


def test_no_metadata_stands_beside_half_of_a_set(root, tmp_path, monkeypatch):
    prepare(root, tmp_path, say=silent)
    monkeypatch.setattr(BlockSet, "save", lambda self, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(root, tmp_path, seed=1, say=silent)
    assert not (tmp_path / "block_16" / "metadata.json").exists()


def test_the_smallest_size_has_no_specialists(tmp_path):
    folder = tmp_path / "raw"
    av1_sets.raw_folder(folder, size=8, sequences={"ape": 4, "bee": 3})
    import_raw(tmp_path / "set", folder, size=8, say=silent)
    prepare(tmp_path / "set", tmp_path / "made", size=8, say=silent)
    made = {p.relative_to(tmp_path / "made").as_posix() for p in (tmp_path / "made").rglob("*.*")}
    assert made == {f"block_8/{name}" for name in ("train.npz", "val.npz", "metadata.json")}


def test_what_cannot_be_prepared_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="holds no blocks of 32, but of 16"):
        prepare(root, tmp_path / "out", size=32, say=silent)
    with pytest.raises(ValueError, match="to tell key frames by"):
        prepare(root, tmp_path / "out", key_frames=True, say=silent)
    with pytest.raises(ValueError, match="'cow' is none of ape, bee"):
        prepare(root, tmp_path / "out", val=("cow",), say=silent)
    one = av1_sets.raw_folder(tmp_path / "raw", sequences={"bee": 12})
    import_raw(tmp_path / "one", one, say=silent)
    with pytest.raises(ValueError, match=r"1 source \(bee\) cannot be split"):
        prepare(tmp_path / "one", tmp_path / "out", say=silent)
    with pytest.raises(ValueError, match="there is no such file: run `label` or `align`"):
        prepare(tmp_path, tmp_path / "out", say=silent)
    assert not (tmp_path / "out").exists()


def test_a_damaged_set_is_not_prepared(tmp_path):
    folder = av1_sets.raw_folder(tmp_path / "raw")
    import_raw(tmp_path / "set", folder, say=silent)
    path = tmp_path / "set/labels/cat_16.bin"
    labels = bytearray(path.read_bytes())
    labels[3] ^= 1
    path.write_bytes(labels)
    with pytest.raises(ValueError, match=r"labels/cat_16\.bin is not the file of manifest\.json"):
        prepare(tmp_path / "set", tmp_path / "out", say=silent)


def test_one_picture_under_two_names_does_not_train_and_validate():
    sequences = {
        "a": {"source": "a", "luma": {"0": "x1", "1": "x2"}},
        "b": {"source": "b", "luma": {"0": "x3"}},
        "c": {"source": "c", "luma": {"7": "x2"}},
    }
    check_same_pixels(sequences, {"a": "train", "b": "val", "c": "train"})
    with pytest.raises(ValueError, match=r"a, frame 1 \(train\) and c, frame 7 \(val\) are the"):
        check_same_pixels(sequences, {"a": "train", "b": "train", "c": "val"})
