"""Versions of libaom side by side: the control, the tables, and errors."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from av1_trees import SIZE, drawn, labels, made

from jaxvision.data.av1.partitions import HORZ, NODE_SIZES, SPLIT

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import av1_versions  # noqa: E402


def coded(nodes, stream=b"a"):
    return av1_versions.Coded(stream, 80, [labels(nodes)])


@pytest.mark.parametrize("size", NODE_SIZES)
def test_the_control_breaks_when_one_node_or_one_byte_is_another(size):
    types = {(0, 0, larger): SPLIT for larger in NODE_SIZES if larger > size}
    right, wrong = made(types, *SIZE), made(types | {(0, 0, size): HORZ}, *SIZE)
    assert av1_versions.control("3.6.0", coded(right), coded(right)) == 1
    for again in (coded(wrong), coded(right, b"b")):
        with pytest.raises(ValueError, match="libaom 3.6.0 does not decide the same twice"):
            av1_versions.control("3.6.0", coded(right), again)


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
        (["3.6.0", "3.14.1"], ["--frames=0"], "frames=0 must be at least 1"),
        (["3.6.0", "3.14.1"], ["--clips=tea"], "photograph 'tea' is none of astronaut"),
    ],
)
def test_what_cannot_be_compared_gets_one_line(monkeypatch, capsys, versions, words, message):
    fakes(monkeypatch, *versions)
    assert av1_versions.main(words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and re.search(message, error)


def test_qualities_that_are_no_numbers_are_named(capsys):
    with pytest.raises(SystemExit) as stop:
        av1_versions.main(["--cq=20,x"])
    assert stop.value.code == 2
    assert re.search(
        "--cq: '20,x' is no list of numbers as 20,32$", capsys.readouterr().err.strip()
    )
