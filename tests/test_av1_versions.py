"""Agreement of two libaoms: made-up trees compared by hand and anew, the control, and errors."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxvision.data.av1 import tree
from jaxvision.data.av1.blocks import SIDES, extent
from jaxvision.data.av1.partitions import HORZ, HORZ_A, NODE_SIZES, NONE, SPLIT

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import av1_versions  # noqa: E402

SIZE = 142, 86  # pixels: nodes of all sizes cross the edges, and the map is larger than the frame


def made(types, width, height):
    """The nodes of the tree whose types, by row, column and size in pixels, are these or NONE."""

    def told(row, col, size):
        return types.get((4 * row, 4 * col, size), NONE)

    return tree.walk(told, *extent(width, height), 64)


def drawn(seed, width=SIZE[0], height=SIZE[1]):
    rng, (rows, cols) = np.random.default_rng(seed), extent(width, height)

    def told(row, col, size):
        kinds = tree.allowed(row, col, size, rows, cols)
        split = SPLIT in kinds and rng.random() < 0.5
        return SPLIT if split else int(rng.choice(kinds))

    return tree.walk(told, rows, cols, 64)


def labels(nodes, width=SIZE[0], height=SIZE[1]):
    return av1_versions.labels_of(nodes, width, height)


def shares(counts, row=None):
    nodes = counts.nodes.sum(0) if row is None else counts.nodes[row]
    return av1_versions.shares(nodes, counts.pixels[0 if row is None else row + 1])


def coded(nodes, stream=b"a"):
    return av1_versions.Coded(stream, 80, [labels(nodes)])


def test_two_small_trees_are_compared_as_by_hand():
    # Left superblock: whole, or four of 32 of which one is halved. Right: both halved alike.
    a = labels(made({(0, 64, 64): HORZ}, 128, 64), 128, 64)
    types = {(0, 0, 64): SPLIT, (0, 32, 32): HORZ, (0, 64, 64): HORZ}
    b = labels(made(types, 128, 64), 128, 64)
    counts = av1_versions.compare(a, b)
    assert counts.nodes.sum((1, 2)).tolist() == [2, 4, 0, 0]
    assert shares(counts) == dict(
        shared=2 / 6, equal=1 / 6, type=1 / 2, macro_f1=1 / 3, pixels=1 / 2
    )
    assert shares(counts, 0) == dict(
        shared=1.0, equal=1 / 2, type=1 / 2, macro_f1=1 / 3, pixels=1 / 2
    )
    of_32 = shares(counts, 1)
    assert (of_32["shared"], of_32["equal"], of_32["pixels"]) == (0, 0, 0)
    assert np.isnan(of_32["type"]) and np.isnan(shares(counts, 3)["pixels"])


def test_blocks_are_alike_where_their_nodes_are_not():
    # HORZ_A of 64 is two squares of 32 above a stripe; four nodes of 32 have the same two above.
    a = labels(made({(0, 0, 64): HORZ_A}, 64, 64), 64, 64)
    b = labels(made({(0, 0, 64): SPLIT}, 64, 64), 64, 64)
    counts = av1_versions.compare(a, b)
    assert shares(counts)["equal"] == 0 and shares(counts)["pixels"] == 1 / 2


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_sets_and_of_single_pixels(seed):
    width, height = SIZE
    trees = drawn(seed), drawn(seed + 100)
    counts = av1_versions.compare(*map(labels, trees))

    def inside(nodes):
        return {
            (n.size, n.row, n.col): n.partition
            for n in nodes
            if 4 * n.row + n.size <= height and 4 * n.col + n.size <= width
        }

    first, second = map(inside, trees)
    for k, size in enumerate(NODE_SIZES):
        expected = Counter(
            (first.get(key, 10), second.get(key, 10)) for key in first | second if key[0] == size
        )
        found = {(int(i), int(j)): counts.nodes[k, i, j] for i, j in np.argwhere(counts.nodes[k])}
        assert found == expected

    def by_pixel(nodes):
        held = {}
        for node in nodes:
            for row, col, number, _ in tree.leaves([node], *extent(width, height)):
                tall, wide = SIDES[number]
                for y in range(4 * row, min(4 * (row + tall), height)):
                    for x in range(4 * col, min(4 * (col + wide), width)):
                        held[y, x] = (row, col, number), node.size
        return held

    first, second = map(by_pixel, trees)
    assert len(first) == width * height
    for k, size in enumerate((None, *NODE_SIZES)):
        part = [at for at in first if size in (None, first[at][1], second[at][1])]
        same = sum(first[at][0] == second[at][0] for at in part)
        assert counts.pixels[k].tolist() == [same, len(part)]


def test_order_does_not_matter_and_a_tree_agrees_with_itself():
    a, b = labels(drawn(0)), labels(drawn(1))
    there, back = av1_versions.compare(a, b), av1_versions.compare(b, a)
    np.testing.assert_array_equal(there.nodes, back.nodes.transpose(0, 2, 1))
    np.testing.assert_array_equal(there.pixels, back.pixels)
    assert 0 < shares(there)["equal"] < 1
    assert set(shares(av1_versions.compare(a, a)).values()) == {1.0}
    with pytest.raises(ValueError, match=r"\(86, 142\) and \(64, 64\) pixels"):
        av1_versions.compare(a, labels(made({}, 64, 64), 64, 64))


@pytest.mark.parametrize("size", NODE_SIZES)
def test_the_control_breaks_when_one_node_or_one_byte_is_another(size):
    types = {(0, 0, larger): SPLIT for larger in NODE_SIZES if larger > size}
    right, wrong = made(types, *SIZE), made(types | {(0, 0, size): HORZ}, *SIZE)
    assert av1_versions.control("3.6.0", coded(right), coded(right)) == 1
    for again in (coded(wrong), coded(right, b"b")):
        with pytest.raises(ValueError, match="libaom 3.6.0 does not decide the same twice"):
            av1_versions.control("3.6.0", coded(right), again)


def test_shares_are_pooled_and_bounded_by_those_of_clips():
    nodes, pixels = np.zeros((2, 11, 11), int), np.array([[1, 2], [9, 10]])
    nodes[0, 0, 0], nodes[0, 0, 10] = 1, 3
    nodes[1, 0, 0] = 12
    found = av1_versions.bounded(nodes, pixels)
    assert found["nodes_either"] == 16 and found["nodes_both"] == found["nodes_equal"] == 13
    assert found["equal"] == [0.8125, 0.25, 1.0]  # a draw in four is of one clip alone
    assert found["pixels"] == [0.8333, 0.5, 0.9] and found["type"] == [1.0, 1.0, 1.0]
    one = av1_versions.bounded(nodes[:1], 0 * pixels[:1])
    assert one["equal"] == 0.25 and one["pixels"] is None


def test_two_versions_are_set_out_by_size_quality_and_clip():
    same, other = made({}, *SIZE), made({(0, 0, 64): SPLIT}, *SIZE)
    first = {("x", 20): coded(same), ("x", 55): coded(same)}
    second = {("x", 20): coded(same), ("x", 55): coded(other, b"b")}
    found = av1_versions.pair_of(first, second, ["x"], [20, 55])
    assert (found["streams_equal"], found["streams"]) == (1, 2)
    assert found["by_cq"]["20"]["equal"] == 1
    assert found["by_cq"]["55"]["equal"] < found["all"]["equal"] < 1
    mean = (1 + found["by_cq"]["55"]["equal"]) / 2
    assert found["mean_of_qualities"]["equal"] == pytest.approx(mean, abs=1e-4)
    assert found["by_size"]["64"]["equal"] == 0.75 and found["by_clip"]["x"] == found["all"]


def fakes(monkeypatch, *versions, code=None):
    """Libraries that are found at `0.so`, `1.so` …, and what they code: a tree by the version."""
    paths = {f"/some/{k}.so": SimpleNamespace(version=v) for k, v in enumerate(versions)}

    def opened(path):
        if path not in paths:
            raise av1_versions.AomError(f"{path}: cannot open")
        return paths[path]

    def tree_of(library, frames, *, cq, cpu_used):
        return coded(drawn(int(library.version[-1])), library.version.encode())

    monkeypatch.delenv(av1_versions.VARIABLE, raising=False)
    monkeypatch.setattr(av1_versions, "open_library", opened)
    monkeypatch.setattr(av1_versions, "places", lambda: [*paths, "libnone.so"])
    monkeypatch.setattr(av1_versions, "code", code or tree_of)


def test_a_run_compares_all_pairs_and_writes_no_path(monkeypatch, tmp_path, capsys):
    fakes(monkeypatch, "3.14.1", "3.6.0", "3.14.1")
    out = tmp_path / "new" / "versions.json"
    assert av1_versions.main(["--clips=coffee,chelsea", "--cq=20", f"--out={out}"]) == 0
    shown = capsys.readouterr()
    assert "/some/2.so is libaom 3.14.1 again" in shown.err and "libnone.so" in shown.err
    assert "| 0 | 3.6.0, 3.14.1 | 0 of 2 |" in shown.out
    text = out.read_text()
    found = json.loads(text)
    (pair,) = found["results"][0]["pairs"]
    assert (pair["first"], pair["second"]) == ("3.6.0", "3.14.1")
    assert pair["all"]["equal"][0] < 1
    assert {one["with_itself"] for one in found["results"][0]["versions"].values()} == {1.0}
    assert found["settings"]["threads"] == 1 and "/some" not in text and str(tmp_path) not in text


def test_a_libaom_that_decides_anew_ends_the_run(monkeypatch, capsys):
    turns = iter(range(100))
    fakes(monkeypatch, "3.6.0", "3.14.1", code=lambda *_, **__: coded(drawn(next(turns))))
    assert av1_versions.main(["--clips=coffee", "--cq=20"]) == 1
    assert "error: libaom 3.6.0 does not decide the same twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "versions, words, message",
    [
        (["3.6.0", "3.6.0"], [], "libaom 3.6.0 alone was found.* give --libraries=PATH,PATH$"),
        ([], [], "no libaom was found, and two versions are compared"),
        (["3.6.0", "3.14.1"], ["--libraries=/some/0.so"], "libaom 3.6.0 alone was found"),
        (["3.6.0", "3.14.1"], ["--libraries=/some/0.so,/no.so"], "/no.so: cannot open$"),
        (["3.6.0", "3.14.1"], ["--cq=20,x"], "--cq: '20,x' is no list of whole numbers$"),
        (["3.6.0", "3.14.1"], ["--frames=0"], "frames=0 must be at least 1"),
        (["3.6.0", "3.14.1"], ["--clips=tea"], "photograph 'tea' is none of astronaut"),
    ],
)
def test_what_cannot_be_compared_gets_one_line(monkeypatch, capsys, versions, words, message):
    fakes(monkeypatch, *versions)
    assert av1_versions.main(words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and re.search(message, error)
