"""launch/setup_davis.sh with a small archive in place of DAVIS's and a local `curl`."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_setup_coco import UNZIP

SCRIPT = Path(__file__).parents[1] / "launch" / "setup_davis.sh"
ARCHIVE = "DAVIS-2017-trainval-480p.zip"
CURL = """#!{python}
import pathlib, sys
server, name = sys.argv[-1].removeprefix("http://").split("/")
folder = pathlib.Path({server!r})
where = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
have = where.read_bytes() if where.exists() else b""
(folder / "log").open("a").write(server + " from " + str(len(have)) + chr(10))
if (folder / (server + ".down")).exists():
    sys.exit(22)
data = (folder / name).read_bytes()
limit = folder / "limit"
stop = int(limit.read_text()) if limit.exists() else len(data)
where.write_bytes(have + data[len(have) : stop])
sys.exit(18 if stop < len(data) else 0)
"""


@pytest.fixture
def davis(tmp_path):
    """Runs a copy of the script that wants a small archive of 3 videos, which lies in `.server`."""
    server, tools = tmp_path / "server", tmp_path / "tools"
    server.mkdir()
    tools.mkdir()
    archive = server / ARCHIVE
    with zipfile.ZipFile(archive, "w") as made:
        for split, videos in (("train", ("bear", "bus")), ("val", ("dog",))):
            made.writestr(f"DAVIS/ImageSets/2017/{split}.txt", "\n".join(videos) + "\n")
            for video in videos:
                for i in range(4):
                    made.writestr(f"DAVIS/JPEGImages/480p/{video}/{i:05d}.jpg", os.urandom(300))
                    made.writestr(f"DAVIS/Annotations/480p/{video}/{i:05d}.png", os.urandom(30))
    data = archive.read_bytes()
    text = SCRIPT.read_text()
    values = dict(
        BYTES=len(data), SHA256=hashlib.sha256(data).hexdigest(), NEEDED="1 # MB", VIDEOS=3
    )
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        assert count == 1
    copy = tmp_path / "setup.sh"
    copy.write_text(text)
    for name, script in (("curl", CURL), ("unzip", UNZIP)):
        (tools / name).write_text(script.format(python=sys.executable, server=str(server)))
        (tools / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "DAVIS_SERVERS": "http://first http://second",
    }

    def run(*arguments):
        return subprocess.run(
            ["bash", copy, *map(str, arguments)], capture_output=True, text=True, env=environment
        )

    run.server, run.archive = server, archive
    run.log = lambda: (server / "log").read_text().splitlines()
    return run


def test_downloads_unpacks_and_is_idempotent(davis, tmp_path):
    out = tmp_path / "data" / "davis"
    done = davis(out)
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("DAVIS/JPEGImages/480p/*/*.jpg"))) == 12
    assert not list(out.glob("*.zip")) and davis.log() == ["first from 0"]
    again = davis(out)
    assert again.returncode == 0 and "complete" in again.stdout and len(davis.log()) == 1
    (out / "DAVIS/JPEGImages/480p/dog/00002.jpg").unlink()
    mended = davis(out, "--keep-zip")
    assert mended.returncode == 0 and "dog has 3 frames" in mended.stderr
    assert (out / ARCHIVE).exists() and (out / "DAVIS/JPEGImages/480p/dog/00002.jpg").exists()


def test_an_interrupted_download_continues(davis, tmp_path):
    (davis.server / "limit").write_text("900")
    cut = davis(tmp_path / "davis")
    assert cut.returncode == 1 and "run this again to continue" in cut.stderr
    (davis.server / "limit").unlink()
    assert davis(tmp_path / "davis").returncode == 0
    assert davis.log() == ["first from 0", "second from 900", "first from 900"]


def test_the_second_server_stands_in(davis, tmp_path):
    (davis.server / "first.down").touch()
    done = davis(tmp_path / "davis")
    assert done.returncode == 0 and "http://first stopped" in done.stderr


def test_a_damaged_archive_is_removed(davis, tmp_path):
    good = davis.archive.read_bytes()
    for bad in (good[:100] + b"?" + good[101:], good + b"too long"):
        davis.archive.write_bytes(bad)
        done = davis(tmp_path / "davis")
        assert done.returncode == 1 and "arrived damaged and was removed" in done.stderr
        assert (
            not list((tmp_path / "davis").glob("*.zip")) and not (tmp_path / "davis/DAVIS").exists()
        )
    davis.archive.write_bytes(good)
    assert davis(tmp_path / "davis").returncode == 0


def test_options(davis, tmp_path):
    assert "setup_davis.sh [FOLDER" in davis("--help").stdout
    assert davis("--fast").returncode == 2 and davis("a", "b").returncode == 2
    (tmp_path / "davis").write_text("a file")
    in_the_way = davis(tmp_path / "davis")
    assert in_the_way.returncode == 1 and "error: cannot make" in in_the_way.stderr
