"""launch/hevc_encode.sh with a stand-in for ffmpeg."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "launch" / "hevc_encode.sh"
FFMPEG = """#!/bin/bash
case "$*" in *-encoders*) echo " V....D ${CODER:-libx265}   x265"; exit 0 ;; esac
echo "$*" >>"$LOG"
while [ $# -gt 1 ]; do [ "$1" = -i ] && source=$2; shift; done
if grep -q damaged "$source"; then echo "moov atom not found" >&2; exit 1; fi
echo encoded >"$1"
"""


@pytest.fixture
def hevc(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "wc", "tr", "mkdir", "mv", "rm", "sed", "grep"):
        (tools / name).symlink_to(shutil.which(name))
    program = tools / "ffmpeg"
    program.write_text(FFMPEG)
    program.chmod(0o755)
    (tmp_path / "log").touch()

    def run(*arguments, **environment):
        return subprocess.run(
            [shutil.which("bash"), str(SCRIPT), *map(str, arguments)],
            env={"PATH": str(tools), "LOG": str(tmp_path / "log"), **environment},
            capture_output=True,
            text=True,
            timeout=50,
        )

    run.ffmpeg, run.log = program, lambda: (tmp_path / "log").read_text().splitlines()
    return run


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "my videos"
    folder.mkdir()
    for name in ("a b.mp4", "C.MP4", "notes.txt"):
        (folder / name).write_text("video")
    return folder


def test_encodes_each_video_once(hevc, videos):
    done = hevc(videos)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (videos / "hevc").glob("[!.]*")) == ["C.mp4", "a b.mp4"]
    assert len(hevc.log()) == 2 and all("-c:v libx265 -crf 28 " in line for line in hevc.log())
    again = hevc(videos)
    assert again.returncode == 0 and again.stdout.count("there") == 2 and len(hevc.log()) == 2
    os.utime(videos / "C.MP4", (4e9, 4e9))  # a source that has changed
    assert hevc(videos).returncode == 0 and len(hevc.log()) == 3


def test_a_video_that_fails_is_named_and_the_others_are_made(hevc, videos, tmp_path):
    (videos / "a b.mp4").write_text("damaged")
    done = hevc(videos, tmp_path / "out", "--crf", "20", "--preset", "slow")
    assert done.returncode == 1 and "1 of 2 files failed" in done.stderr
    assert "a b.mp4 could not be encoded" in done.stderr and "moov atom" in done.stderr
    assert [p.name for p in (tmp_path / "out").glob("*.mp4")] == ["C.mp4"]  # no half a file
    assert all("-crf 20 -preset slow" in line for line in hevc.log())
    (videos / "a b.mp4").write_text("mended")
    again = hevc(videos, tmp_path / "out", "--crf", "20", "--preset", "slow")
    assert again.returncode == 0 and len(hevc.log()) == 3


def test_two_qualities_do_not_share_a_folder(hevc, videos):
    assert hevc(videos).returncode == 0
    other = hevc(videos, "--crf", "30")
    assert other.returncode == 1 and "made with --crf 28 --preset medium" in other.stderr
    assert hevc(videos, videos / "hevc30", "--crf", "30").returncode == 0


def test_the_ffmpeg_of_imageio_stands_in(hevc, videos, tmp_path):
    elsewhere = tmp_path / "carried"
    hevc.ffmpeg.rename(elsewhere)
    none = hevc(videos, PYTHON="false")
    assert none.returncode == 1 and "uv sync --extra baselines" in none.stderr
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\ncase "$*" in *imageio_ffmpeg*) echo "{elsewhere}" ;; esac\n')
    python.chmod(0o755)
    done = hevc(videos, PYTHON=str(python))
    assert done.returncode == 0 and len(hevc.log()) == 2


def test_what_cannot_work_is_told(hevc, videos, tmp_path):
    assert "hevc_encode.sh FOLDER" in hevc("--help").stdout
    for wrong in ([], ["--fast"], [videos, "--crf"], [videos, "--crf", "60"], ["a", "b", "c"]):
        done = hevc(*wrong)
        assert done.returncode == 2 and done.stderr.startswith("error: ")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "nowhere"], "nowhere: no such folder"),
        ([tmp_path / "empty"], "empty holds no MP4 file"),
        ([videos, videos], "is the folder of the sources"),
        ([videos, videos / "notes.txt"], "cannot make"),
    ):
        done = hevc(*arguments)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    old = hevc(videos, CODER="libx264")
    assert old.returncode == 1 and "without libx265" in old.stderr
