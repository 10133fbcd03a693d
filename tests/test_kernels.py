import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import kernels
from conftest import ROOT


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        (0, "at least 1 thread, got 0"),
        (100_000, r"at most \d+ threads, got 100000"),
        (10**12, r"at most \d+ threads, got 1000000000000"),
    ],
)
def test_an_absurd_number_of_threads_is_refused(threads, message):
    with pytest.raises(ValueError, match=message):
        kernels.set_num_threads(threads)


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(ValueError, match=r"expected one of none.*, got 'mmx'"):
        kernels.set_instruction_set("mmx")


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
import fast_layers as layers, kernels

def all_kernels():
    x = np.random.default_rng(0).standard_normal((6, 2, 8, 8))
    total = 0
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
    return total, kernels.get_num_threads()

kernels.set_num_threads(2)
expected, threads = all_kernels()
assert threads == 2
if sys.argv[1] == "os":
    if os.fork() == 0:
        kernels.set_num_threads(2)
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
