import jax
import pytest


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
