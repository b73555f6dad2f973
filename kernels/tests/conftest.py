import importlib.metadata
import os

# XLA reads this once, at the first computation: see tests/conftest.py.
KNOWN = importlib.metadata.version("jaxlib").startswith("0.10.")
QUICK = "--xla_cpu_use_fusion_emitters=false" if KNOWN else ""
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def compiles_quickly():
    """Tests compile much and compute little: without the costly passes they take a third."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def optimised():
    """The very programs that users run."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
