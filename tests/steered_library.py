"""The steered library that tests share, and a frame to encode with it."""

import pytest

from jaxvision.cnn_av1.steering import build as building
from jaxvision.cnn_av1.steering import library, replay
from jaxvision.cnn_av1.steering.build import SteeringError

HEIGHT, WIDTH, DEPTH = replay.HEIGHT, replay.WIDTH, replay.DEPTH
FRAME = replay.made_frames()[0]
TINY = tuple(
    plane[: 64 // n, 40 // n : 104 // n] for plane, n in zip(FRAME, (1, 2, 2), strict=True)
)


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "steering"  # built once for all modules
    try:
        building.build(folder)
    except SteeringError as error:
        if not str(error).startswith("steering needs"):
            raise
        pytest.skip(str(error))
    return library.open_steered(folder)
