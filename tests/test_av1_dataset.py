"""Tables, logs, blocks, sets and splits: what is kept, and what is refused by name."""

import json

import av1_sets
import numpy as np
import pytest

from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.align import align
from jaxvision.cnn_av1.dataset.balance import class_balanced_weights
from jaxvision.cnn_av1.dataset.blocks import blocks_of, make_blocks
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.dataset.check import check
from jaxvision.cnn_av1.dataset.ensembles import bootstrap
from jaxvision.cnn_av1.dataset.import_logs import import_logs
from jaxvision.cnn_av1.dataset.logs import read_logs
from jaxvision.cnn_av1.dataset.merge import merge
from jaxvision.cnn_av1.dataset.raw import import_raw
from jaxvision.cnn_av1.dataset.rows import Row, read_rows, write_rows
from jaxvision.cnn_av1.dataset.sources import sources
from jaxvision.cnn_av1.dataset.split import split_sources
from jaxvision.data.av1 import partitions
from jaxvision.data.pipeline import shuffled


def silent(text):
    pass


def no_library():
    raise AssertionError("no stream is to be decoded")


# Tables and logs


def test_tables_are_read_as_written(tmp_path):
    rows = [Row(0, 4, 8, 16, 9, 120, 32, 1), Row(0, 0, 0, 64, 3, 120, -1, -1)]
    write_rows(tmp_path / "t.csv", rows)
    assert read_rows(tmp_path / "t.csv") == rows
    assert (tmp_path / "t.csv").read_text().startswith("frame,mi_row,mi_col,size,partition,qindex,")
    with (tmp_path / "t.csv").open("a") as file:
        file.write("0,1,x\n")
    with pytest.raises(ValueError, match=r"t\.csv:4: .* is no row"):
        read_rows(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="its first line is not frame,mi_row"):
        read_rows(tmp_path / "t.csv")


