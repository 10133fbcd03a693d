import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import im2col_cython as kernels
import reference
from conftest import ROOT
from im2col_cython import col2im_cython, im2col_cython

GEOMETRIES = st.fixed_dictionaries(
    {
        "shape": st.tuples(*[st.integers(1, n) for n in (4, 3, 8, 8)]),
        "field": st.tuples(st.integers(1, 5), st.integers(1, 5)),
        "padding": st.integers(0, 3),
        "stride": st.integers(1, 3),
        "dtype": st.sampled_from([np.float32, np.float64]),
        "threads": st.integers(1, 3),
    }
).filter(lambda g: all(g["shape"][i + 2] + 2 * g["padding"] >= g["field"][i] for i in (0, 1)))


@pytest.fixture(autouse=True)
def _threads():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def test_hand_computed_columns():
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    expected = [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
    assert np.array_equal(im2col_cython(x, 2, 2, 0, 1), expected)


def test_hand_computed_raising_counts_the_windows_over_each_pixel():
    raised = col2im_cython(np.ones((4, 4)), 1, 1, 3, 3, 2, 2, 0, 1)
    assert np.array_equal(raised[0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


@settings(deadline=None, max_examples=150)
@given(GEOMETRIES)
def test_im2col_equals_reference(g):
    kernels.set_num_threads(g["threads"])
    x = np.random.default_rng(0).standard_normal(g["shape"]).astype(g["dtype"])
    cols = im2col_cython(x, *g["field"], g["padding"], g["stride"])
    assert cols.dtype == g["dtype"]
    assert np.array_equal(cols, reference.im2col(x, *g["field"], g["padding"], g["stride"]))


@settings(deadline=None, max_examples=150)
@given(GEOMETRIES)
def test_col2im_is_the_adjoint(g):
    """<im2col(x), c> = <x, col2im(c)> for all x and c defines the adjoint."""
    kernels.set_num_threads(g["threads"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal(g["shape"])
    cols = im2col_cython(x, *g["field"], g["padding"], g["stride"])
    c = rng.standard_normal(cols.shape).astype(g["dtype"])
    raised = col2im_cython(c, *g["shape"], *g["field"], g["padding"], g["stride"])
    assert raised.dtype == g["dtype"]
    assert raised.shape == g["shape"]
    # each pixel of raised is a sum of as many elements as a field has, at most
    rounding = g["field"][0] * g["field"][1] * np.finfo(g["dtype"]).eps
    bound = (rounding + 1e-13) * np.abs(cols * c).sum()
    assert abs(np.sum(cols * c) - np.sum(x * raised)) <= bound


def test_integers_and_views_are_taken():
    x = np.arange(2 * 3 * 5 * 4).reshape(4, 5, 3, 2).T
    expected = reference.im2col(x.astype(float), 2, 3, 1, 2)
    assert np.array_equal(im2col_cython(x, 2, 3, 1, 2), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: im2col_cython(np.zeros((3, 3)), 2, 2, 0, 1), r"\(N, C, H, W\), got \(3, 3\)"),
        (lambda: im2col_cython(np.zeros((1, 1, 3, 3)), 5, 2, 0, 1), "at least 5 pixels"),
        (lambda: im2col_cython(np.zeros((1, 1, 3, 3)), 2, 2, 0, 0), "stride 0"),
        (lambda: im2col_cython(np.zeros((1, 1, 3, 3)), 2, 2, -1, 1), "padding -1"),
        (
            lambda: col2im_cython(np.zeros((4, 3)), 1, 1, 3, 3, 2, 2, 0, 1),
            r"expected cols of shape \(4, 4\), got \(4, 3\)",
        ),
        (lambda: kernels.set_num_threads(0), "at least 1 thread, got 0"),
        (lambda: kernels.set_num_threads(100_000), r"at most \d+ threads, got 100000"),
        (lambda: kernels.set_num_threads(10**12), r"at most \d+ threads, got 1000000000000"),
    ],
)
def test_errors_quote_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "sizes", [(3, 4, 5), (1, 1, 1), (50, 300, 7), (7, 301, 150), (131, 40, 9), (4, 0, 2)]
)
@pytest.mark.usefixtures("instruction_set")
def test_matmul_equals_numpy_in_every_order_and_on_any_threads(rng, dtype, sizes):
    M, K, N = sizes
    a, b = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    expected = a.astype(np.float64) @ b
    bound = (K + 1) * np.finfo(dtype).eps * (np.abs(a.astype(np.float64)) @ np.abs(b))
    for a_ordered in (a, np.asfortranarray(a)):
        for b_ordered in (b, np.asfortranarray(b)):
            for threads in (1, 2, 3):
                kernels.set_num_threads(threads)
                out = kernels.matmul(a_ordered, b_ordered)
                assert out.dtype == dtype
                assert (np.abs(out - expected) <= bound).all()  # in whatever order it adds


def test_the_number_of_threads_does_not_change_the_bits_of_a_product(rng):
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in [(20, 70), (70, 83)])
    for b_ordered in (b, np.asfortranarray(b)):
        outs = []
        for threads in (1, 2, 3):
            kernels.set_num_threads(threads)
            outs.append(kernels.matmul(a, b_ordered))
        assert all(np.array_equal(outs[0], out) for out in outs)


def test_memory_begins_with_a_line_of_the_cache():
    for shape in [(3,), (5, 7), (0, 4), (2, 3, 4, 5)]:
        for make in (kernels.empty, kernels.zeros):
            array = make(shape, np.float32)
            assert (array.shape, array.dtype) == (shape, np.float32)
            assert array.ctypes.data % 64 == 0 or array.size == 0
    assert not kernels.zeros((3, 5), np.float64).any()


def test_all_processors_and_the_most_threads_can_be_used(rng):
    assert os.cpu_count() <= kernels.MAX_THREADS
    a, b = rng.standard_normal((2 * kernels.MAX_THREADS, 3)), rng.standard_normal((3, 5))
    kernels.set_num_threads(kernels.MAX_THREADS)
    np.testing.assert_allclose(kernels.matmul(a, b), a @ b)
    with pytest.raises(TypeError):
        kernels.set_num_threads(1.5)


FORK = """
import multiprocessing, os, sys
import numpy as np
import layers

def all_kernels():
    x = np.random.default_rng(0).standard_normal((6, 2, 8, 8))
    total = layers.kernels.im2col_cython(x, 3, 3, 1, 1).sum()
    for stride in (1, 2):
        rng = np.random.default_rng(1)
        net = [layers.Convolution(x, 3, 3, "conv", stride=stride, rng=rng)]
        net += [layers.MaxPooling(net[-1], "pool")]
        net += [layers.ReLU(net[-1], "relu")]
        net += [layers.Flatten(net[-1], "flatten")]
        net += [layers.FC(net[-1], 2, "fc", rng=rng)]
        out = x
        for layer in net:
            out = layer.forward(out)
        grad = out
        for layer in reversed(net):
            if layer.has_params:
                total += sum(g.sum() for _, g in layer.backward_params(grad)[:-1])
            grad = layer.backward_inputs(grad)
        total += grad.sum()
    return total, layers.get_num_threads()

layers.set_num_threads(2)
expected, threads = all_kernels()
assert threads == 2
if sys.argv[1] == "os":
    if os.fork() == 0:
        layers.set_num_threads(2)
        total, threads = all_kernels()
        os._exit(not (threads == 1 and np.isclose(total, expected)))
    assert os.wait()[1] == 0
else:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for total, threads in [pool.apply(all_kernels) for _ in range(3)]:
            assert threads == 1 and np.isclose(total, expected)
assert all_kernels() == (expected, 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
@pytest.mark.parametrize("how", ["os", "multiprocessing"])
def test_a_forked_process_goes_on_with_one_thread(how, tmp_path):
    """GNU's OpenMP would wait for ever for threads that a fork leaves behind."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, error = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the child as well
        raise
    assert process.returncode == 0, error
