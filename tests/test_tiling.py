import numpy as np
import pytest

from jaxvision.cofnet import tiling
from jaxvision.cofnet.tiling import Found
from jaxvision.cofnet.views import Views


@pytest.mark.parametrize(
    "height, width, tile", [(1000, 1500, 256), (300, 200, 256), (257, 90, 100)]
)
def test_tiles_cover_the_frame_and_overlap(height, width, tile):
    regions = tiling.tiles(height, width, tile)
    seen = np.zeros((height, width), int)
    for x0, y0, x1, y1 in regions:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert x1 - x0 == min(tile, width) and y1 - y0 == min(tile, height)
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    shared = int(tile * tiling.OVERLAP)
    for starts, length in ((np.unique(regions[:, 0]), width), (np.unique(regions[:, 1]), height)):
        assert length <= tile or (np.diff(starts) <= tile - shared).all()


def test_no_tiles_for_a_frame_of_one_tile():
    assert len(tiling.tiles(100, 100, 100)) == 0
    assert len(Views(size=(9, 9), batch=1, tile=50).of(50, 50)) == 1
    for wrong in ({"tile": 0}, {"batch": 0}, {"score": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Views(**{"size": (9, 9), "batch": 1} | wrong)


def found(*rows):
    array = np.array(rows, np.float64)
    return Found(
        boxes=array[:, :4], scores=array[:, 4], labels=array[:, 5].astype(int), pixel=array[:, 6]
    )


def test_merge_is_aware_of_classes_and_of_coarse_views():
    same = (10, 10, 20, 20, 0.9, 0, 1)
    shifted = (13, 13, 23, 23, 0.8, 0, 6)  # IoU 0.32, but half a pixel of its canvas apart
    other_class = (10, 10, 20, 20, 0.7, 1, 1)
    neighbour = (14, 14, 24, 24, 0.6, 0, 1)
    merged = tiling.merge(found(shifted, other_class, same), np.zeros(3, bool))
    np.testing.assert_array_equal(merged.scores, [0.9, 0.7])
    merged = tiling.merge(found((*shifted[:4], 0.95, 0, 6), same), np.zeros(2, bool))
    assert merged.boxes.tolist() == [[10, 10, 20, 20]] and merged.scores.tolist() == [0.95]
    merged = tiling.merge(found(same, neighbour), np.zeros(2, bool))
    np.testing.assert_array_equal(merged.scores, [0.9, 0.6])


def test_a_cut_box_goes_only_where_a_fuller_one_exists():
    fuller, part = (0, 0, 100, 40, 0.5, 0, 5), (0, 0, 60, 40, 0.9, 0, 1)
    is_cut = np.array([False, True])
    assert tiling.merge(found(fuller, part), is_cut).scores.tolist() == [0.5]
    assert tiling.merge(found(fuller, part), ~is_cut).scores.tolist() == [0.9]  # by IoU 0.6
    doubtful = (0, 0, 100, 40, 0.4, 0, 5)
    assert tiling.merge(found(doubtful, part), is_cut).scores.tolist() == [0.9]
    other_class = (0, 0, 100, 40, 0.5, 1, 5)
    assert len(tiling.merge(found(other_class, part), is_cut).scores) == 2
    np.testing.assert_array_equal(
        tiling.cut(np.array([[0, 0, 50, 9], [90, 5, 99.5, 9]]), (0, 0, 100, 100), 100, 300, 1),
        [False, True],  # the frame's own border cuts nothing
    )
