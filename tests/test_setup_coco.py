"""launch/setup_coco.sh with small archives in place of COCO's and a local `curl`."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "launch" / "setup_coco.sh"
CURL = """#!{python}
import pathlib, sys
where = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
log = pathlib.Path({server!r}) / "log"
have = where.read_bytes() if where.exists() else b""
log.open("a").write(sys.argv[-1].split("/")[-1] + " from " + str(len(have)) + chr(10))
data = (pathlib.Path({server!r}) / sys.argv[-1].split("://server/")[1]).read_bytes()
limit = pathlib.Path({server!r}) / "limit"
stop = int(limit.read_text()) if limit.exists() else len(data)
where.write_bytes(have + data[len(have) : stop])
sys.exit(18 if stop < len(data) else 0)
"""
UNZIP = """#!{python}
import sys, zipfile
zipfile.ZipFile(sys.argv[3]).extractall(sys.argv[5])
"""


@pytest.fixture
def coco(tmp_path):
    """Runs a copy of the script whose table lists small archives, which lie in `.server`."""
    server = tmp_path / "server"
    wanted = (
        ("annotations_trainval2017.zip", "annotations", "annotations", "json", 6),
        ("val2017.zip", "zips", "val2017", "jpg", 3),
        ("train2017.zip", "zips", "train2017", "jpg", 4),
    )
    rows = []
    for archive, path, folder, kind, count in wanted:
        (server / path).mkdir(parents=True, exist_ok=True)
        file = server / path / archive
        with zipfile.ZipFile(file, "w") as made:
            for i in range(count):
                made.writestr(f"{folder}/{i:012d}.{kind}", os.urandom(400))
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        rows.append(f"{archive} {path} {file.stat().st_size} {md5} {folder}:{kind} {count} 1")
    head, _, rest = SCRIPT.read_text().partition('ARCHIVES="\n')
    copy = tmp_path / "setup.sh"
    copy.write_text(f'{head}ARCHIVES="\n' + "\n".join(rows) + rest[rest.index('\n"\n') :])
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("curl", CURL), ("unzip", UNZIP)):
        (tools / name).write_text(text.format(python=sys.executable, server=str(server)))
        (tools / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "COCO_SERVER": "http://server",
    }

    def run(*arguments):
        return subprocess.run(
            ["bash", copy, *map(str, arguments)], capture_output=True, text=True, env=environment
        )

    run.server, run.log = server, lambda: (server / "log").read_text().splitlines()
    return run


def test_downloads_unpacks_and_is_idempotent(coco, tmp_path):
    out = tmp_path / "data" / "coco"
    done = coco(out)
    assert done.returncode == 0, done.stderr
    assert len(list((out / "train2017").glob("*.jpg"))) == 4
    assert len(list((out / "val2017").glob("*.jpg"))) == 3
    assert len(list((out / "annotations").glob("*.json"))) == 6
    assert not list(out.glob("*.zip")) and len(coco.log()) == 3
    again = coco(out)
    assert again.returncode == 0 and again.stdout.count("complete") == 3
    assert len(coco.log()) == 3  # nothing was downloaded again
    (out / "val2017" / "000000000001.jpg").unlink()
    assert coco(out, "--keep-zips").returncode == 0
    assert coco.log()[3:] == ["val2017.zip from 0"] and (out / "val2017.zip").exists()


def test_an_interrupted_download_continues(coco, tmp_path):
    (coco.server / "limit").write_text("900")
    cut = coco(tmp_path / "coco")
    assert cut.returncode == 1 and "run this again to continue" in cut.stderr
    (coco.server / "limit").unlink()
    assert coco(tmp_path / "coco").returncode == 0
    assert coco.log()[:2] == [f"annotations_trainval2017.zip from {n}" for n in (0, 900)]


def test_a_damaged_archive_is_removed(coco, tmp_path):
    file = coco.server / "zips" / "val2017.zip"
    good = file.read_bytes()
    file.write_bytes(good[:100] + b"?" + good[101:])
    bad = coco(tmp_path / "coco")
    assert bad.returncode == 1 and "val2017.zip arrived damaged" in bad.stderr
    assert not (tmp_path / "coco" / "val2017.zip").exists()
    assert not (tmp_path / "coco" / "val2017").exists()
    file.write_bytes(good + b"too long")
    assert "instead of" in coco(tmp_path / "coco").stderr
    file.write_bytes(good)
    assert coco(tmp_path / "coco").returncode == 0


def test_options(coco, tmp_path):
    assert "setup_coco.sh [FOLDER" in coco("--help").stdout
    assert coco("--fast").returncode == 2 and coco("a", "b").returncode == 2
    assert coco(tmp_path / "coco", "--val-only").returncode == 0
    assert not (tmp_path / "coco" / "train2017").exists()
    shutil.rmtree(tmp_path / "coco")
    (tmp_path / "coco").write_text("a file")
    in_the_way = coco(tmp_path / "coco")
    assert in_the_way.returncode == 1 and "error: cannot make" in in_the_way.stderr
