"""Finding libaom, and libraries that are none, lack something, or answer otherwise than known."""

import ctypes
import dataclasses
import re
import zlib

import av1_clips
import pytest

from jaxvision.data.av1 import library, structs
from jaxvision.data.av1.encoder import Encoder

SAMPLE = av1_clips.libraries()[0]


class Altered:
    """A library of which `aom_codec_control` or another function is replaced."""

    def __init__(self, lib, **functions):
        self.lib, self.functions = lib, functions

    def __getattr__(self, name):
        return self.functions.get(name) or getattr(self.lib, name)


def altered(**functions):
    return dataclasses.replace(SAMPLE, lib=Altered(SAMPLE.lib, **functions))


def told(change):
    """A libaom whose blocks pass through `change`, of the bytes that it gives for one."""

    def control(context, number, *arguments):
        code = SAMPLE.lib.aom_codec_control(context, number, *arguments)
        if number == structs.GET_BLOCK and not code:
            memory = arguments[-1]._obj
            memory[:16] = change(bytes(memory[:16]))
        return code

    return altered(aom_codec_control=control)


@pytest.mark.parametrize("one", av1_clips.libraries(), ids=lambda one: one.version)
def test_every_library_at_hand_answers_as_known(one):
    library.check(one)
    assert re.fullmatch(r"3\.\d+\.\d+.*", one.version)


def test_a_library_is_found_and_checked_once(monkeypatch):
    monkeypatch.delenv(library.VARIABLE, raising=False)
    checked = []
    monkeypatch.setattr(library, "check", checked.append)
    library._opened.cache_clear()
    found = library.open_library()
    assert library.open_library() is found and checked == [found]
    assert str(found.path) == library.places()[0]
    assert library.open_library(found.path) is found
    library._opened.cache_clear()


def test_the_variable_and_the_path_name_one_and_no_other(monkeypatch, tmp_path):
    monkeypatch.setenv(library.VARIABLE, str(SAMPLE.path))
    assert library.open_library().version == SAMPLE.version
    monkeypatch.setenv(library.VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(library.AomError, match=r"none\.so: .*cannot open"):
        library.open_library()
    assert library.open_library(SAMPLE.path).version == SAMPLE.version
    with pytest.raises(library.AomError, match=r"other\.so"):
        library.open_library(tmp_path / "other.so")


def test_without_a_library_the_mend_is_told(monkeypatch):
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "WHEELS", (("no_such_package", ("none.libs",)),))
    monkeypatch.setattr(library, "SYSTEM", "libnone.so.3")
    with pytest.raises(ValueError) as error:
        library.open_library()
    for words in ("none.libs beside no_such_package", "libnone.so.3", "pip install imagecodecs"):
        assert words in str(error.value)


def test_the_next_library_is_taken_where_one_does_not_work(monkeypatch):
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "places", lambda: [other_library(), str(SAMPLE.path)])
    assert library.open_library().version == SAMPLE.version


def other_library():
    """Of Python itself: `zlib`, or what `ctypes` is in."""
    return getattr(zlib, "__file__", None) or ctypes._ctypes.__file__


def test_other_libraries_are_refused():
    with pytest.raises(library.AomError, match="has no aom_codec_version_str: it is no libaom"):
        library.open_library(other_library())


def test_a_library_that_does_not_tell_blocks_is_refused():
    """As libaom 3.2 is, which answers an unknown control with an error."""

    def control(context, number, *arguments):
        known = number != structs.GET_BLOCK
        return SAMPLE.lib.aom_codec_control(context, number, *arguments) if known else 1

    with pytest.raises(library.AomError, match="does not tell its blocks .*: use 3.3 or a later"):
        library.check(altered(aom_codec_control=control))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: bytes([b[1], b[0]]) + b[2:], "layout of libaom"),
        (lambda b: b"\0" + b[:15], "layout of libaom"),
        (lambda b: b[4:] + b[:4], "layout of libaom"),
        (lambda b: b[:1] + b"\0" + b[2:], "blocks name another partition"),
        (lambda b: b[:4] + bytes(4) + b[8:], r"blocks have qindex \[0\], not \d+"),
        (lambda b: b[:4] + b"\xff" * 4 + b[8:], "qindex -1, which cannot be"),
        (lambda b: b"\3\0" + b[2:], "all nodes are of the types|name another|lies across"),
    ],
)
def test_a_layout_of_blocks_that_changed_is_refused(change, message):
    with pytest.raises(library.AomError, match=message):
        library.check(told(change))


def test_a_block_of_more_bytes_than_are_kept_is_refused():
    def control(context, number, *arguments):
        code = SAMPLE.lib.aom_codec_control(context, number, *arguments)
        if number == structs.GET_BLOCK:
            arguments[-1]._obj[4000] = 0
        return code

    with pytest.raises(library.AomError, match="changed: 4001 bytes are kept of a block"):
        library.check(altered(aom_codec_control=control))


def test_a_layout_of_images_that_changed_is_refused():
    """A member more at the beginning: nothing is read where the planes would then be."""
    image = structs.Image(format=structs.I420, width=64, height=64)
    moved = structs.Image.from_buffer_copy(bytes(4) + bytes(image)[:-4])
    lib = altered(aom_img_alloc=lambda *_: ctypes.pointer(moved), aom_img_free=id)
    with pytest.raises(library.AomError, match="the layout of images of libaom .* changed"):
        Encoder(lib, 64, 64, options={})

    def get_frame(context, iterator):
        found = SAMPLE.lib.aom_codec_get_frame(context, iterator)
        if not found:
            return None
        data = ctypes.string_at(found, ctypes.sizeof(structs.Image) - 4)
        return ctypes.pointer(structs.Image.from_buffer_copy(bytes(4) + data))

    with pytest.raises(library.AomError, match="libaom gives a picture of"):
        library.check(altered(aom_codec_get_frame=get_frame))


def test_a_configuration_that_changed_is_refused():
    """A member more, before any of those that are known."""
    for before, *_ in structs.EncoderConfig._fields_[:-1]:
        offset = getattr(structs.EncoderConfig, before).offset

        def defaults(interface, config, usage, offset=offset):
            code = SAMPLE.lib.aom_codec_enc_config_default(interface, config, usage)
            memory = (ctypes.c_uint8 * 1024).from_buffer(config._obj)
            memory[offset:] = bytes(4) + bytes(memory[offset:-4])
            return code

        with pytest.raises(library.AomError, match="layout of libaom .* changed: its default"):
            Encoder(altered(aom_codec_enc_config_default=defaults), 64, 64, options={})
