"""One file, decoded in processes that run their programs differently: the same numbers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import same_pixels  # noqa: E402

from jaxvision.wavenet_mv.codec import Codec  # noqa: E402


def test_another_picture_is_reported():
    one, other = {"symbols": "a", "pixels": "b"}, {"symbols": "a", "pixels": "c"}
    found = same_pixels.report({"as it is": one, "one thread": dict(one), "batch of 2": other})
    assert [way["same"] for way in found.values()] == [True, True, False]
    assert found["batch of 2"]["pixels"] == "c"


@pytest.mark.slow
def test_symbols_and_pixels_are_the_same_however_programs_run(tmp_path):
    model, file = tmp_path / "model.npz", tmp_path / "a.wvmv"
    same_pixels.untrained(model)
    picture = same_pixels.drawn_picture()
    data = Codec.load(model).encode(picture, 1.0)
    assert len(data) > 2000  # of numbers that are not all zero
    file.write_bytes(data)
    found = same_pixels.compared(model, file)
    assert set(found) == set(same_pixels.WAYS)
    assert all(got == found["as it is"] for got in found.values()), found
    file.write_bytes(Codec.load(model).encode(picture[::-1], 1.0))  # another file
    assert same_pixels.in_process("as it is", model, file) != found["as it is"]
