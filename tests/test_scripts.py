"""The scripts of launch/: they parse, and answer at once where they cannot work."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jaxvision import launch

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*ROOT.glob("launch/*.sh"), *ROOT.glob("launch/*.sbatch")])

# Stands in for the interpreter: says what it was started with, and ends as it is told.
FAKE = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES $*"
[ -n "$FAILS" ] || exit 0
case "$*" in *"--process_id=$FAILS"*) exit 3 ;; esac
exec sleep 60
"""


def start(script, *arguments, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "launch" / script), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "python"
    path.write_text(FAKE)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert script.stat().st_mode & 0o111


def test_local_is_one_process_by_default(fake):
    done = start("local.sh", "--config=a b.py", PYTHON=fake, GPUS="1,2")
    assert done.stdout == "1,2 -m jaxvision.launch --config=a b.py\n" and done.returncode == 0


def test_local_gives_each_process_a_gpu(fake):
    done = start("local.sh", "--config=c.py", PYTHON=fake, PROCESSES="2", GPUS="4,6", PORT="77")
    common = "-m jaxvision.launch --config=c.py --coordinator=localhost:77 --num_processes=2"
    assert sorted(done.stdout.splitlines()) == [
        f"4 {common} --process_id=0",
        f"6 {common} --process_id=1",
    ]
    assert done.returncode == 0


def test_local_ends_all_processes_with_one_that_fails(fake):
    done = start("local.sh", PYTHON=fake, PROCESSES="3", FAILS="1")
    assert done.returncode == 3  # within `timeout`: the others would sleep for longer


def test_local_passes_a_sigterm_on(fake):
    running = subprocess.Popen(
        ["bash", str(ROOT / "launch" / "local.sh")],
        env=os.environ | dict(PYTHON=fake, PROCESSES="2", FAILS="none"),
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        running.stdout.readline()
    running.terminate()
    assert running.wait(timeout=20) == 128 + signal.SIGTERM  # of the processes: sleep saves nothing


@pytest.mark.parametrize("wrong", [dict(PROCESSES="two"), dict(PROCESSES="2", GPUS="0")])
def test_local_refuses_processes_that_do_not_fit(wrong, fake):
    done = start("local.sh", PYTHON=fake, **wrong)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and not done.stdout


def test_gpu_check_measures_no_cpu(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = start("gpu_check.sh", PATH=path, PYTHON="false")
    assert done.returncode == 1 and "error: no NVIDIA GPU here" in done.stderr


def test_gpu_check_says_so_where_jax_does_not_see_the_gpu(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: some'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = start("gpu_check.sh", PATH=path, PYTHON=sys.executable, JAX_PLATFORMS="cpu")
    assert done.returncode == 1 and "JAX does not start on it" in done.stderr


def test_gcp_says_what_it_needs(tmp_path):
    assert start("gcp.sh").returncode == 2
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = start("gcp.sh", "gpu", PATH=str(tmp_path))
    assert done.returncode == 1 and "no gcloud" in done.stderr
    (tmp_path / "gcloud").write_text("#!/bin/sh\n")
    (tmp_path / "gcloud").chmod(0o755)
    done = start("gcp.sh", "tpu", PATH=str(tmp_path))
    assert done.returncode != 0 and "set PROJECT" in done.stderr


def test_slurm_wants_to_be_submitted():
    done = start("slurm.sbatch")
    assert done.returncode != 0 and "sbatch" in done.stderr


def test_the_kubernetes_job_is_whole():
    service, job = yaml.safe_load_all((ROOT / "launch" / "k8s.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    name = job["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["completionMode"] == "Indexed"
    (processes,) = [e["value"] for e in container["env"] if e["name"] == "NUM_PROCESSES"]
    assert spec["completions"] == spec["parallelism"] == int(processes)
    address = f"--coordinator={name}-0.{service['metadata']['name']}:12355"
    assert address in container["args"] and pod["subdomain"] == service["metadata"]["name"]
    _, values, overrides = launch.parse(
        [a.replace("$(NUM_PROCESSES)", "2").replace("$(JOB_COMPLETION_INDEX)", "1")
         for a in container["args"]]
    )  # fmt: skip
    assert (values.num_processes, values.process_id) == (2, 1)
    # Only what has failed is started again, and a run that is told to stop must be.
    assert pod["restartPolicy"] == "OnFailure" and values.stopped_status == 75
    assert overrides == ["--config.data.root=/shared/coco"]
