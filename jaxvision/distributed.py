"""Devices and processes: what a run starts on."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import jax

from jaxvision.spelling import nearest

DEVICES = {"auto": None, "cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
SLURM = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


def start(
    device: str = "auto",
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> list[jax.Device]:
    """Chooses the device, joins the other processes of the run, and returns all its devices.

    To be called before JAX has computed anything. Processes meet by the three arguments, or by what
    SLURM, Kubernetes and Cloud TPU say of themselves (see `detect`).
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is unknown{nearest(device, DEVICES)}")
    if DEVICES[device]:
        jax.config.update("jax_platforms", DEVICES[device])
    join(coordinator, num_processes, process_id)
    return choose(device)


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes, if there are any."""
    given = dict(coordinator=coordinator, num_processes=num_processes, process_id=process_id)
    if num_processes == 1:
        return
    if any(value is not None for value in given.values()):
        if missing := [f"--{name}" for name, value in given.items() if value is None]:
            raise ValueError(f"processes that are started by hand also need {', '.join(missing)}")
        port = coordinator.rpartition(":")[2]
        if ":" not in coordinator or not port.isdecimal():
            raise ValueError(f"--coordinator={coordinator} is not host:port of process 0")
        if not 0 <= process_id < num_processes:
            raise ValueError(f"--process_id={process_id} must be in 0..{num_processes - 1}")
        how = dict(coordinator_address=coordinator, cluster_detection_method="deactivate")
        how |= dict(num_processes=num_processes, process_id=process_id)
        where = f"process {process_id} of {num_processes}, by {coordinator}"
    else:
        where = detect(os.environ)
        if where is None:
            return
        how = {}
    print(f"joining the other processes ({where})", flush=True)
    try:
        jax.distributed.initialize(**how)
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"the processes did not meet ({where}): {str(error).splitlines()[0]}; check that all "
            "of them run and reach process 0, or start alone with --num_processes=1"
        ) from error


def detect(environment: Mapping[str, str], devices: Path = Path("/dev")) -> str | None:
    """The cluster that has started this process as one of several; None for a process alone.

    SLURM tells its number of tasks (`srun`). A pod of an indexed Kubernetes job is taken for one of
    several; JAX asks the cluster how many, for which it needs the `kubernetes` package. Of a Cloud
    TPU machine only the metadata server knows whether it is one of a slice, and JAX asks that.
    """
    if all(name in environment for name in SLURM):
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", environment["SLURM_NTASKS"]))
        if tasks > 1:
            return f"SLURM task {environment['SLURM_PROCID']} of {tasks}"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        index = environment["JOB_COMPLETION_INDEX"]
        if importlib.util.find_spec("kubernetes") is None:
            raise ValueError(
                f"this is pod {index} of an indexed Kubernetes job: give --coordinator=host:port, "
                "--num_processes and --process_id (as launch/k8s.yaml does), or --num_processes=1"
            )
        return f"Kubernetes pod {index}"
    chips = [*devices.glob("accel*"), *devices.glob("vfio/[0-9]*")]
    alone = environment.get("TPU_WORKER_HOSTNAMES", ",").count(",") == 0
    unwanted = environment.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu"
    if chips and not alone and not unwanted and importlib.util.find_spec("libtpu"):
        return "Cloud TPU"
    return None


def choose(device: str) -> list[jax.Device]:
    """All devices, which are of the kind that was asked for."""
    try:
        devices = jax.devices()
    except RuntimeError as error:
        if device == "auto":
            raise ValueError(
                f"JAX cannot start on JAX_PLATFORMS={jax.config.jax_platforms!r}: "
                f"{str(error).splitlines()[0]}; unset it, or use --device=cpu"
            ) from error
        jax.config.update("jax_platforms", None)
        devices = jax.devices()
    if device not in ("auto", devices[0].platform):
        kinds = ", ".join(sorted({d.device_kind for d in devices}))
        found = f"device={device}: JAX finds none here, only {len(devices)} × {kinds}"
        if device == "gpu":
            raise ValueError(
                f"{found} ({_why_no_gpu()}); start with `uv run --extra cuda …`, "
                "or use --device=cpu"
            )
        raise ValueError(f"{found}; use --device=auto")
    return devices


def _why_no_gpu() -> str:
    if not any(importlib.util.find_spec(f"jax_cuda{v}_plugin") for v in (12, 13)):
        return "jax has been installed without CUDA"
    if not Path("/dev/nvidiactl").exists():
        return "no NVIDIA driver"
    return "CUDA does not start"
