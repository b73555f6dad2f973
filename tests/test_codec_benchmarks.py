"""The benchmarks of whole codecs: that they measure what they say, and notice what is wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import codec_speed  # noqa: E402
import lossless  # noqa: E402
import rate_distortion  # noqa: E402


def picture():
    y, x = np.mgrid[:24, :40]
    return np.stack([4 * x, 5 * y, 2 * x + 3 * y], -1).astype(np.uint8)


def test_lossless_files_are_compared_to_the_bit():
    found = lossless.measure(lossless.ways(), {"a": picture()})
    assert {"ours", "PNG, optimize", "WebP, method 6", "JPEG 2000"} <= set(found)
    assert found["ours"]["of_ours"] == 1 and found["PNG, optimize"]["bpp"] > 0
    jpeg = {"ours": lossless.ways()["ours"], "JPEG": lossless.pillow("JPEG")}
    with pytest.raises(SystemExit, match="JPEG does not give a back"):
        lossless.measure(jpeg, {"a": picture()})


def test_speed_is_of_pixels_and_without_the_first_turn(monkeypatch):
    clock = iter(np.arange(1000) * 0.5)
    monkeypatch.setattr(codec_speed.time, "perf_counter", lambda: next(clock))
    calls = []
    way = (lambda image: calls.append("encode") or b"123", lambda data: data, len)
    found = codec_speed.measure({"it": way}, [picture()], rounds=2)
    assert calls == ["encode"] * 3
    megapixels = round(24 * 40 / 1e6 / 0.5, 4)
    assert found == {"it": dict(encode=megapixels, decode=megapixels, bpp=0.025)}


@pytest.mark.parametrize("program", [codec_speed, lossless, rate_distortion])
def test_a_missing_folder_is_named(program, monkeypatch, tmp_path, capsys):
    words = ["x", f"--pictures={tmp_path / 'none'}"]
    words += ["--model=demo"] * (program is not lossless)
    words += [f"--out={tmp_path / 'out'}"] * (program is rate_distortion)
    monkeypatch.setattr(sys, "argv", words)
    assert program.main() == 1
    assert "none: there is no such folder" in capsys.readouterr().err
