"""What a run starts on: devices, and the processes that it is one of."""

import jax
import pytest

from jaxvision import distributed

SLURM = dict(
    SLURM_JOB_ID="7",
    SLURM_STEP_NODELIST="n[0-1]",
    SLURM_NTASKS="2",
    SLURM_PROCID="1",
    SLURM_LOCALID="0",
)
POD = dict(KUBERNETES_SERVICE_HOST="10.0.0.1", JOB_COMPLETION_INDEX="1")


@pytest.fixture
def packages(monkeypatch):
    """The names of the packages that are installed."""
    there = set()
    monkeypatch.setattr(
        distributed.importlib.util, "find_spec", lambda name: True if name in there else None
    )
    return there


@pytest.fixture
def joined(monkeypatch):
    """The arguments of each call that would have started the processes' service."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **how: calls.append(how))
    return calls


@pytest.fixture(autouse=True)
def restored_platform():
    before = jax.config.jax_platforms
    yield
    jax.config.update("jax_platforms", before)


def test_a_process_alone_is_not_taken_for_one_of_several(packages, tmp_path):
    assert distributed.detect({}, tmp_path) is None
    alone = SLURM | dict(SLURM_NTASKS="1", SLURM_PROCID="0")
    assert distributed.detect(alone, tmp_path) is None
    # within `sbatch`, before any `srun`, there is no step and so nobody to meet
    batch = {k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}
    assert distributed.detect(batch, tmp_path) is None
    # a step of one task in an allocation for many
    assert distributed.detect(SLURM | dict(SLURM_STEP_NUM_TASKS="1"), tmp_path) is None
    pod = dict(KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert distributed.detect(pod, tmp_path) is None


def test_slurm_tasks_find_one_another(packages, tmp_path):
    assert distributed.detect(SLURM, tmp_path) == "SLURM task 1 of 2"


def test_a_pod_of_an_indexed_job_asks_the_cluster_or_is_told_what_to_do(packages, tmp_path):
    with pytest.raises(ValueError, match="launch/k8s.yaml"):
        distributed.detect(POD, tmp_path)
    packages.add("kubernetes")
    assert distributed.detect(POD, tmp_path) == "Kubernetes pod 1"


def test_a_cloud_tpu_needs_its_devices_and_its_library(packages, tmp_path):
    (tmp_path / "accel0").touch()
    assert distributed.detect({}, tmp_path) is None
    packages.add("libtpu")
    assert distributed.detect({}, tmp_path) == "Cloud TPU"
    assert distributed.detect(dict(TPU_WORKER_HOSTNAMES="a,b"), tmp_path) == "Cloud TPU"
    assert distributed.detect(dict(TPU_WORKER_HOSTNAMES="a"), tmp_path) is None
    assert distributed.detect(dict(JAX_PLATFORMS="cpu"), tmp_path) is None
    (tmp_path / "accel0").unlink()
    assert distributed.detect({}, tmp_path) is None


def test_processes_started_by_hand_meet_where_they_are_told(joined, capsys):
    distributed.join("host:1234", 4, 3)
    assert joined == [
        dict(
            coordinator_address="host:1234",
            cluster_detection_method="deactivate",
            num_processes=4,
            process_id=3,
        )
    ]
    assert "process 3 of 4, by host:1234" in capsys.readouterr().out


def test_one_process_meets_nobody_whatever_the_cluster_says(joined, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    distributed.join(None, 1, None)
    assert joined == []
    distributed.join(None, None, None)
    assert joined == [{}]  # JAX's own detection


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("host:1", None, None), "also need --num_processes, --process_id"),
        ((None, 2, 0), "also need --coordinator"),
        (("host", 2, 0), "--coordinator=host is not host:port"),
        (("host:x", 2, 0), "is not host:port"),
        (("host:1", 2, 2), "--process_id=2 must be in 0..1"),
        (("host:1", 2, -1), "--process_id=-1"),
    ],
)
def test_half_of_an_address_is_refused(arguments, message, joined):
    with pytest.raises(ValueError) as error:
        distributed.join(*arguments)
    assert message in str(error.value) and joined == []


def test_processes_that_do_not_meet(monkeypatch):
    def initialize(**how):
        raise RuntimeError("DEADLINE_EXCEEDED\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ConnectionError, match="did not meet .*DEADLINE_EXCEEDED; check"):
        distributed.join("host:1", 2, 1)


def test_devices_by_name():
    assert distributed.start("cpu") == jax.devices("cpu")
    assert jax.config.jax_platforms == "cpu"
    with pytest.raises(ValueError, match="device 'gpuu' is unknown; did you mean 'gpu'"):
        distributed.start("gpuu")


@pytest.mark.parametrize("device, mend", [("gpu", "uv run --extra cuda"), ("tpu", "--device=auto")])
def test_a_device_that_is_not_there_is_named_with_what_is(device, mend, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices(backend="cpu"))
    with pytest.raises(ValueError) as error:
        distributed.choose(device)
    assert f"device={device}" in str(error.value) and "× cpu" in str(error.value)
    assert mend.removeprefix("--device") in str(error.value)


def test_a_backend_that_does_not_start_is_named(monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'rocm'\nmore")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ValueError, match="Unable to initialize backend 'rocm'; unset it"):
        distributed.choose("auto")
