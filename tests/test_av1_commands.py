"""The command line, from photographs and streams to sets, with a real encoder."""

import json
import shutil

import av1_sets
import numpy as np
import pytest

from jaxvision.cnn_av1 import __main__ as command
from jaxvision.cnn_av1.clips import photo_clip
from jaxvision.cnn_av1.dataset import labelling, tables
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.dataset.rows import read_rows
from jaxvision.data.av1 import ivf
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.library import open_library

OPTIONS = ["--size=100x72", "--frames=2", "--cpu-used=6"]
PHOTOS = ["photo:coffee", "photo:camera", "photo:brick"]


def run(*words):
    return command.main([str(word) for word in words])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled") / "set"
    assert run("label", *PHOTOS, "--out", root, "--cq=30,50", "--sizes=16,32", *OPTIONS) == 0
    return root


@pytest.fixture
def copy(labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "set")
    return tmp_path / "set"


def test_photographs_become_labels(labelled, capsys):
    assert run("check", labelled) == 0
    assert "blocks of 16" in capsys.readouterr().out
    manifest = json.loads((labelled / "manifest.json").read_text())
    library = open_library()
    assert manifest["sequences"]["coffee"]["encoder"]["library"] == library.version
    assert manifest["sequences"]["coffee"]["compared"] > 50
    assert manifest["split"]["sources"] == {"brick": "train", "camera": "train", "coffee": "val"}
    frames = photo_clip("coffee", width=100, height=72, frames=2)
    rows = read_rows(labelled / "index" / "coffee_16.csv")
    blocks = np.fromfile(labelled / "intra_raw_blocks/coffee_16.bin", "<u2").reshape(-1, 16, 16)
    labels = np.fromfile(labelled / "labels/coffee_16.bin", np.uint8)
    assert len(rows) == len(blocks) == len(labels) > 20 and len(set(labels)) >= 3
    for row, block, label in zip(rows, blocks, labels, strict=True):
        y, x = 4 * row.mi_row, 4 * row.mi_col
        assert row.partition == label and y + 16 <= 72 and x + 16 <= 100
        np.testing.assert_array_equal(block, frames[row.frame][0][y : y + 16, x : x + 16])
    assert {(row.cq_level, row.is_key) for row in rows} == {(30, 1), (50, 1)}
    quantizers = {row.qindex for row in rows if row.cq_level == 30}
    assert max(quantizers) < min(row.qindex for row in rows if row.cq_level == 50)
    assert [row.cq_level for row in rows] == sorted(row.cq_level for row in rows)


