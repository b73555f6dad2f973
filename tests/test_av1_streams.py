"""AV1 streams of other formats, of layers, cut off, damaged: refused, or read whole."""

import dataclasses

import av1_clips
import numpy as np
import pytest

from jaxvision.data.av1 import obu, tree
from jaxvision.data.av1.decoder import Decoder, labelled_frames
from jaxvision.data.av1.encoder import encode_clip
from jaxvision.data.av1.structs import AomError, Packet

LIBRARY = av1_clips.libraries()[0]


def sequence_header(profile=0, *, high=0, twelve=0, monochrome=0, colours=(), layers=0):
    """Bytes of a sequence of 96 × 80 pixels, all of its parts present."""
    bits = av1_clips.BitWriter().put(3, profile).put(2)
    bits.put(1, 1).put(32, 1).put(32, 30).put(1, 1).put(5, 0b00101)  # times; a number, 4
    bits.put(1, 1).put(5, 9).put(32, 1).put(5, 4).put(5, 4)  # the model of a decoder
    bits.put(1, 1).put(5, 1)  # display; two operating points
    for point in (layers, 0):
        bits.put(12, point).put(5, 9).put(1).put(1, 1).put(10, 1).put(10, 1).put(1)
        bits.put(1, 1).put(4, 3)
    bits.put(4, 7).put(4, 6).put(8, 95).put(7, 79)
    bits.put(1, 1).put(7)  # numbers of frames
    bits.put(1, 1).put(2).put(4).put(1, 1).put(2)  # superblocks of 128; tools; order
    bits.put(1).put(1, 1).put(1).put(1, 1).put(3, 6)  # screen content, whole vectors; order
    bits.put(3).put(1, high)
    if profile == 2 and high:
        bits.put(1, twelve)
    if profile != 1:
        bits.put(1, monochrome)
    bits.put(1, bool(colours))
    for value in colours:
        bits.put(8, value)
    if not monochrome and colours != (1, 13, 0):
        bits.put(1)
        if twelve:
            bits.put(1, 1).put(1, 1)
    return bits.put(8).bytes()


def unit(kind, payload, layers=None):
    extension = b"" if layers is None else bytes([layers])
    head = bytes([kind << 3 | 2 | (4 if extension else 0)])
    return head + extension + bytes([len(payload)]) + payload


@pytest.mark.parametrize(
    "change, depth, subsampling, message",
    [
        ({}, 8, "420", None),
        ({"high": 1}, 10, "420", None),
        ({"high": 1, "colours": (9, 16, 9)}, 10, "420", None),
        ({"monochrome": 1}, 8, "420", "the stream is monochrome; 4:2:0 is read"),
        ({"profile": 1, "high": 1}, 10, "444", "the stream is 4:4:4; 4:2:0 is read"),
        ({"profile": 1, "colours": (1, 13, 0)}, 8, "444", "4:4:4"),
        ({"profile": 2}, 8, "422", "the stream is 4:2:2; 4:2:0 is read"),
        ({"profile": 2, "high": 1, "twelve": 1}, 12, "420", "12 bits; 8 and 10 are read"),
        ({"profile": 3}, None, None, "profile 3, which AV1 does not have"),
    ],
)
def test_streams_of_other_formats_are_refused(change, depth, subsampling, message):
    data = obu.DELIMITER + unit(obu.SEQUENCE_HEADER, sequence_header(**change))
    if depth:
        found = obu.sequence(data)
        wanted = (96, 80, depth, bool(change.get("monochrome")), subsampling, 128, False, 0)
        assert dataclasses.astuple(found) == wanted
    if message:
        frames = labelled_frames(LIBRARY, [Packet(0, data, True)])
        with pytest.raises(AomError, match="temporal unit 0: .*" + message):
            list(frames)


def test_streams_of_layers_are_refused():
    """libaom leaves out frames of layers that it does not show, and keeps the blocks of others."""
    for layers, at, message in (
        (0, 1 << 3, "spatial layer 1, temporal layer 0: streams of several layers"),
        (0x101, 1 << 5, "spatial layer 0, temporal layer 1"),
    ):
        head = unit(obu.SEQUENCE_HEADER, sequence_header(layers=layers))
        data = obu.DELIMITER + head + unit(obu.FRAME, bytes(9), at)
        with Decoder(LIBRARY) as one, pytest.raises(AomError, match=message):
            one.decode(data)
    with Decoder(LIBRARY) as one, pytest.raises(AomError, match="lists of tiles"):
        one.decode(unit(obu.TILE_LIST, bytes(9)))


