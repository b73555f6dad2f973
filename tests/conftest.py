"""Fixtures that several test files share."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

# XLA reads this once, at the first computation. The fusion emitters take half of the time that
# compiling a training step takes, for programs that run a few times here. Later versions of XLA end
# the process at a flag that they do not know.
KNOWN = importlib.metadata.version("jaxlib").startswith("0.10.")
QUICK = "--xla_cpu_use_fusion_emitters=false" if KNOWN else ""
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

# Scikit-learn's threads wait busily for one another, and more so beside another test process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

TESTS = Path(__file__).parent
# Files that take long come first, so that no process works on one of them while another has ended.
LONGEST = ("test_systems", "test_wavenet_codec", "test_cofnet", "test_selective_scan", "test_ssd")
CACHE = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist begins with what comes first here


def pytest_collection_modifyitems(items):
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="module", autouse=True)
def compiles_quickly(request):
    """Tests compile much and compute little: without the costly passes they take a third.

    A module with OPTIMISED = True runs the very programs that users run.
    """
    if getattr(request.module, "OPTIMISED", False):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def compiles_once(compile_cache):
    """Programs that several tests compile are compiled by the first of them."""
    wanted = {"jax_compilation_cache_dir": str(compile_cache), **CACHE}
    before = {name: getattr(jax.config, name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def start(compile_cache):
    """Starts a script of this folder as a process of its own, with `devices` simulated devices."""
    running = []

    def run(script, *arguments, devices=1):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={devices}".strip(),
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS.parent / "kernels")]),
            "JAX_COMPILATION_CACHE_DIR": str(compile_cache),
            **{name.upper(): str(value) for name, value in CACHE.items()},
        }
        process = subprocess.Popen(
            [sys.executable, str(TESTS / script), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()
