import jax.numpy as jnp
import numpy as np
import pytest
from jaxvision_kernels import SCAN_ORDERS, inverse_order, scan_order, to_grid, to_sequence

SIZES = [(1, 1), (1, 5), (4, 1), (3, 4), (4, 3)]


def test_orders_of_a_small_grid():
    expected = {
        "row": [0, 1, 2, 3, 4, 5],
        "row_reversed": [5, 4, 3, 2, 1, 0],
        "column": [0, 3, 1, 4, 2, 5],
        "column_reversed": [5, 2, 4, 1, 3, 0],
        "snake": [0, 1, 2, 5, 4, 3],
        "snake_reversed": [3, 4, 5, 2, 1, 0],
    }
    assert set(expected) == set(SCAN_ORDERS)
    for name, order in expected.items():
        assert scan_order(name, 2, 3).tolist() == order


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCAN_ORDERS)
def test_inverse_undoes_the_order(name, size):
    order, inverse = scan_order(name, *size), inverse_order(name, *size)
    assert sorted(order) == list(range(size[0] * size[1]))
    np.testing.assert_array_equal(order[inverse], np.arange(order.size))
    np.testing.assert_array_equal(inverse[order], np.arange(order.size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCAN_ORDERS)
def test_layouts_equal_the_index_maps(name, size):
    grid = np.random.default_rng(0).standard_normal((2, *size, 3)).astype("float32")
    sequence = to_sequence(jnp.asarray(grid), name)
    np.testing.assert_array_equal(sequence, grid.reshape(2, -1, 3)[:, scan_order(name, *size)])
    np.testing.assert_array_equal(to_grid(sequence, name, *size), grid)


@pytest.mark.parametrize("size", SIZES)
def test_snake_moves_between_neighbours(size):
    cells = np.stack(np.divmod(scan_order("snake", *size), size[1]))
    assert (abs(np.diff(cells)).sum(0) == 1).all()


def test_orders_are_cached_and_read_only():
    order = scan_order("column", 5, 7)
    assert order is scan_order("column", 5, 7)
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="'diagonal' is none of"):
        scan_order("diagonal", 2, 2)
    with pytest.raises(ValueError, match="0 x 3"):
        scan_order("row", 0, 3)
    with pytest.raises(ValueError, match="'zigzag' is none of"):
        to_sequence(jnp.ones((1, 2, 2, 1)), "zigzag")
    with pytest.raises(ValueError, match="7 steps does not fill 2 x 4"):
        to_grid(jnp.ones((1, 7, 1)), "row", 2, 4)
