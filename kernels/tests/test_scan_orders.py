import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxvision_kernels import (
    SCAN_ORDERS,
    check_order,
    inverse_order,
    scan_order,
    to_grid,
    to_sequence,
)

NAMES = [n.replace("<window>", w) for n in SCAN_ORDERS for w in ("2", "3") if w == "2" or "<" in n]
SIZES = [(1, 1), (1, 5), (4, 1), (3, 4), (4, 3)]


def test_orders_of_a_small_grid():
    expected = {
        "row": [0, 1, 2, 3, 4, 5],
        "row_reversed": [5, 4, 3, 2, 1, 0],
        "column": [0, 3, 1, 4, 2, 5],
        "column_reversed": [5, 2, 4, 1, 3, 0],
        "snake": [0, 1, 2, 5, 4, 3],
        "snake_reversed": [3, 4, 5, 2, 1, 0],
        "hilbert": [0, 1, 4, 3, 5, 2],
        "hilbert_reversed": [2, 5, 3, 4, 1, 0],
        "local_2": [0, 1, 3, 4, 2, 5],
        "local_2_reversed": [5, 2, 4, 3, 1, 0],
    }
    assert set(expected) == {n.replace("<window>", "2") for n in SCAN_ORDERS}
    for name, order in expected.items():
        assert scan_order(name, 2, 3).tolist() == order


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_inverse_undoes_the_order(name, size):
    order, inverse = scan_order(name, *size), inverse_order(name, *size)
    assert sorted(order) == list(range(size[0] * size[1]))
    np.testing.assert_array_equal(order[inverse], np.arange(order.size))
    np.testing.assert_array_equal(inverse[order], np.arange(order.size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_layouts_equal_the_index_maps(name, size):
    grid = np.random.default_rng(0).standard_normal((2, *size, 3)).astype("float32")
    sequence = to_sequence(jnp.asarray(grid), name)
    np.testing.assert_array_equal(sequence, grid.reshape(2, -1, 3)[:, scan_order(name, *size)])
    np.testing.assert_array_equal(to_grid(sequence, name, *size), grid)


@pytest.mark.parametrize("size", SIZES)
def test_snake_moves_between_neighbours(size):
    cells = np.stack(np.divmod(scan_order("snake", *size), size[1]))
    assert (abs(np.diff(cells)).sum(0) == 1).all()


@pytest.mark.parametrize("side", [1, 2, 4, 32])
def test_hilbert_moves_between_neighbours_and_ends_beside_its_start(side):
    cells = np.stack(np.divmod(scan_order("hilbert", side, side), side))
    assert (abs(np.diff(cells)).sum(0) == 1).all()
    assert abs(cells[:, -1] - cells[:, 0]).sum() == side - 1


def test_local_windows_are_seen_one_after_another():
    row, column = np.divmod(scan_order("local_3", 7, 8), 8)
    window = row // 3 * 3 + column // 3
    assert (np.diff(window) >= 0).all()
    for w in range(9):
        assert (np.diff((row * 8 + column)[window == w]) > 0).all()


@pytest.mark.parametrize("name", ["hilbert", "local_2_reversed"])
def test_gradients_go_back_to_their_cells(name):
    grid = jnp.ones((2, 3, 4, 1))
    weights = jnp.arange(24.0).reshape(2, 12, 1)
    grad = jax.grad(lambda x: (to_sequence(x, name) * weights).sum())(grid)
    np.testing.assert_array_equal(grad, to_grid(weights, name, 3, 4))


def test_orders_are_cached_and_read_only():
    order = scan_order("column", 5, 7)
    assert order is scan_order("column", 5, 7)
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1


def test_rows_and_columns_of_sizes_left_open():
    h, w = jax.export.symbolic_shape("h, w")
    image = jax.ShapeDtypeStruct((1, h, w, 2), jnp.float32)
    there_and_back = jax.jit(lambda x: to_grid(to_sequence(x, "column"), "column", *x.shape[1:3]))
    assert jax.export.export(there_and_back)(image).out_avals[0].shape == image.shape


def test_lists_do_as_arrays():
    grid = np.arange(4.0).reshape(1, 2, 2, 1)
    sequence = to_sequence(grid.tolist(), "hilbert")
    np.testing.assert_array_equal(to_grid(sequence.tolist(), "hilbert", 2, np.int32(2)), grid)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="'diagonal' is none of"):
        scan_order("diagonal", 2, 2)
    for name in ("local_", "local_0", "local_<window>", "hilbert_4"):
        with pytest.raises(ValueError, match="is none of"):
            to_grid(jnp.ones((1, 4, 1)), name, 2, 2)
    with pytest.raises(ValueError, match="0 x 3"):
        scan_order("row", 0, 3)
    with pytest.raises(ValueError, match="'zigzag' is none of"):
        to_sequence(jnp.ones((1, 2, 2, 1)), "zigzag")
    for size in ((2.0, 3), (None, 3), (-2, -3)):
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} cells has no scan order"):
            to_grid(jnp.ones((1, 6, 1)), "row", *size)
    with pytest.raises(ValueError, match="scan order None is none of"):
        check_order(None)
    with pytest.raises(ValueError, match=r"grid has shape \(2, 3, 4\)"):
        to_sequence(jnp.ones((2, 3, 4)), "row")
    with pytest.raises(ValueError, match=r"sequence has shape \(1, 4\)"):
        to_grid(jnp.ones((1, 4)), "row", 2, 2)
    with pytest.raises(ValueError, match="7 steps does not fill 2 x 4"):
        to_grid(jnp.ones((1, 7, 1)), "row", 2, 4)