NODES = [(0, 0, 0, 32, 3, 90), (0, 0, 0, 16, 1, 90), (0, 0, 4, 16, 9, 90), (1, 4, 8, 16, 0, 91)]
FORMS = {
    "ours.csv": "frame,mi_row,mi_col,size,partition,qindex\n"
    + "".join(",".join(map(str, node)) + "\n" for node in NODES),
    "pixels.csv": "Partition Type,QP,Frame,X,Y,block_size\n"
    + "".join(
        f"PARTITION_{partitions.NAMES[p]},{q},{f},{4 * c},{4 * r},{s}x{s}\n"
        for f, r, c, s, p, q in NODES
    ),
    "partition_frame_0.txt": "".join(
        f"{f} 0 { {16: 6, 32: 9}[s] } {r} {c} {p} {q}\n" for f, r, c, s, p, q in NODES
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_logs_of_each_form_are_the_same(tmp_path, form):
    (tmp_path / form).write_text(FORMS[form])
    for place in (tmp_path / form, tmp_path):
        entries = read_logs(place)
        found = [(e.frame, e.row, e.col, e.size, e.partition, e.qp) for e in entries]
        assert found == NODES
        assert {e.is_key for e in entries} == {1 if form.endswith("txt") else -1}


@pytest.mark.parametrize(
    ("log", "match"),
    [
        ("frame,row,col,size,partition,qp\n0,0,0,16,0,90\n0,12,0,16,0,90\n", r"log\.csv:3: row 12"),
        ("frame,row,col,size,partition,qp\n0,0,20,16,0,90\n", r"log\.csv:2: row 0, column 20"),
        ("frame,row,col,size,partition,qp\n3,0,0,16,0,90\n", r":2: frame 3, but the video has 3"),
        ("frame,row,col,size,partition,qp\n0,2,0,16,0,90\n", r":2: row 2, .* no place of a node"),
        ("frame,row,col,size,partition,qp\n0,0,0,16,10,90\n", r":2: partition '10' is none of"),
        ("frame,row,col,size,partition,qp\n0,0,0,16,HORZ_C,90\n", r":2: partition 'HORZ_C'"),
        ("frame,row,col,size,partition,qp\n0,0,0,8,4,90\n", r":2: partition 4 .* node of 8 pixels"),
        ("frame,row,col,size,partition,qp\n0,0,0,20,0,90\n", r":2: size '20' is none of"),
        ("frame,row,col,size,partition,qp\n0,0,0,16,0,300\n", r":2: qp 300"),
        ("frame,row,col,size,partition,qp\n0,0,0,16,0\n", r":2: 5 values where 6"),
        ("frame,row,col,size,partition,qp\n0,0,0,16,0,9\n0,0,0,16,1,9\n", r":3: the same node as"),
        (
            "frame,row,col,size,partition,qp\n0,4,4,16,0,90\n0,0,0,32,1,90\n",
            r":2: overlaps the node of 32 pixels at .*log\.csv:3, whose partition is HORZ, not",
        ),
        ("frame,row,col,partition,qp\n0,0,0,0,90\n", r":1: no column says size"),
        ("frame,row,mi_row,col,size,partition\n", r":1: two columns say row"),
        ("frame,y,x,size,partition,qp\n0,6,0,16,0,90\n", r":2: y 6 is no multiple of 4"),
        ("frame,row,col,size,partition\n0,0,0,16,0\n", r":2: the log does not tell the qp: give"),
        ("frame,row,col,size,partition,qp\n", "there is no partition in it"),
    ],
)
def test_a_log_that_does_not_match_its_video_is_refused(tmp_path, log, match):
    av1_sets.video(tmp_path / "v.y4m", width=72, height=40)
    (tmp_path / "log.csv").write_text(log)
    with pytest.raises(ValueError, match=match):
        import_logs(
            tmp_path / "out", tmp_path / "log.csv", *sources([str(tmp_path / "v.y4m")]), say=silent
        )
    assert not (tmp_path / "out").exists()


def imported(tmp_path, *, context=0, sizes=(16, 32), depth=10):
    """A set from a log: its root, and the frames of its video."""
    frames = av1_sets.video(tmp_path / "v.y4m", width=72, height=40, depth=depth)
    (tmp_path / "log.csv").write_text(FORMS["ours.csv"] + "0,8,16,16,0,90\n")  # crosses the edge
    root = tmp_path / "out"
    import_logs(root, tmp_path / "log.csv", *sources([str(tmp_path / "v.y4m")]), say=silent)
    make_blocks(root, sizes=sizes, context=context, library=no_library, say=silent)
    merge(root, say=silent)
    align(root, say=silent)
    return root, frames


@pytest.mark.parametrize("context", [0, 5])
def test_blocks_are_the_pixels_without_loss(tmp_path, context):
    root, frames = imported(tmp_path, context=context)
    side = 16 + 2 * context
    blocks = np.fromfile(root / "intra_raw_blocks/v_16.bin", "<u2").reshape(-1, side, side)
    index = read_rows(root / "index" / "v_16.csv")
    assert [tuple(row)[:6] for row in index] == [node for node in NODES if node[3] == 16]
    for block, row in zip(blocks, index, strict=True):
        luma = frames[row.frame][0]
        y = np.clip(np.arange(-context, 16 + context) + 4 * row.mi_row, 0, 39)
        x = np.clip(np.arange(-context, 16 + context) + 4 * row.mi_col, 0, 71)
        np.testing.assert_array_equal(block, luma[np.ix_(y, x)])
    assert np.fromfile(root / "labels/v_16.bin", np.uint8).tolist() == [1, 9, 0]
    assert np.fromfile(root / "qps/v_16.bin", np.uint8).tolist() == [90, 90, 91]
    assert (root / "intra_raw_blocks/v_32.bin").stat().st_size == 2 * (32 + 2 * context) ** 2
    manifest = json.loads((root / "manifest.json").read_text())
    about = manifest["sequences"]["v"]
    assert (about["blocks"], about["edge"]["16"]) == ({"16": 3, "32": 1}, 1)
    assert manifest["split"] is None and manifest["contexts"] == {"16": context, "32": context}
    check(root, say=silent)


def test_blocks_beside_an_edge():
    luma = np.arange(24 * 24, dtype=np.uint16).reshape(24, 24)
    (block,) = blocks_of(luma, [Row(0, 4, 4, 8, 0, 0, 0, 1)], 8, context=2)
    np.testing.assert_array_equal(block[2:-2, 2:-2], luma[16:, 16:])
    assert (block[-2:] == block[-3]).all() and (block[:, -2:] == block[:, -3:-2]).all()
    assert blocks_of(luma, [], 8, context=1).shape == (0, 10, 10)


def test_steps_are_not_made_twice_and_only_what_changed_is_made_anew(tmp_path):
    root, _ = imported(tmp_path)
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.name != "manifest.json"}
    said = []
    import_logs(root, tmp_path / "log.csv", *sources([str(tmp_path / "v.y4m")]), say=said.append)
    make_blocks(root, sizes=(16, 32), library=no_library, say=said.append)
    merge(root, say=said.append)
    align(root, say=said.append)
    kept = {p: p.stat().st_mtime_ns for p in times if p.is_file()}
    assert kept == {p: t for p, t in times.items() if p.is_file()}
    assert sum("kept" in text for text in said) == 4
    (root / "blocks/v/log_0000_16.bin").write_bytes(b"cut off")  # a partial output is made again
    with pytest.raises(ValueError, match="blocks v_16 do not fit their tables: run `blocks`"):
        merge(root, say=silent)
    make_blocks(root, sizes=(16,), library=no_library, say=silent)
    (root / "records/merge/v_16.json").unlink()  # broken off before its record was written
    with pytest.raises(ValueError, match="blocks v_16 are not merged: run `merge`"):
        align(root, say=silent)
    assert not (root / "manifest.json").exists()
    merge(root, say=silent)
    align(root, say=silent)
    check(root, say=silent)


def test_each_step_says_which_comes_before(tmp_path):
    with pytest.raises(ValueError, match="holds no tables: run `tables`"):
        make_blocks(tmp_path, library=no_library, say=silent)
    with pytest.raises(ValueError, match="holds no tables"):
        merge(tmp_path, say=silent)
    with pytest.raises(ValueError, match="run `label` or `align`, or `import-raw`"):
        check(tmp_path, say=silent)
    root, _ = imported(tmp_path)
    (root / "tables/v/log_0001.csv").unlink()
    with pytest.raises(ValueError, match="tables of v/log are gone or cut off"):
        make_blocks(root, library=no_library, say=silent)


@pytest.mark.parametrize("arguments", [dict(sizes=(20,)), dict(sizes=()), dict(context=-1)])
def test_sizes_that_no_node_has_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="sizes="):
        make_blocks(tmp_path, library=no_library, **arguments)


