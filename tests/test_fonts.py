"""Which font shows which name."""

import matplotlib
import pytest

from jaxvision import fonts

FOLDER = fonts.DEJAVU.parent
STIX = FOLDER / "STIXGeneral.ttf"
ONLY_STIX = "\u2905"  # an arrow
NOWHERE = "鸟"


@pytest.fixture(autouse=True)
def two_fonts(monkeypatch):
    paths = (FOLDER / "gone.ttf", FOLDER / "cmr10.ttf", STIX)
    monkeypatch.setattr(fonts, "installed", lambda: paths)
    fonts.font_for.cache_clear()
    yield
    fonts.font_for.cache_clear()


def test_common_scripts_need_no_other_font():
    assert fonts.font_for("bird птица πουλί طائر 0.97\n") == fonts.DEJAVU


def test_a_font_that_has_what_dejavu_lacks_is_found():
    assert fonts.font_for(f"bird {ONLY_STIX}") == STIX
    assert fonts.families(["bird", ONLY_STIX, ONLY_STIX]) == ["DejaVu Sans", "STIXGeneral"]


def test_what_no_font_has_is_named():
    with pytest.warns(UserWarning, match=f"no installed font has '{NOWHERE}' of 'b{NOWHERE}'"):
        assert fonts.font_for(f"b{NOWHERE}") == fonts.DEJAVU


def test_installed_fonts_leave_out_those_that_only_mark_gaps(monkeypatch):
    monkeypatch.undo()
    fonts.installed.cache_clear()
    found = fonts.installed()
    assert matplotlib.get_data_path() in str(found) and len(set(found)) == len(found)
    assert not [path for path in found if "lastresort" in path.name.lower()]
