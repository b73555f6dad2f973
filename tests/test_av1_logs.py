"""Tables, and logs of encoders: forms that are read, and lines that are refused."""

import av1_sets
import pytest

from jaxvision.cnn_av1.dataset.import_logs import import_logs
from jaxvision.cnn_av1.dataset.logs import read_logs
from jaxvision.cnn_av1.dataset.rows import Row, read_rows, write_rows
from jaxvision.cnn_av1.dataset.sources import sources
from jaxvision.data.av1 import partitions


def silent(text):
    pass


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
