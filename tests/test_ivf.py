"""Files of AV1 streams: read as written, and what is refused."""

import io
import struct

import av1_clips
import pytest

from jaxvision.data.av1 import obu
from jaxvision.data.av1.ivf import IvfHeader, read_ivf, read_stream, write_ivf
from jaxvision.data.av1.structs import Packet


def written(path, packets):
    write_ivf(path, packets, width=96, height=80, rate=(30000, 1001))
    return path


def test_streams_are_read_as_written(tmp_path):
    packets = list(av1_clips.stream(count=6, hidden=True))
    path = written(tmp_path / "a.ivf", iter(packets))
    for read in (read_ivf, read_stream):
        header, again = read(path)
        assert header == IvfHeader(96, 80, (30000, 1001), 6)
        assert list(again) == packets
        assert [p.key for p in packets] == [True] + 5 * [False]
    file = io.BytesIO(b"before")
    file.seek(0, io.SEEK_END)
    assert write_ivf(file, packets, width=96, height=80, rate=(30000, 1001)) == 6
    assert file.getvalue() == b"before" + path.read_bytes()
    (tmp_path / "a.obu").write_bytes(b"".join(p.data for p in packets))
    header, again = read_stream(tmp_path / "a.obu")
    assert header == IvfHeader(96, 80, (30, 1), 6)
    assert list(again) == packets


def test_a_stream_without_a_unit_is_a_file_without_one(tmp_path):
    header, packets = read_ivf(written(tmp_path / "a.ivf", []))
    assert header.frames == 0 and list(packets) == []


def test_files_are_whole_or_absent(tmp_path):
    def failing():
        yield Packet(0, b"\x12\0", False)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        written(tmp_path / "a.ivf", failing())
    assert not list(tmp_path.iterdir())
    for change in ({"width": 0}, {"height": 1 << 16}, {"rate": (0, 1)}):
        with pytest.raises(ValueError, match="are not of 1 to|is no ratio"):
            write_ivf(tmp_path / "a.ivf", [], **({"width": 8, "height": 8} | change))


def test_files_that_are_cut_off_or_damaged_are_refused(tmp_path):
    packets = av1_clips.stream()
    data = written(tmp_path / "a.ivf", packets).read_bytes()
    second = 32 + 12 + len(packets[0].data)
    path = tmp_path / "b.ivf"
    for changed, message in (
        (data[:second], "has 1 temporal units, not 2 as its header says"),
        (data[: second + 5], f"temporal unit 1 at byte {second} is cut off"),
        (data[:-1], f"unit 1 at byte {second} is cut off: {len(packets[1].data) - 1} of"),
        (data[:32] + struct.pack("<I", 1 << 31) + data[36:], "unit 0 at byte 32 is cut off"),
        (data[:44] + b"\xff" + data[45:], "temporal unit 0 at byte 32: byte 0: 0xff begins no"),
    ):
        path.write_bytes(changed)
        units = read_ivf(path)[1]
        with pytest.raises(ValueError, match="b.ivf: .*" + message):
            list(units)
    for unsaid in (0, 0xFFFFFFFF):
        path.write_bytes(data[:24] + struct.pack("<I", unsaid) + data[28:second])
        header, units = read_ivf(path)
        assert header.frames == 0 and len(list(units)) == 1
    for changed, message in (
        (b"", "begins with b''"),
        (b"RIFF" + data[4:], "begins with b'RIFF'"),
        (data[:20], "the header is cut off at byte 20"),
        (data[:8] + b"VP90" + data[12:], "codec is b'VP90', not AV1"),
        (data[:4] + b"\x07" + data[5:], "version 7"),
        (data[:6] + b"\x03\0" + data[8:], "a header of 3 bytes"),
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="b.ivf.*" + message):
            read_ivf(path)


def test_other_containers_are_refused(tmp_path):
    path = tmp_path / "a.mp4"
    data = b"".join(packet.data for packet in av1_clips.stream())
    for changed, message in (
        (b"\0\0\0\x20ftypisom", "neither an IVF file nor AV1 units.*ffmpeg -i"),
        (b"", "neither an IVF"),
        (data[:-3], "is cut off at"),
        (obu.DELIMITER, "2 bytes hold no sequence header"),
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="a.mp4: .*" + message):
            read_stream(path)
