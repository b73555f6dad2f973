"""AV1 streams: coded and decoded, with the blocks of frames, and as another decoder decodes."""

import dataclasses
import shutil
import subprocess

import av1_clips
import numpy as np
import pytest

from jaxvision.data import y4m
from jaxvision.data.av1 import configuration, encoder, obu, tree
from jaxvision.data.av1.decoder import Decoder, labelled_frames
from jaxvision.data.av1.encoder import Encoder, encode_clip
from jaxvision.data.av1.ivf import write_ivf
from jaxvision.data.av1.structs import AomError

LIBRARY = av1_clips.libraries()[0]
QUICK = av1_clips.QUICK


@pytest.mark.parametrize("one", av1_clips.libraries(), ids=lambda one: one.version)
@pytest.mark.parametrize(
    "width, height, depth", [(1, 1, 8), (17, 3, 10), (101, 75, 8), (128, 64, 10)]
)
def test_clips_are_decoded_as_they_were_coded(one, width, height, depth):
    frames = av1_clips.clip(width, height, depth, 2)
    packets = encode_clip(one, frames, depth=depth, options=QUICK)
    assert [(packet.pts, packet.key) for packet in packets] == [(0, True), (1, True)]
    assert encode_clip(one, frames, depth=depth, options=QUICK) == packets
    sequence = obu.sequence(packets[0].data)
    wanted = (width, height, depth, False, "420", 64)
    assert dataclasses.astuple(sequence)[:6] == wanted
    found = list(labelled_frames(one, packets))
    assert [(f.number, f.shown, f.key, f.superblock) for f in found] == [
        (0, True, True, 64),
        (1, True, True, 64),
    ]
    for frame, planes in zip(found, frames, strict=True):
        assert (frame.width, frame.height) == (width, height)
        assert [p.dtype for p in frame.planes] == [planes[0].dtype] * 3
        assert [p.shape for p in frame.planes] == [p.shape for p in planes]
        assert y4m.psnr(planes, frame.planes, depth=depth)[0] > 35
        assert frame.map.sizes.shape == (2 * -(-height // 8), 2 * -(-width // 8))
        assert (frame.map.qindex == frame.base_qindex).all() and 0 < frame.base_qindex < 256
        compared, different = tree.mismatches(frame.map, tree.nodes(frame.map.sizes))
        assert compared > 0 and different == 0


@pytest.mark.skipif(shutil.which("dav1d") is None, reason="dav1d is not installed")
@pytest.mark.parametrize("hidden", [False, True])
def test_another_decoder_gives_the_same_planes(tmp_path, hidden):
    packets = av1_clips.stream(101, 75, 10, 9, hidden)
    write_ivf(tmp_path / "a.ivf", packets, width=101, height=75)
    command = ["dav1d", "-q", "-i", tmp_path / "a.ivf", "-o", tmp_path / "a.y4m"]
    subprocess.run(command, check=True, timeout=60)
    theirs = list(y4m.Reader(tmp_path / "a.y4m", depths=(10,)))
    with Decoder(LIBRARY) as ours:
        for packet, planes in zip(packets, theirs, strict=True):
            ours.decode(packet.data)
            for a, b in zip(ours.frames()[0], planes, strict=True):
                np.testing.assert_array_equal(a, b)


def test_hidden_frames_are_labelled_and_repeated_ones_left_out():
    packets = av1_clips.stream(96, 80, 10, 9, True)
    pieces = [obu.frames_of(packet.data) for packet in packets]
    assert [b"".join(parts) for parts in pieces] == [packet.data for packet in packets]
    found = list(labelled_frames(LIBRARY, packets))
    hidden = [frame for frame in found if not frame.shown]
    repeated = len(packets) - sum(frame.shown for frame in found)
    assert hidden and repeated and len(found) + repeated == sum(map(len, pieces))
    assert all(frame.planes is None for frame in hidden)
    numbers = [frame.number for frame in found if frame.shown]
    assert numbers == sorted(set(numbers)) and [f.key for f in found] == [True] + [False] * (
        len(found) - 1
    )
    for frame in found:
        nodes = tree.nodes(frame.map.sizes)
        assert tree.mismatches(frame.map, nodes)[1] == 0
    with Decoder(LIBRARY) as one:
        for part in (part for parts in pieces for part in parts):
            one.decode(part)
            if one.shown_existing():
                with pytest.raises(AomError, match="shows an earlier one again"):
                    one.block_map(96, 80)
                break
        else:
            pytest.fail("no frame was shown again")


def test_superblocks_of_128():
    options = QUICK | {"sb-size": 128, "cq-level": 60}
    flat = tuple(np.full(s, 500, np.uint16) for s in ((136, 264), (68, 132), (68, 132)))
    packets = encode_clip(LIBRARY, [flat], depth=10, options=options)
    frame = next(labelled_frames(LIBRARY, packets))
    nodes = tree.nodes(frame.map.sizes, superblock=frame.superblock)
    assert nodes[0] == tree.Node(0, 0, 128, 0, True)
    assert tree.mismatches(frame.map, nodes)[1] == 0


def test_frames_that_are_none_are_refused():
    with Encoder(LIBRARY, 17, 9, depth=10, options=QUICK) as one:
        y, u, v = av1_clips.frame(17, 9, 10)
        for planes, message in (
            ((y, u), r"planes \[\(9, 17\), \(5, 9\)\] are not of a 4:2:0 frame of 17×9"),
            ((y[:8], u, v), "are not of a 4:2:0 frame"),
            ((y, y, y), "are not of a 4:2:0 frame"),
            ((y.astype(np.uint8), u, v), "plane y is uint8; 10 bits are given as uint16"),
            ((y, u, v.astype(int)), "plane v is int64"),
            ((y, u + 512, v), "plane u holds 10.., which 10 bits do not"),
        ):
            with pytest.raises(ValueError, match=message):
                one.encode(planes)
        assert len(one.encode((y, u, v))) == 1 and one.flush() == []
        with pytest.raises(ValueError, match="was flushed"):
            one.encode((y, u, v))
    one.close()
    with pytest.raises(ValueError, match="was closed"):
        one.flush()
    with pytest.raises(ValueError, match="the clip has no frame"):
        encode_clip(LIBRARY, [], depth=8, options={})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 0}, "frames of 0×64"),
        ({"height": 65536}, "frames of 64×65536"),
        ({"depth": 12}, "depth=12 must be 8 or 10"),
        ({"usage": 3}, "usage=3 must be"),
        ({"threads": 0}, "threads=0 must be"),
        ({"options": {"no-such-option": 1}}, "option no-such-option=1"),
        ({"options": {"cpu-used": "fast"}}, "option cpu-used=fast"),
        ({"options": {"cq-level": 64}}, "option cq-level=64"),
        ({"options": {"lag-in-frames": 1000}}, "encoder does not start.*lag"),
        ({"options": {"lag-in-frames": -1}}, "option lag-in-frames=-1 is no number"),
        ({"options": {"lag-in-frames": 1 << 32}}, "is no number"),
        ({"options": {"kf-max-dist": 5}}, "kf-max-dist=5 is against key_frames_only"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    settings = {"width": 64, "height": 64, "options": {}} | change
    size = settings.pop("width"), settings.pop("height")
    with pytest.raises(ValueError, match=message):
        Encoder(LIBRARY, *size, **settings)


@pytest.mark.parametrize("usage", encoder.USAGES)
def test_every_usage_starts(usage):
    options = {"cpu-used": 6} | ({} if usage == 2 else {"kf-max-dist": 2})
    frames = av1_clips.clip(64, 64, 8, 4)
    packets = encode_clip(
        LIBRARY, frames, depth=8, options=options, usage=usage, key_frames_only=False
    )
    keys = [True] * 4 if usage == 2 else [True, False, True, False]
    assert [packet.key for packet in packets] == keys


def test_a_map_is_of_the_frame_that_was_decoded():
    packet = av1_clips.stream()[0]
    one = Decoder(LIBRARY)
    for ask in (one.base_qindex, one.size, one.shown_existing, lambda: one.block_map(96, 80)):
        with pytest.raises(AomError, match="no frame was decoded"):
            ask()
    with pytest.raises(AomError, match="no sequence header was decoded"):
        _ = one.sequence
    one.decode(packet.data)
    with pytest.raises(AomError, match="the frame is of 96×80 pixels, not of 96×88"):
        one.block_map(96, 88)
    assert one.block_map(96, 80).sizes.shape == (20, 24)
    with pytest.raises(AomError, match="damaged or truncated data"):
        one.decode(packet.data[:-9] + bytes(9) + packet.data)
    for ask, message in (
        (lambda: one.block_map(96, 80), "no frame was decoded"),
        (lambda: one.decode(packet.data), "the decoder stopped before: damaged"),
    ):
        with pytest.raises(AomError, match=message):
            ask()
    one.close()
    with pytest.raises(ValueError, match="was closed"):
        one.decode(packet.data)


@pytest.mark.parametrize("field, wanted", [("super_resolution", r"6[0-9]×80"), ("resize", "48×40")])
def test_blocks_that_are_not_of_the_picture_are_refused(monkeypatch, field, wanted):
    """Coded narrower, or at half the size, and enlarged by the decoder."""
    usual = configuration.defaults

    def smaller(library, usage):
        config = usual(library, usage)
        getattr(config, field)[:3] = (1, 12, 12) if field == "super_resolution" else (1, 16, 16)
        return config

    monkeypatch.setattr(configuration, "defaults", smaller)
    packets = encode_clip(LIBRARY, av1_clips.clip(96, 80, 8, 1), depth=8, options=QUICK)
    with pytest.raises(AomError, match=f"unit 0: a frame is coded at {wanted} for pictures of 96"):
        list(labelled_frames(LIBRARY, packets))
