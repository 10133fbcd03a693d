"""Products that leave out the zeros of their left factor, shares of the threads, the loss."""

import numpy as np
import pytest
from kernels.products import column_bounds

import kernels

SIZES = [(20, 70, 64), (3, 5, 16), (1, 64, 32), (70, 8, 208), (11, 200, 112)]


@pytest.fixture
def skip_zeros():
    yield kernels.set_skip_zeros
    kernels.set_skip_zeros("where it pays")


def factors(rng, sizes, dtype, share):
    """a (M, K), of which that share is not zero, at least one element, and b (K, N)."""
    M, K, N = sizes
    a, b = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    keep = rng.random((M, K)) < share
    keep.flat[rng.integers(keep.size)] = True
    return np.where(keep, a, np.array(-0.0, dtype)), b


def orders(a, b):
    """Both, each in C and in Fortran order."""
    for a_ordered in (a, np.asfortranarray(a)):
        for b_ordered in (b, np.asfortranarray(b)):
            yield a_ordered, b_ordered


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.usefixtures("instruction_set")
def test_leaving_out_zeros_gives_the_product(rng, dtype, sizes, skip_zeros):
    for share in (0, 0.1, 0.5, 1):  # of one element, some, half and all of them
        a, b = factors(rng, sizes, dtype, share)
        expected = a.astype(np.float64) @ b
        size = np.abs(a.astype(np.float64)) @ np.abs(b)
        bound = (sizes[1] + 1) * np.finfo(dtype).eps * size
        for when in ("never", "where it pays", "always"):
            skip_zeros(when)
            for a_ordered, b_ordered in orders(a, b):
                outs = []
                for threads in (1, 3):
                    kernels.set_num_threads(threads)
                    outs.append(kernels.matmul(a_ordered, b_ordered))
                assert outs[0].dtype == dtype
                assert (np.abs(outs[0] - expected) <= bound).all()
                # where the product is BLAS's, it adds in an order of its own
                is_ours = a_ordered.flags.c_contiguous or b_ordered.flags.c_contiguous
                if is_ours and kernels.get_instruction_set() != "none":
                    assert all(np.array_equal(outs[0], out) for out in outs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("instruction_set")
def test_leaving_out_zeros_changes_no_bit_where_rows_are_added(rng, dtype, skip_zeros):
    if kernels.get_instruction_set() == "none":
        pytest.skip("BLAS adds in an order of its own")
    a, b = factors(rng, (11, 200, 112), dtype, 0.4)
    both = []
    for when in ("never", "always"):
        skip_zeros(when)
        both.append(kernels.matmul(a, b))
    assert np.array_equal(*both)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("instruction_set")
def test_no_zero_of_a_product_hides_what_is_not_finite(rng, value, skip_zeros):
    for place in (0, 1):
        arrays = factors(rng, (20, 70, 64), np.float32, 0)
        arrays[0][...] = 0
        arrays[place][3, 5] = value
        for a, b in orders(*arrays):
            seen = []
            for when in ("never", "where it pays", "always"):
                skip_zeros(when)
                seen.append(np.isnan(kernels.matmul(a, b)))
            assert seen[0].any() or place == 0
            assert np.array_equal(seen[0], seen[1])
            assert np.array_equal(seen[0], seen[2])


def test_whether_zeros_of_a_product_are_left_out_depends_on_how_many_there_are(rng, skip_zeros):
    """The order of the additions, and so the last bits, tell which way was taken."""
    if kernels.get_instruction_set() == "none":
        pytest.skip("there is only one way")
    for sizes, share, way in [
        ((50, 300, 64), 0.4, "always"),
        ((50, 300, 64), 0.97, "never"),
        ((5, 300, 64), 0.4, "never"),  # too few rows
    ]:
        a, b = factors(rng, sizes, np.float32, share)
        outs = {}
        for when in ("never", "where it pays", "always"):
            skip_zeros(when)
            outs[when] = kernels.matmul(a, np.asfortranarray(b))
        assert not np.array_equal(outs["never"], outs["always"])
        assert np.array_equal(outs["where it pays"], outs[way])


@pytest.mark.parametrize("threads", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("columns", [512, 1568])
def test_threads_get_columns_alike(threads, columns):
    """Counted, not timed: of fc3's columns, forward and backward, none has 6 % more than its share.
    In vectors of 64 bytes 512 columns would be only 32, too few for six."""
    names = kernels.instruction_sets()
    kernels.set_instruction_set(names[min(2, len(names) - 1)])
    for dtype in (np.float32, np.float64):
        shares = np.diff(column_bounds(columns, dtype, threads))
        assert shares.sum() == columns
        assert shares.max() * threads / columns < 1.06


def test_bounds_of_columns_begin_whole_vectors():
    kernels.set_instruction_set(kernels.instruction_sets()[-1])
    for columns in (1, 10, 100):
        bounds = column_bounds(columns, np.float64, 3)
        assert bounds[0] == 0
        assert bounds[-1] == columns
        assert all(bound % 2 == 0 for bound in bounds[:-1])


def test_the_loss_and_its_gradient_have_the_same_bits_on_any_threads(rng):
    x, y = rng.standard_normal((300, 10)), rng.dirichlet(np.ones(10), 300)
    kernels.set_num_threads(1)
    loss, grad = kernels.cross_entropy(x, y), kernels.cross_entropy_grad(x, y)
    assert abs(grad.sum()) < 1e-12
    for threads in (2, 3, 8):
        kernels.set_num_threads(threads)
        assert kernels.cross_entropy(x, y) == loss
        assert np.array_equal(kernels.cross_entropy_grad(x, y), grad)
