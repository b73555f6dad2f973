import pytest

from jaxvision.data.inputs import expand


def test_inputs_are_expanded_in_order_and_mistakes_named(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub/c.mp4", "sub/notes.txt", ".hidden.jpg", "out/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    found = expand([tmp_path], without=tmp_path / "out")
    assert [p.as_posix() for p in found.values()] == ["a.PNG", "b.jpg", "sub/c.mp4"]
    found = expand([tmp_path / "**" / "*.mp4", tmp_path / "b.jpg", tmp_path / "b.jpg"])
    assert [p.as_posix() for p in found.values()] == ["c.mp4", "b.jpg"]
    for wrong, message in (
        ("absent.jpg", "absent.jpg: no such"),
        ("empty", "empty: no image or video"),
        ("*.tif", "matches no image"),
        ("sub/notes.txt", "notes.txt: neither"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message.replace("*", r"\*")):
            expand([tmp_path / wrong])
    with pytest.raises(ValueError, match="nothing to predict"):
        expand([])