def test_headers_of_one_picture_are_short():
    bits = av1_clips.BitWriter().put(3).put(2, 3).put(5, 8).put(4, 7).put(4, 6)
    bits.put(8, 95).put(7, 79).put(3).put(3).put(1, 1).put(3)
    found = obu.parsed(bits.bytes())
    assert dataclasses.astuple(found) == (96, 80, 10, False, "420", 64, True, 0)
    assert obu.frame_start(b"\xff", reduced=True) == (False, True, True)
    assert obu.frame_start(b"\x80", reduced=False) == (True, False, True)
    assert obu.frame_start(b"\x30", reduced=False) == (False, False, True)
    with pytest.raises(ValueError, match="a header of 2 bytes is cut off"):
        obu.parsed(bits.bytes()[:2])


def test_units_that_are_none_are_refused():
    for data, message in (
        (b"\x92\0", "byte 0: 0x92 begins no unit"),
        (obu.DELIMITER + b"\x0a\x09abc", "byte 2: a unit of 9 bytes is cut off at 7"),
        (b"\x0a\xff", "byte 1: the size of a unit is cut off"),
        (b"\x0a" + b"\xff" * 9, "byte 1: the size of a unit has more than 8 bytes"),
        (b"\x0c", "byte 0: the header of a unit is cut off"),
    ):
        with pytest.raises(ValueError, match=message):
            list(obu.units(data))
        with Decoder(LIBRARY) as one, pytest.raises(AomError, match=message):
            one.decode(data)
    for data in (b"", obu.DELIMITER):
        with pytest.raises(ValueError, match="hold no sequence header"):
            obu.sequence(data)
    frame = av1_clips.stream(count=3, hidden=True)[1].data
    with Decoder(LIBRARY) as one, pytest.raises(AomError, match="before the first sequence"):
        one.decode(frame)


def test_frames_without_all_their_tiles_are_refused():
    options = av1_clips.HIDDEN | {"tile-columns": 2, "num-tile-groups": 3}
    packets = encode_clip(
        LIBRARY, av1_clips.clip(256, 64, 8, 4), depth=8, options=options, key_frames_only=False
    )
    assert len(list(labelled_frames(LIBRARY, packets))) >= 4
    tried = 0
    for number, packet in enumerate(packets):
        for group in [u for u in obu.units(packet.data) if u.kind == obu.TILE_GROUP]:
            less = packet.data[: group.begin] + packet.data[group.end :]
            cut = [*packets[:number], packet._replace(data=less), *packets[number + 1 :]]
            with pytest.raises(AomError, match=f"temporal unit {number}: "):
                list(labelled_frames(LIBRARY, cut))
            tried += 1
    assert tried > 8


def damaged(rng, data):
    data, at = bytearray(data), rng.integers(len(data))
    way = rng.integers(5)
    if way == 0:
        return bytes(data[:at])
    if way == 1:
        data[at] ^= 1 << rng.integers(8)
    elif way == 2:
        data[rng.integers(min(len(data), 40))] = rng.integers(256)
    elif way == 3:
        del data[at : at + rng.integers(1, 20)]
    else:
        data[at:at] = rng.bytes(rng.integers(1, 20))
    return bytes(data)


def test_damage_is_refused_or_gives_a_tree():
    """AV1 has no checksums: what is decoded may be wrong, but it is whole, and nothing crashes."""
    rng, outcomes = np.random.default_rng(0), {"refused": 0, "decoded": 0}
    streams = [av1_clips.stream(), av1_clips.stream(96, 80, 10, 9, True)]
    for _ in range(150):
        packets = list(streams[rng.integers(2)])
        number = rng.integers(len(packets))
        packets[number] = Packet(0, damaged(rng, packets[number].data), False)
        try:
            for frame in labelled_frames(LIBRARY, packets):
                nodes = tree.nodes(frame.map.sizes, superblock=frame.superblock)
                assert tree.mismatches(frame.map, nodes)[1] == 0
            outcomes["decoded"] += 1
        except AomError as error:
            assert str(error).startswith("temporal unit ")
            outcomes["refused"] += 1
    assert outcomes["refused"] > 75
