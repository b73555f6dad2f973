"""Where the steered encoder comes from, its verb, and its comparison with libaom's presets."""

import argparse
import sys
import types

import numpy as np
import pytest
from steered_library import DEPTH, FRAME, HEIGHT, TINY, WIDTH, steered  # noqa: F401

from jaxvision.cnn_av1 import encode, masks
from jaxvision.cnn_av1.steering import build as building
from jaxvision.cnn_av1.steering import comparison, library
from jaxvision.cnn_av1.steering.build import SteeringError
from jaxvision.cnn_av1.steering.quantizers import base_qindex
from jaxvision.cnn_av1.steering.trade_figure import trade_figure
from jaxvision.data.av1.decoder import Decoder
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.ivf import read_ivf
from jaxvision.data.av1.library import open_library, places


def test_the_base_index_follows_from_the_level():
    codec = open_library()
    for cq in (1, 20, 61, 62, 63):
        options = LABEL_OPTIONS | {"cq-level": cq, "cpu-used": 6}
        with Decoder(codec) as decoder:
            decoder.decode(encode_clip(codec, [TINY], depth=10, options=options)[0].data)
            assert decoder.base_qindex() == base_qindex(cq)
    with pytest.raises(ValueError, match="cq-level=64"):
        base_qindex(64)


def test_what_is_missing_is_named_with_its_mend(monkeypatch, tmp_path):
    monkeypatch.setattr(building.shutil, "which", lambda _: None)
    with pytest.raises(SteeringError, match="needs gcc.*apt-get install gcc libaom-dev"):
        building.build(tmp_path)
    monkeypatch.setattr(building.shutil, "which", lambda _: "gcc")
    monkeypatch.setattr(building, "_said", lambda *_: "libaom.a\n")
    monkeypatch.delenv(building.ARCHIVE, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SteeringError, match="needs libaom.a.*JAXVISION_LIBAOM_A=FILE"):
        building.build(tmp_path)
    monkeypatch.setenv(building.ARCHIVE, str(tmp_path / "no.a"))
    with pytest.raises(SteeringError, match="no.a is no file"):
        building.build(tmp_path)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SteeringError, match="needs Linux.*darwin"):
        building.build(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["3.5.0", "3.13.1", "4.0.0", "unknown"])
def test_versions_that_are_not_known_are_refused(version):
    with pytest.raises(SteeringError, match=f"libaom {version} cannot be steered: versions 3.6 to"):
        library.check_version(version)
    for known in (*library.TESTED, "3.8.2"):
        library.check_version(known)


def test_a_library_that_does_not_link_leaves_nothing(steered, monkeypatch, tmp_path):
    (tmp_path / "libaom.a").write_text("no archive")
    monkeypatch.setenv(building.ARCHIVE, str(tmp_path / "libaom.a"))
    with pytest.raises(SteeringError, match="libaom.a cannot be steered: "):
        building.build(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_one_that_fails_its_test_is_refused_and_not_remembered(tmp_path):
    """Here a libaom that knows of no masks."""
    with pytest.raises(SteeringError, match="did not pass.*is no library that can be steered"):
        library._test(places()[0], tmp_path / "stamp.json")
    assert not list(tmp_path.iterdir())


def test_the_verb_writes_a_stream_that_others_decode(steered, monkeypatch, tmp_path, capsys):
    clip = tmp_path / "clip.y4m"
    planes = tuple(
        (plane[: 64 // n, : 96 // n] >> 2).astype(np.uint8)
        for plane, n in zip(FRAME, (1, 2, 2), strict=True)
    )
    frame = b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    clip.write_bytes(b"YUV4MPEG2 W96 H64 F25:1 C420jpeg\n" + 2 * frame)
    made = types.ModuleType(encode.PREDICTOR)
    made.predictor = lambda path: (
        lambda planes, qindex, levels: {
            level: np.tile(np.eye(10)[0], (len(masks.positions(64, 96, level)[0]), 1))
            for level in levels
        }
    )
    monkeypatch.setitem(sys.modules, encode.PREDICTOR, made)
    monkeypatch.setattr(encode, "open_steered", lambda: steered)
    parser = argparse.ArgumentParser()
    encode.add_arguments(parser)
    stream = tmp_path / "out.ivf"
    words = [str(clip), str(stream), "--model=m.npz", "--levels=16,8", "--verify", "--frames=1"]
    encode.run(parser.parse_args(words))
    header, packets = read_ivf(stream)
    assert (header.width, header.height, header.rate, header.frames) == (96, 64, (25, 1), 1)
    assert len(list(packets)) == 1
    assert "shows the same" in capsys.readouterr().out
    for word, message in (
        ("--levels=12", "level '12' is none"),
        ("--levels=32", "--tau16=0.5 is given, but 16 is not among"),
        ("--tau=0", "tau=0.0 of level 64"),
        ("--cpu-used=5", "from 0 to 3"),
        ("--frames=0", "--frames=0"),
        ("--cq=64", "cq-level=64"),
    ):
        with pytest.raises(ValueError, match=message):
            encode.run(parser.parse_args([*words[:3], "--tau16=0.5", word]))
    with pytest.raises(ValueError, match=r"out.mp4: streams are written as .ivf"):
        encode.run(parser.parse_args([str(clip), str(tmp_path / "out.mp4"), "--model=m.npz"]))


def test_a_comparison_has_oracles_for_nothing(steered, tmp_path):
    contestants = [*comparison.presets(1), *comparison.oracles()]
    lines = []
    rows = comparison.compare(
        steered,
        {"made": ([TINY], DEPTH)},
        contestants,
        predict=None,
        qualities=(40, 55),
        repeats=2,
        echo=lines.append,
    )
    assert len(rows) == 6 and len(lines) == 4
    found = {(trade.clip, trade.name): trade for trade in comparison.trades(rows)}
    assert set(clip for clip, _ in found) == {"made", "mean"}
    every, some = found["mean", "oracle, all levels"], found["mean", "oracle, 16"]
    assert every.bd_rate == some.bd_rate == 0
    assert every.search_saved > some.search_saved > 0
    trade_figure(tmp_path / "trades.png", list(found.values()))
    assert (tmp_path / "trades.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="first contestant must be 'cpu-used 0'"):
        comparison.compare(steered, {}, contestants[1:], predict=None)
    model = comparison.steered_by({64: 0.9, 16: 0.9, 8: 0.8})
    assert model.name == "64+16@0.90 8@0.80"
    with pytest.raises(ValueError, match="needs a model"):
        clips = {"made": ([TINY], DEPTH)}
        comparison.compare(
            steered, clips, [contestants[0], model], predict=None, qualities=(63,), echo=print
        )


def test_trades_are_shares_of_the_anchor():
    rows = []
    for name, scale, spent in (("cpu-used 0", 1.0, 4.0), ("cpu-used 1", 1.1, 1.0)):
        for cq, size in ((20, 4000), (43, 1000)):
            size = round(size * scale)
            rows.append(
                comparison.Row("a", name, cq, size, 60 - cq / 2, spent, 0.4, int(100 * spent))
            )
    (alone, mean) = comparison.trades(rows)
    np.testing.assert_allclose(alone.bd_rate, 10)
    assert (alone.time_saved, alone.search_saved) == (0.75, 0.75)
    np.testing.assert_allclose(alone.time_saved_in_all, 0.65)
    assert mean.clip == "mean" and mean.bd_rate == alone.bd_rate
