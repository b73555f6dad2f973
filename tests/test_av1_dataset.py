"""The four steps, and folders without a manifest: what is kept, and what is refused by name."""

import json

import av1_sets
import numpy as np
import pytest

from jaxvision.cnn_av1.dataset import records
from jaxvision.cnn_av1.dataset.align import align
from jaxvision.cnn_av1.dataset.blocks import blocks_of, make_blocks
from jaxvision.cnn_av1.dataset.check import check
from jaxvision.cnn_av1.dataset.import_logs import import_logs
from jaxvision.cnn_av1.dataset.merge import merge
from jaxvision.cnn_av1.dataset.raw import import_raw
from jaxvision.cnn_av1.dataset.rows import Row, read_rows
from jaxvision.cnn_av1.dataset.sources import sources


def silent(text):
    pass


def no_library():
    raise AssertionError("no stream is to be decoded")


NODES = [(0, 0, 0, 32, 3, 90), (0, 0, 0, 16, 1, 90), (0, 0, 4, 16, 9, 90), (1, 4, 8, 16, 0, 91)]
LOG = "frame,mi_row,mi_col,size,partition,qindex\n" + "".join(
    ",".join(map(str, node)) + "\n" for node in NODES
)


def imported(tmp_path, *, context=0, sizes=(16, 32), depth=10):
    """A set from a log: its root, and the frames of its video."""
    frames = av1_sets.video(tmp_path / "v.y4m", width=72, height=40, depth=depth)
    (tmp_path / "log.csv").write_text(LOG + "0,8,16,16,0,90\n")  # crosses the edge
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


def test_a_file_that_has_changed_is_made_again(tmp_path):
    root, _ = imported(tmp_path)
    path = root / "labels/v_16.bin"
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])  # as many bytes as before
    align(root, say=silent)
    assert path.read_bytes() == whole
    check(root, say=silent)


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


def test_new_labels_are_not_given_to_old_blocks(tmp_path):
    root, _ = imported(tmp_path)
    (tmp_path / "log.csv").write_text(LOG.replace("0,0,0,16,1,90", "0,4,4,16,2,90"))
    import_logs(root, tmp_path / "log.csv", *sources([str(tmp_path / "v.y4m")]), say=silent)
    for step in (merge, align):
        with pytest.raises(ValueError, match="blocks v_16 do not fit their tables: run `blocks`"):
            step(root, say=silent)
    make_blocks(root, sizes=(16, 32), library=no_library, say=silent)
    merge(root, say=silent)
    align(root, say=silent)
    assert np.fromfile(root / "labels/v_16.bin", np.uint8).tolist() == [2, 9, 0]


def test_old_records_do_not_stand_for_half_of_new_tables(tmp_path, monkeypatch):
    root, _ = imported(tmp_path)
    (tmp_path / "log.csv").write_text(LOG.replace("16,1,90", "16,2,90"))
    monkeypatch.setattr("jaxvision.cnn_av1.dataset.rows.write_rows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_logs(root, tmp_path / "log.csv", *sources([str(tmp_path / "v.y4m")]), say=silent)
    assert records.names(root, "tables") == []


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