def test_a_video_that_changed_is_refused(tmp_path):
    root, _ = imported(tmp_path)
    av1_sets.video(tmp_path / "v.y4m", width=72, height=40, seed=1)
    with pytest.raises(ValueError, match="frame 0 has other pixels than when it was labelled"):
        make_blocks(root, sizes=(16, 8), library=no_library, say=silent)
    av1_sets.video(tmp_path / "v.y4m", width=72, height=40, frames=1)
    with pytest.raises(ValueError, match="frame 1 is gone since it was labelled"):
        make_blocks(root, sizes=(16, 8), library=no_library, say=silent)
    assert records.names(root, "blocks") == ["v_16", "v_32"]  # 8 was begun, and is not whole


def test_eight_and_ten_bits_do_not_mix(tmp_path):
    root, _ = imported(tmp_path)
    av1_sets.video(tmp_path / "w.y4m", depth=8)
    (eight,) = sources([str(tmp_path / "w.y4m")])
    with pytest.raises(ValueError, match="w has 8 bits and v 10: one set is of one depth; --deep"):
        import_logs(root, tmp_path / "log.csv", eight, say=silent)
    (deepened,) = sources([str(tmp_path / "w.y4m")], deepen=True)
    import_logs(root, tmp_path / "log.csv", deepened, say=silent)
    assert records.names(root, "tables") == ["v/log", "w/log"]


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda root: (root / "labels/v_16.bin").unlink(), r"labels/v_16\.bin is gone"),
        (lambda root: (root / "labels/v_16.bin").write_bytes(b"\1\2\0"), "is not the file of"),
        (lambda root: (root / "qps/v_16.bin").write_bytes(b"\1"), "is not the file of"),
        (lambda root: (root / "manifest.json").write_text("{"), r"manifest\.json is no JSON"),
        (lambda root: (root / "manifest.json").write_text("[]"), "is not of the format"),
    ],
)
def test_damage_is_told_by_name(tmp_path, damage, match):
    root, _ = imported(tmp_path)
    damage(root)
    with pytest.raises(ValueError, match=match):
        check(root, say=silent)


