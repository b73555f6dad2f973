"""A net of all sizes as a file, as a predictor of frames, and as pictures of trees."""

import csv
import dataclasses

import cv2
import numpy as np
import pytest
from flax import nnx

from jaxvision import model_file
from jaxvision.cnn_av1 import predictor
from jaxvision.cnn_av1.levels import LEVELS, around, shrunk, squares
from jaxvision.cnn_av1.model import BackboneConfig
from jaxvision.cnn_av1.pipeline import MultiTask, Pipeline
from jaxvision.cnn_av1.predict import PredictConfig, drawn, expected, predict
from jaxvision.cnn_av1.stage_model import ModelConfig
from jaxvision.cnn_av1.stages import levelled
from jaxvision.data.av1.partitions import HORZ_A, NODE_SIZES, NONE, SPLIT, possible
from jaxvision.data.av1.tree import Node, nodes, paint
from jaxvision.nn.resnet import ResNetConfig
from jaxvision.step import INFERENCE

RESNET = ResNetConfig(width=8, blocks=(1,), stem="half")
CFG = levelled(ModelConfig(
    backbone=BackboneConfig(resnet=RESNET, dropout=(0.0,), features=8), hidden=8
))  # fmt: skip


@pytest.fixture(scope="module")
def net():
    return MultiTask(CFG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def ask(net):
    return predictor.Predictor(net)


def planes(height=96, width=144, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 1024, (height // 8 + 1, width // 8 + 1)).astype(np.float32)
    luma = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return (np.clip(luma, 0, 1023).astype(np.uint16),)


@pytest.mark.parametrize("size", NODE_SIZES)
def test_nodes_come_in_raster_order(net, ask, size):
    frame = planes()
    found = ask(frame, 120)[size]
    rows, cols = 96 // size, 144 // size
    assert found.shape == (rows * cols, 10) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[:, [k for k in range(10) if k not in possible(size)]], 0)
    level = LEVELS[size]
    at = (np.array([size * (rows - 1)]), np.array([size * (cols - 1)]))
    block = shrunk(around(frame[0], *at, size=size, context=level.context), level.shrink)
    whole = nnx.view(net, **INFERENCE)
    alone = whole(block, np.array([120]), np.array([level.number]))["types"][0]
    np.testing.assert_allclose(found[-1], alone, atol=1e-5)


def test_eight_bits_are_ten_with_zeros(ask):
    (luma,) = planes()
    eight = (luma >> 2).astype(np.uint8)
    shifted = eight.astype(np.uint16) << 2
    np.testing.assert_array_equal(ask((eight,), 90)[16], ask((shifted,), 90)[16])
    with pytest.raises(ValueError, match="planes are float32"):
        ask((luma.astype(np.float32),), 90)
    with pytest.raises(ValueError, match="qindex=256"):
        ask((luma,), 256)
    with pytest.raises(ValueError, match="size=4"):
        ask((luma,), 90, (4,))
    assert ask((luma[:8, :8],), 90, (64,))[64].shape == (0, 10)


def test_a_model_survives_its_file(net, ask, tmp_path):
    path = tmp_path / "model.npz"
    predictor.save(path, net, CFG)
    again = predictor.predictor(path)
    np.testing.assert_array_equal(again(planes(), 60)[32], ask(planes(), 60)[32])
    with pytest.raises(FileNotFoundError):
        predictor.predictor(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no model")
    with pytest.raises(ValueError, match="text.npz is no model"):
        predictor.predictor(tmp_path / "text.npz")
    model_file.save(path, net, kind="other", config={})
    with pytest.raises(ValueError, match="kind 'other', not 'cnn_av1 levels 2'"):
        predictor.predictor(path)
    wide = dataclasses.replace(CFG, hidden=16)
    model_file.save(path, net, kind=predictor.KIND, config=dataclasses.asdict(wide))
    with pytest.raises(ValueError, match="other arrays than its configuration"):
        predictor.predictor(path)


def fixed(choose):
    """A predictor that is sure of `choose(size, row, col)` of each node."""

    def of_size(frame, size):
        rows, cols = (side // size for side in frame[0].shape)
        at = [(r, c) for r in range(rows) for c in range(cols)]
        return np.eye(10)[[choose(size, r, c) for r, c in at]].reshape(-1, 10)

    return lambda frame, qindex: {size: of_size(frame, size) for size in NODE_SIZES}


def test_an_expected_tree_goes_down_as_far_as_it_is_split():
    wanted = {(64, 0, 0): HORZ_A, (64, 0, 1): SPLIT, (32, 0, 2): SPLIT, (16, 0, 5): HORZ_A}
    found = expected(planes(), 90, fixed(lambda *node: wanted.get(node, NONE)))
    tree = [node for node, _ in found]
    assert tree == nodes(paint(tree, 24, 36))  # a valid tree of the whole frame
    chosen = {(n.size, n.row * 4 // n.size, n.col * 4 // n.size): n.partition for n in tree}
    for node, partition in wanted.items():
        assert chosen[node] == partition
    assert chosen[(32, 0, 3)] == NONE and (16, 0, 6) not in chosen
    assert all(sure == 1 for node, sure in found if sure == sure)
    outside = [node for node in tree if node.size > 8 and not node.whole]
    assert outside and all(node.partition == SPLIT for node in outside)


def test_a_tree_is_drawn_along_its_blocks():
    picture = drawn(np.zeros((64, 64), np.uint16), [Node(0, 0, 64, HORZ_A, True)])
    assert picture.shape == (192, 192, 3)
    lit = picture[..., 0] > 0
    assert lit[96].all() and lit[:96, 96].all() and not lit[100:188, 90:100].any()


def test_pictures_and_clips_become_pictures_and_tables(net, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), planes(70, 90)[0] >> 2)
    with (tmp_path / "clip.y4m").open("wb") as file:
        file.write(b"YUV4MPEG2 W64 H64 F25:1 C420p10 XYSCSS=420P10\n")
        for k in range(3):
            file.write(b"FRAME\n" + planes(64, 64, k)[0].tobytes() + bytes(2 * 32 * 32 * 2))
    out = tmp_path / "out"
    records = list(
        predict(net, [tmp_path / "a.png", tmp_path / "clip.y4m"], out, cfg=PredictConfig(frames=2))
    )
    assert [record["frame"] for record in records] == [0, 0, 1]
    names = {path.name for path in out.iterdir()}
    assert names == {"model.npz", "a.png.png", "a.png.csv"} | {
        f"clip.y4m.000{k}.{end}" for k in (0, 1) for end in ("png", "csv")
    }
    with (out / "clip.y4m.0001.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == records[2]["nodes"] and rows[0]["size"] == "64"
    assert cv2.imread(str(out / "a.png.png")).shape == (210, 270, 3)
    with pytest.raises(ValueError, match="--stage=multitask"):
        list(
            predict(
                nnx.eval_shape(lambda: Pipeline(CFG, rngs=nnx.Rngs(0))),
                [],
                out,
                cfg=PredictConfig(),
            )
        )
    (tmp_path / "b.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match="ffmpeg -i b.mp4 clip.y4m"):
        list(predict(net, [tmp_path / "b.mp4"], out, cfg=PredictConfig()))
    for fields, message in ((dict(qindex=300), "qindex=300"), (dict(frames=0), "frames=0")):
        with pytest.raises(ValueError, match=message):
            PredictConfig(**fields)


@pytest.mark.parametrize(("height", "width"), [(96, 144), (70, 131), (40, 200)])
def test_squares_are_the_blocks_with_what_is_around_them(height, width):
    (luma,) = planes(height, width)
    for size, level in LEVELS.items():
        rows, cols = (x.ravel() for x in np.mgrid[: height // size, : width // size])
        alone = around(luma, rows * size, cols * size, size=size, context=level.context)
        found = squares(luma, size)
        assert found.dtype == np.float32
        # Beyond the edge a cell of the plane ends with the frame's last pixels, as a block's does
        np.testing.assert_allclose(found, shrunk(alone, level.shrink), atol=0.02)
