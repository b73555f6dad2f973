"""What only process 0 does, and what the others learn of it."""

import errno

import pytest
from test_multiprocess import start_two

from jaxvision import agreement


def test_a_folder_that_process_0_cannot_make_ends_both(start, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ("--steps", 1, "--save-every", 1)
    for process in start_two(start, tmp_path / "file", *arguments):
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "cannot write checkpoint" in told and "1: Not a directory" in told


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "run/log.txt"),
        FileNotFoundError("no such split"),
    ],
)
def test_an_error_of_process_0_is_the_same_in_the_others(error, monkeypatch):
    def fail():
        raise error

    sent = []
    monkeypatch.setattr(agreement, "from_first", lambda value: sent.append(value) or value)
    with pytest.raises(type(error)):
        agreement.done_by_first(fail)
    monkeypatch.setattr(agreement, "from_first", lambda value: sent[0])
    monkeypatch.setattr(agreement, "is_first", lambda: False)
    with pytest.raises(OSError) as found:
        agreement.done_by_first(lambda: pytest.fail("only process 0 acts"))
    assert str(found.value) == str(error) and found.value.filename == error.filename