# The seed's layout


def test_raw_folders_become_a_set(tmp_path):
    folder = av1_sets.raw_folder(tmp_path / "raw")
    import_raw(tmp_path / "set", folder, say=silent)
    check(tmp_path / "set", say=silent)
    for kind in ("intra_raw_blocks", "labels", "qps"):
        for path in (folder / kind).iterdir():
            assert (tmp_path / "set" / kind / path.name).read_bytes() == path.read_bytes()
    split = json.loads((tmp_path / "set/manifest.json").read_text())["split"]["sources"]
    assert sorted(split) == sorted(av1_sets.SEQUENCES)
    assert list(split.values()).count("val") == 1


def test_the_names_and_texts_of_the_seeds_scripts_are_read(tmp_path):
    folder = av1_sets.raw_folder(tmp_path / "raw", sequences={"Bee-1": 12})
    import_raw(tmp_path / "a", folder, say=silent)
    (folder / "intra_raw_blocks/Bee-1_16.bin").rename(
        folder / "intra_raw_blocks/Bee-1_sample_16.txt"
    )
    for kind in ("labels", "qps"):
        path = folder / kind / "Bee-1_16.bin"
        text = "\n".join(str(n) for n in np.fromfile(path, np.uint8))
        (folder / kind / f"Bee-1_{kind}_16_intra.txt").write_text(text + "\n")
        path.unlink()
    import_raw(tmp_path / "b", folder, say=silent)
    for kind in ("intra_raw_blocks", "labels", "qps"):
        a, b = (tmp_path / root / kind / "Bee-1_16.bin" for root in "ab")
        assert a.read_bytes() == b.read_bytes()
    (folder / "qps/Bee-1_qps_16_intra.txt").write_text("80 256")
    with pytest.raises(ValueError, match=r"Bee-1_qps_16_intra\.txt: '256' is no number"):
        import_raw(tmp_path / "c", folder, say=silent)


@pytest.mark.parametrize(
    ("kind", "data", "match"),
    [
        ("labels", bytes(11), r"bee_16\.bin: 12 blocks, 11 labels, 12 QPs: all three must be"),
        ("qps", bytes(13), r"bee_16\.bin: 12 blocks, 12 labels, 13 QPs"),
        ("intra_raw_blocks", bytes(512 * 11), r"bee_16\.bin: 11 blocks, 12 labels, 12 QPs"),
        ("intra_raw_blocks", bytes(512 * 12 + 2), r"12 blocks and 2 bytes, 12 labels"),
        ("labels", bytes([10] * 12), r"labels/bee_16\.bin: label 0 is 10"),
        ("intra_raw_blocks", b"\xff\xff" * 256 * 12, "a pixel is 65535, beyond 10 bits"),
        ("qps", None, "bee has no qps of 16"),
    ],
)
def test_raw_folders_that_do_not_fit_are_refused(tmp_path, kind, data, match):
    folder = av1_sets.raw_folder(tmp_path / "raw", sequences={"bee": 12})
    path = folder / kind / "bee_16.bin"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(ValueError, match=match):
        import_raw(tmp_path / "set", folder, say=silent)
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no folder intra_raw_blocks"):
        import_raw(tmp_path / "set", tmp_path, say=silent)
    with pytest.raises(ValueError, match="holds no blocks of 32"):
        import_raw(tmp_path / "set", av1_sets.raw_folder(tmp_path / "raw"), size=32, say=silent)
    with pytest.raises(ValueError, match="size=12"):
        import_raw(tmp_path / "set", tmp_path / "raw", size=12, say=silent)


# Splits, balance, drawings


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


# Sets in memory


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
