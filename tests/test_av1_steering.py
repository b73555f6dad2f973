"""The steered encoder: masks are obeyed, counts and costs are the search's, streams are sound."""

import functools
import types

import numpy as np
import pytest
from steered_library import DEPTH, FRAME, HEIGHT, TINY, WIDTH, steered  # noqa: F401

from jaxvision.cnn_av1 import masks
from jaxvision.cnn_av1.steering import replay
from jaxvision.cnn_av1.steering.coding import encode_masked, encode_steered, oracle_tables
from jaxvision.cnn_av1.steering.second_decoder import second_decoder, verify
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.partitions import HORZ_4, NODE_SIZES, SPLIT, VERT_4


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

    def of_level(level):
        rows, cols = masks.positions(HEIGHT, WIDTH, level)
        types = {(n.row, n.col): n.partition for n in report.trees[0] if n.size == level}
        return np.eye(10)[[types.get(at, 0) for at in zip(rows, cols, strict=True)]]

    def sure(planes, qindex, levels):
        assert planes is FRAME and qindex == 128
        return {level: of_level(level) for level in levels}

    def unsure(*at):
        return {level: np.full_like(found, 0.1) for level, found in sure(*at).items()}

    steer = functools.partial(encode_steered, steered, [FRAME], depth=DEPTH, cq=32)
    taus = dict.fromkeys(NODE_SIZES, 0.9)
    found = steer(predict=sure, taus=taus)
    assert found.packets == report.packets and found.searched < report.searched / 3
    every = dict.fromkeys(NODE_SIZES, 1.0)
    vague = steer(predict=unsure, taus=every)
    assert vague.packets == report.packets and vague.searched == report.searched
    with pytest.raises(ValueError, match="1 predictions for 48 nodes of 16 pixels"):
        steer(predict=lambda *_: {16: np.eye(10)[:1]}, taus={16: 0.9})
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