def test_the_sum_of_nodes_is_that_of_the_frame(labelled):
    """Each pixel of whole nodes of 64 is of one leaf: no node is lost, none counted twice."""
    rows = read_rows(labelled / "tables" / "camera" / "30_0000.csv")
    split = {(r.size, r.mi_row, r.mi_col) for r in rows if r.partition == 3}
    for row in (r for r in rows if r.size == 64):
        place = row.mi_row // 16, row.mi_col // 16
        within = [r for r in rows if (r.mi_row // 16, r.mi_col // 16) == place]
        leaves = [r for r in within if r.partition != 3 or r.size == 8]
        assert sum(r.size**2 for r in leaves) == 64**2
    for size, row, col in split - {s for s in split if s[0] == 8}:
        inner = [r for r in rows if r.size == size // 2]
        found = {(r.mi_row, r.mi_col) for r in inner}
        step = size // 8
        assert (row, col) in found and (row + step, col + step) in found


def test_step_by_step_is_the_same(labelled, tmp_path):
    root = tmp_path / "set"
    assert run("tables", *PHOTOS, "--out", root, "--cq=30", *OPTIONS, "--jobs=2") == 0
    assert run("tables", *PHOTOS, "--out", root, "--cq=50", *OPTIONS) == 0
    for words in (["blocks", root, "--sizes=16,32"], ["merge", root], ["align", root]):
        assert run(*words) == 0
    for path in (labelled / "manifest.json", *labelled.glob("[!r]*/*.bin")):
        assert path.read_bytes() == (root / path.relative_to(labelled)).read_bytes()


def test_sets_are_prepared(labelled, tmp_path, capsys):
    assert run("prepare", labelled, "--out", tmp_path / "made", "--key-frames") == 0
    val = BlockSet.load(tmp_path / "made" / "block_16" / "val.npz")
    assert val.names == ("coffee",) and len(val) > 20
    assert run("prepare", labelled, "--out", tmp_path / "made", "--size=64") == 1
    assert "holds no blocks of 64, but of 16, 32: run `blocks --sizes`" in capsys.readouterr().err


def test_work_that_was_broken_off_goes_on(labelled, tmp_path, monkeypatch, capsys):
    own, made = labelling.label_unit, []

    def broken(root, unit, *rest, tell):
        made.append(unit.name)
        if len(made) == 2:  # Ctrl-C, after a table of this unit was written
            monkeypatch.setattr(labelling.rows, "write_rows", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                own(root, unit, *rest, tell=tell)
            monkeypatch.undo()
            raise KeyboardInterrupt
        return own(root, unit, *rest, tell=tell)

    monkeypatch.setattr(tables, "label_unit", broken)
    root = tmp_path / "set"
    words = ["label", *PHOTOS, "--out", root, "--cq=30,50", "--sizes=16,32", *OPTIONS]
    assert run(*words) == 130
    assert "run it again to go on" in capsys.readouterr().err
    assert not list(root.rglob("*.part")) and not (root / "manifest.json").exists()
    assert len(list((root / "records").rglob("*.json"))) == 1
    again = []
    monkeypatch.setattr(tables, "label_unit", lambda *a, **k: again.append(a) or own(*a, **k))
    assert run(*words) == 0
    assert len(again) == 5 and "1 of 6 units were finished before" in capsys.readouterr().out
    assert (root / "manifest.json").read_bytes() == (labelled / "manifest.json").read_bytes()


def test_a_finished_set_is_not_made_again(copy, monkeypatch, capsys):
    monkeypatch.setattr(tables, "label_unit", lambda *a, **k: 1 / 0)
    words = ["label", *PHOTOS, "--out", copy, "--sizes=16,32", *OPTIONS]
    assert run(*words, "--cq=30,50") == 0
    assert capsys.readouterr().out.count("were finished before, and kept") == 4


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Key and inter frames of a panned photograph."""
    path = tmp_path_factory.mktemp("stream") / "my.ivf"
    frames = photo_clip("astronaut", width=80, height=64, frames=3)
    options = LABEL_OPTIONS | {"cpu-used": 6, "cq-level": 40}
    packets = encode_clip(open_library(), frames, depth=10, options=options, key_frames_only=False)
    ivf.write_ivf(path, packets, width=80, height=64)
    return path


def test_any_stream_is_labelled_on_its_decoded_pixels(stream, tmp_path):
    root = tmp_path / "set"
    options = ["--cq=40", "--cpu-used=6", "--size=80x64"]
    assert run("label", stream, "photo:camera", "--out", root, *options) == 0
    about = json.loads((root / "manifest.json").read_text())["sequences"]["my"]
    assert about["labels"] == "of an AV1 stream; the pixels are the decoded ones"
    assert about["encoder"] is None and about["frames"] == {"stream": 3}
    rows = read_rows(root / "index" / "my_16.csv")
    assert {(row.frame, row.is_key) for row in rows} >= {(0, 1), (1, 0), (2, 0)}
    assert {row.cq_level for row in rows} == {-1}
    assert run("prepare", root, "--out", tmp_path / "all") == 0
    assert run("prepare", root, "--out", tmp_path / "key", "--key-frames") == 0
    sizes = []
    for name in ("all", "key"):
        sides = [BlockSet.load(tmp_path / name / "block_16" / f"{s}.npz") for s in ("train", "val")]
        own = [s for s in sides if "my" in s.names]
        sizes.append(sum((s.sequence == s.names.index("my")).sum() for s in own))
    assert sizes == [len(rows), sum(row.is_key for row in rows)]


def photographed(path, *, photograph="brick", width=72, height=40):
    """Writes one frame of 8 bits that is worth partitioning."""
    planes = photo_clip(photograph, width=width, height=height, frames=1)[0]
    frames = [tuple((plane >> 2).astype(np.uint8) for plane in planes)]
    return av1_sets.video(path, width=width, height=height, depth=8, content=frames)


def test_odd_sizes_are_labelled(tmp_path):
    frames = photographed(tmp_path / "odd.y4m", width=83, height=69)
    words = ["label", tmp_path / "odd.y4m", "--out", tmp_path / "set", "--cq=10", "--cpu-used=6"]
    assert run(*words, "--sizes=8,16") == 0
    rows = read_rows(tmp_path / "set" / "index" / "odd_8.csv")
    blocks = np.fromfile(tmp_path / "set/intra_raw_blocks/odd_8.bin", "<u2").reshape(-1, 8, 8)
    assert max(4 * r.mi_row + 8 for r in rows) <= 69 and max(4 * r.mi_col + 8 for r in rows) <= 83
    for row, block in zip(rows, blocks, strict=True):
        y, x = 4 * row.mi_row, 4 * row.mi_col
        np.testing.assert_array_equal(block, frames[0][0][y : y + 8, x : x + 8])
    assert json.loads((tmp_path / "set/manifest.json").read_text())["depth"] == 8


def test_eight_bits_are_shifted_when_prepared(tmp_path):
    made = {
        name: photographed(tmp_path / f"{name}.y4m", photograph=photograph)
        for name, photograph in (("a", "brick"), ("b", "coins"))
    }
    clips = [tmp_path / "a.y4m", tmp_path / "b.y4m"]
    assert run("label", *clips, "--out", tmp_path / "set", "--cq=10", "--cpu-used=6") == 0
    assert run("prepare", tmp_path / "set", "--out", tmp_path / "made") == 0
    for side in ("train", "val"):
        blocks = BlockSet.load(tmp_path / "made" / "block_16" / f"{side}.npz")
        luma = made[blocks.names[0]][0][0].astype(int)
        row = read_rows(tmp_path / "set" / "index" / f"{blocks.names[0]}_16.csv")[0]
        y, x = 4 * row.mi_row, 4 * row.mi_col
        np.testing.assert_array_equal(blocks.blocks[0], 4 * luma[y : y + 16, x : x + 16])


def errors(tmp_path, capsys, *words):
    assert run(*words) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    return told


def test_clips_that_cannot_be_labelled_are_refused(tmp_path, capsys):
    out = ["--out", tmp_path / "set", "--cpu-used=6", "--cq=40"]
    av1_sets.video(tmp_path / "ten.y4m", frames=2)
    av1_sets.video(tmp_path / "eight.y4m", depth=8)
    told = errors(tmp_path, capsys, "label", tmp_path / "ten.y4m", tmp_path / "eight.y4m", *out)
    assert "eight has 8 bits and ten 10: one set is of one depth; --deepen" in told
    told = errors(tmp_path, capsys, "label", tmp_path / "none.y4m", *out)
    assert "none.y4m: there is no such file" in told
    told = errors(tmp_path, capsys, "label", "photo:lena", *out)
    assert "photo:lena: there are photo:all and photo:astronaut" in told
    assert "is named as photo:coffee" in errors(tmp_path, capsys, "label", "photo:coffee:x", *out)
    data = (tmp_path / "ten.y4m").read_bytes()
    (tmp_path / "cut.y4m").write_bytes(data[:-5])
    assert "cut.y4m: frame 1 is cut off" in errors(
        tmp_path, capsys, "label", tmp_path / "cut.y4m", *out
    )
    assert not list((tmp_path / "set").rglob("cut.json"))
    (tmp_path / "w.y4m").write_bytes(data.replace(b"C420p10", b"C422", 1))
    told = errors(tmp_path, capsys, "label", tmp_path / "w.y4m", *out)
    assert "chroma is 4:2:2, and only 4:2:0 is read: ffmpeg" in told
    (tmp_path / "sub").mkdir()
    av1_sets.video(tmp_path / "sub" / "ten.y4m")
    told = errors(tmp_path, capsys, "label", tmp_path / "ten.y4m", tmp_path / "sub/ten.y4m", *out)
    assert "would both be sequence ten: rename one" in told
    assert "cq=64" in errors(tmp_path, capsys, "label", "photo:coffee", *out[:2], "--cq=64")


def test_streams_that_are_damaged_are_refused(stream, tmp_path, capsys):
    data = stream.read_bytes()
    (tmp_path / "cut.ivf").write_bytes(data[:-40])
    told = errors(tmp_path, capsys, "label", tmp_path / "cut.ivf", "--out", tmp_path / "set")
    assert "cut.ivf" in told and "cut off" in told
    (tmp_path / "no.ivf").write_bytes(b"DKIF")
    told = errors(tmp_path, capsys, "label", tmp_path / "no.ivf", "--out", tmp_path / "set")
    assert "no.ivf" in told
    assert not list((tmp_path / "set").rglob("*.json"))


def test_a_library_that_is_none_is_refused(tmp_path, capsys):
    out = ["--out", tmp_path / "set", "--library", tmp_path / "libaom.so"]
    assert "libaom.so" in errors(tmp_path, capsys, "label", "photo:coffee", *out)


def test_a_layout_that_changed_is_told(tmp_path, capsys, monkeypatch):
    """Partition bytes that are others than the tree's stop the work, and leave no record."""
    own = labelling.labelled_frames

    def changed(library, packets):
        for frame in own(library, packets):
            frame.map.partitions[:] ^= 1
            yield frame

    monkeypatch.setattr(labelling, "labelled_frames", changed)
    words = ["label", "photo:coffee", "--out", tmp_path / "set", "--cq=40", *OPTIONS]
    told = errors(tmp_path, capsys, *words)
    assert "coffee/40, frame 0: " in told and "partitions differ from the tree" in told
    assert not list((tmp_path / "set").rglob("*.json"))


def test_other_settings_in_one_set_are_refused(copy, tmp_path, capsys):
    words = ["label", "photo:coffee", "--out", copy, "--cq=30", "--size=100x72"]
    told = errors(tmp_path, capsys, *words, "--frames=2", "--cpu-used=5")
    assert "holds labels of another encoder" in told and "cpu-used 6" in told
    told = errors(tmp_path, capsys, *words, "--frames=3", "--cpu-used=6")
    assert "made otherwise (frames 2 → 3): give another --out" in told


def test_logs_and_raw_folders_are_imported(tmp_path, capsys):
    av1_sets.video(tmp_path / "v.y4m", width=72, height=40)
    (tmp_path / "log.csv").write_text("frame,row,col,size,partition\n0,0,0,16,HORZ_4\n0,9,0,8,0\n")
    words = ["import-logs", tmp_path / "log.csv", "--video", tmp_path / "v.y4m"]
    words += ["--out", tmp_path / "set"]
    assert "give --qp N" in errors(tmp_path, capsys, *words)
    assert "log.csv:3: row 9" in errors(tmp_path, capsys, *words, "--qp=90")
    folder = av1_sets.raw_folder(tmp_path / "raw")
    assert run("import-raw", folder, "--out", tmp_path / "raws", "--val-sources=ape,bee") == 0
    assert run("prepare", tmp_path / "raws", "--out", tmp_path / "made") == 0
    assert BlockSet.load(tmp_path / "made/block_16/val.npz").names == ("ape", "bee")
    (folder / "labels" / "cat_16.bin").write_bytes(bytes(7))
    told = errors(tmp_path, capsys, "import-raw", folder, "--out", tmp_path / "again")
    assert "cat_16.bin: 50 blocks, 7 labels, 50 QPs" in told


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["label", "a.y4m", "--out=o", "--size=12"], "'12' is no size as 352x288"),
        (["label", "a.y4m", "--out=o", "--cq=a"], "'a' is no list of numbers"),
        (["label", "a.y4m", "--out=o", "--frames=0"], "'0' is no number from 1"),
        (["label", "a.y4m"], "--out"),
        (["check"], "root"),
    ],
)
def test_words_that_make_no_sense_are_refused(words, match, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*words)
    assert stop.value.code == 2 and match in capsys.readouterr().err
