"""The steered encoder: masks are obeyed, counts and costs are the search's, streams are sound."""

import argparse
import functools
import sys
import types

import numpy as np
import pytest

from jaxvision.cnn_av1 import encode, masks
from jaxvision.cnn_av1.steering import build as building
from jaxvision.cnn_av1.steering import comparison, library, replay
from jaxvision.cnn_av1.steering.build import SteeringError
from jaxvision.cnn_av1.steering.coding import encode_masked, encode_steered, oracle_tables
from jaxvision.cnn_av1.steering.quantizers import base_qindex
from jaxvision.cnn_av1.steering.second_decoder import second_decoder, verify
from jaxvision.cnn_av1.steering.trade_figure import trade_figure
from jaxvision.data.av1.decoder import Decoder
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.ivf import read_ivf
from jaxvision.data.av1.library import open_library, places
from jaxvision.data.av1.partitions import HORZ_4, NODE_SIZES, SPLIT, VERT_4

HEIGHT, WIDTH, DEPTH = replay.HEIGHT, replay.WIDTH, replay.DEPTH
FRAME = replay.made_frames()[0]
TINY = tuple(
    plane[: 64 // n, 40 // n : 104 // n] for plane, n in zip(FRAME, (1, 2, 2), strict=True)
)


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    try:
        building.build(folder := tmp_path_factory.mktemp("steering"))
    except SteeringError as error:
        if not str(error).startswith("steering needs"):
            raise
        pytest.skip(str(error))
    return library.open_steered(folder)


@pytest.fixture(scope="module")
def first(steered):
    """An encode without masks, with all that was logged of it and counted."""
    with steered.logged(2000) as log:
        report = encode_masked(steered, [FRAME], depth=DEPTH, cq=32)
    return report, log.records(), steered.counters()


def forced(steered, table, cq=32, frame=FRAME):
    return encode_masked(steered, [frame], depth=DEPTH, cq=cq, tables=lambda *_: table)


@pytest.mark.parametrize("levels", [NODE_SIZES, (16,), (64, 32)])
def test_what_was_chosen_given_back_gives_the_same_bytes(steered, first, levels):
    report = first[0]
    again = forced(steered, oracle_tables(report, HEIGHT, WIDTH, levels=levels)(0, FRAME))
    assert again.packets == report.packets
    assert 0 < again.searched < report.searched * (0.6 if levels == NODE_SIZES else 1)
    found = steered.counters()
    assert found.insane == 0 and 0 < found.narrowed <= found.nodes < first[2].nodes


def test_without_masks_the_stream_is_libaom_s_own(steered, first):
    packets = encode_clip(
        steered.library, [FRAME], depth=DEPTH, options=LABEL_OPTIONS | {"cq-level": 32}
    )
    assert packets == list(first[0].packets)
    assert forced(steered, masks.full(HEIGHT, WIDTH)).packets == first[0].packets


@pytest.mark.parametrize("cq", [20, 55])
@pytest.mark.parametrize("kind", ["hard", "soft", "extended"])
def test_any_masks_are_obeyed_and_other_decoders_agree(steered, kind, cq):
    rng = np.random.default_rng(cq)
    table = replay.random_table(HEIGHT, WIDTH, rng=rng)
    if kind == "soft":
        table |= replay.random_table(HEIGHT, WIDTH, rng=rng)
        table[:2] |= 1 << SPLIT
    elif kind == "extended":
        table[:2] = 1 << SPLIT
        table[2] = np.uint16(1) << rng.integers(4, 10, table.shape[1:], np.uint16)
        table[2] |= np.uint16(1) << rng.integers(4, 10, table.shape[1:], np.uint16)
    report = forced(steered, table, cq)
    kept, whole = replay.obeyed(report.trees[0], table)
    assert kept == whole > 5
    name, decode = second_decoder(steered.library)
    verify(report, decode, name, size=(WIDTH, HEIGHT), depth=DEPTH)
    with pytest.raises(ValueError, match="1 pictures, not 2"):
        twice = types.SimpleNamespace(packets=report.packets, digests=2 * report.digests)
        verify(twice, decode, name, size=(WIDTH, HEIGHT), depth=DEPTH)


@pytest.mark.parametrize("kind", [HORZ_4, VERT_4])
def test_one_four_way_type_is_left_out_and_no_more_searched(steered, first, kind):
    """With all basic types allowed, libaom's own judgement of the other one holds."""
    table = masks.full(HEIGHT, WIDTH)
    table[:3] &= ~np.uint16(1 << kind)
    assert any(node.partition == kind and node.whole for node in first[0].trees[0])
    found = forced(steered, table)
    assert not any(node.partition == kind and node.whole for node in found.trees[0])
    assert found.searched <= first[0].searched


def test_a_type_is_found_beside_any_other(steered, first):
    """libaom judges extended types by basic ones' costs: not where masks leave these out."""
    report = first[0]
    table = oracle_tables(report, HEIGHT, WIDTH, levels=(16,))(0, FRAME)
    table[2][table[2] != masks.EVERY] |= 1
    assert sum(node.partition > SPLIT for node in report.trees[0]) > 3
    assert forced(steered, table).trees == report.trees


def test_the_least_cost_is_that_of_the_type(first):
    report, records, counters = first
    keys = zip(*(records[key].tolist() for key in ("row", "col", "size")), strict=True)
    found = dict(zip(keys, records, strict=True))
    kinds = set()
    for node in report.trees[0]:
        if not node.whole:
            continue
        record = found[node.row, node.col, node.size]
        kinds.add(node.partition > SPLIT)
        assert record["type"] == node.partition and record["mask"] == masks.EVERY
        least = np.nanmin(record["cost"])
        np.testing.assert_allclose(least, record["basic"], rtol=1e-5)  # of rounded rates
        if node.partition <= SPLIT:
            assert np.nanargmin(record["cost"]) == node.partition
            np.testing.assert_allclose(least, record["final"], rtol=1e-5)
        else:
            assert record["final"] < least
    assert kinds == {True, False}
    assert len(report.trees[0]) < len(records) < counters.nodes  # also what larger leaves hide


def test_records_beyond_the_capacity_are_counted(steered, first):
    with steered.logged(5) as log:
        encode_masked(steered, [FRAME], depth=DEPTH, cq=32)
    assert len(log.records()) == 5 and log.lost == len(first[1]) - 5
    encode_masked(steered, [FRAME], depth=DEPTH, cq=63)
    assert log.records()["row"].max() < 32, "nothing is written after the block"
    with pytest.raises(ValueError, match="capacity=0"), steered.logged(0):
        pass


def test_a_sure_predictor_is_an_oracle_and_a_vague_one_none(steered, first):
    report = first[0]

    def sure(planes, qindex, level):
        assert planes is FRAME and qindex == 128
        rows, cols = masks.positions(HEIGHT, WIDTH, level)
        types = {(n.row, n.col): n.partition for n in report.trees[0] if n.size == level}
        return np.eye(10)[[types.get(at, 0) for at in zip(rows, cols, strict=True)]]

    steer = functools.partial(encode_steered, steered, [FRAME], depth=DEPTH, cq=32)
    taus = dict.fromkeys(NODE_SIZES, 0.9)
    found = steer(predict=sure, taus=taus)
    assert found.packets == report.packets and found.searched < report.searched / 3
    every = dict.fromkeys(NODE_SIZES, 1.0)
    vague = steer(predict=lambda *at: np.full((len(sure(*at)), 10), 0.1), taus=every)
    assert vague.packets == report.packets and vague.searched == report.searched
    with pytest.raises(ValueError, match="1 predictions for 48 nodes of 16 pixels"):
        steer(predict=lambda *_: np.eye(10)[:1], taus={16: 0.9})
    with pytest.raises(ValueError, match="tau=2"):
        steer(predict=sure, taus={16: 2})


def test_masks_of_another_form_are_refused(steered):
    for table, message in (
        (np.zeros((4, 8, 8), np.uint16), "0x0 allows no type"),
        (np.ones((3, 8, 8), np.uint16), r"not \[4 rows cols\]"),
        (np.ones((4, 8, 8), np.int64), "masks are int64"),
    ):
        with pytest.raises(ValueError, match=message):
            steered.set_masks(table)


def test_the_base_index_follows_from_the_level():
    codec, tiny = (
        open_library(),
        tuple(plane[: 32 // n, : 32 // n] for plane, n in zip(FRAME, (1, 2, 2), strict=True)),
    )
    for cq in (1, 20, 61, 62, 63):
        options = LABEL_OPTIONS | {"cq-level": cq, "cpu-used": 6}
        with Decoder(codec) as decoder:
            decoder.decode(encode_clip(codec, [tiny], depth=10, options=options)[0].data)
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
        lambda planes, qindex, level: np.tile(
            np.eye(10)[0], (len(masks.positions(64, 96, level)[0]), 1)
        )
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
        ("--levels=16", "--tau8=0.5 is given, but 8 is not among"),
        ("--tau=0", "tau=0.0 of level 64"),
        ("--cpu-used=5", "from 0 to 3"),
        ("--frames=0", "--frames=0"),
        ("--cq=64", "cq-level=64"),
    ):
        with pytest.raises(ValueError, match=message):
            encode.run(parser.parse_args([*words[:3], "--tau8=0.5", word]))
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
