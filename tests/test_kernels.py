import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from kernels.machine import zeros

import kernels
import reference
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


# --- gradients of a convolution that leave out zeros ----------------------------------------------

# images, channels, rows, columns, filters, kernel size, padding
GEOMETRIES = [
    (3, 1, 9, 8, 3, 5, 2),
    (2, 16, 7, 6, 9, 5, 2),
    (2, 3, 6, 9, 5, 3, 0),
    (2, 5, 8, 8, 2, 4, 3),
    (1, 70, 3, 4, 2, 3, 1),
    (2, 7, 5, 5, 17, 1, 0),
    (1, 2, 7, 9, 4, 7, 6),
]


@pytest.fixture
def skip_zeros():
    yield kernels.set_skip_zeros
    kernels.set_skip_zeros("where it pays")


def conv_arrays(rng, geometry, dtype, share):
    """x, weights and a grad_out of which that share is not zero, at least one."""
    N, C, H, W, F, k, padding = geometry
    out_shape = N, F, H + 2 * padding - k + 1, W + 2 * padding - k + 1
    shapes = (N, C, H, W), (F, C * k * k), out_shape
    x, weights, grad_out = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    keep = rng.random(out_shape) < share
    keep.flat[rng.integers(keep.size)] = True
    return x, weights, np.where(keep, grad_out, np.array(-0.0, dtype))


def conv_grads(x, weights, grad_out, k, padding):
    """Gradients of inputs, weights and bias."""
    grad_x = kernels.conv_backward_inputs(grad_out, weights, x.shape, k, padding, 1)
    return grad_x, *kernels.conv_backward_params(grad_out, x, k, padding, 1)


def test_an_unknown_word_for_skipping_zeros_is_refused():
    with pytest.raises(ValueError, match=r"expected one of never, where it pays, always, got 'on'"):
        kernels.set_skip_zeros("on")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.usefixtures("instruction_set")
def test_leaving_out_zeros_gives_the_gradients(rng, geometry, dtype, skip_zeros):
    k, padding = geometry[5:]
    for share in (0, 0.1, 0.5, 1):  # of one grad, some, half and all of them
        arrays = conv_arrays(rng, geometry, dtype, share)
        doubles = [array.astype(np.float64) for array in arrays]
        expected = reference.conv_grads(*doubles, k, padding, 1)
        sizes = reference.conv_grads(*map(np.abs, doubles), k, padding, 1)
        for when in ("never", "where it pays", "always"):
            skip_zeros(when)
            for threads in (1, 2, 3, 8):
                kernels.set_num_threads(threads)
                grads = conv_grads(*arrays, k, padding)
                for ours, right, size in zip(grads, expected, sizes, strict=True):
                    assert ours.dtype == dtype
                    bound = arrays[2].size * np.finfo(dtype).eps * size
                    assert (np.abs(ours - right) <= bound).all()


@pytest.mark.usefixtures("instruction_set")
def test_grads_that_are_all_zero_give_zeros(rng, skip_zeros):
    x, weights, grad_out = conv_arrays(rng, GEOMETRIES[1], np.float32, 1)
    for when in ("never", "where it pays", "always"):
        skip_zeros(when)
        assert not any(grad.any() for grad in conv_grads(x, weights, 0 * grad_out, 5, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("instruction_set")
def test_leaving_out_zeros_changes_no_bit_of_the_weights_gradient(rng, dtype, skip_zeros):
    """On one thread; the grads are those behind pooling, of images with ties everywhere."""
    kernels.set_num_threads(1)
    x, _, out = conv_arrays(rng, (3, 16, 8, 8, 5, 5, 2), dtype, 1)
    winner = np.empty((3, 5, 4, 4), np.uint8)
    kernels.pool_forward(np.round(out), 2, 2, winner)
    grad_out = kernels.pool_backward(out[:, :, ::2, ::2].copy(), winner, out.shape, 2, 2)
    assert np.count_nonzero(grad_out) == 3 * 5 * 16
    both = []
    for when in ("never", "always"):
        skip_zeros(when)
        both.append(kernels.conv_backward_params(grad_out, x, 5, 2, 1))
    for dense, sparse in zip(*both, strict=True):
        assert np.array_equal(dense, sparse)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("share", [0.12, 0.5, 1])
@pytest.mark.parametrize("when", ["where it pays", "always"])
@pytest.mark.usefixtures("instruction_set")
def test_the_same_threads_give_the_same_bits(rng, skip_zeros, when, share, threads):
    """Of sparse, mixed and dense grads."""
    skip_zeros(when)
    arrays = conv_arrays(rng, (5, 16, 8, 7, 32, 5, 2), np.float32, share)
    kernels.set_num_threads(threads)
    first = conv_grads(*arrays, 5, 2)
    for _ in range(20):
        for once, again in zip(first, conv_grads(*arrays, 5, 2), strict=True):
            assert np.array_equal(once, again)


def test_whether_zeros_are_left_out_depends_on_how_many_there_are(rng, skip_zeros):
    """The order of the additions, and so the last bits, tell which way was taken."""
    if kernels.get_instruction_set() == "none":
        pytest.skip("there is only one way")
    for share, way in [(0.12, "always"), (0.97, "never")]:
        grads = {}
        arrays = conv_arrays(rng, (2, 16, 14, 14, 32, 5, 2), np.float32, share)
        for when in ("never", "where it pays", "always"):
            skip_zeros(when)
            grads[when] = conv_grads(*arrays, 5, 2)[0]
        assert not np.array_equal(grads["never"], grads["always"])
        assert np.array_equal(grads["where it pays"], grads[way])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["x", "weights", "grad_out"])
@pytest.mark.usefixtures("instruction_set")
def test_no_zero_hides_what_is_not_finite(rng, value, place, skip_zeros):
    """As 0 * inf is a NaN, a single infinite pixel is seen even where all the grads are zero."""
    arrays = dict(
        zip(("x", "weights", "grad_out"), conv_arrays(rng, GEOMETRIES[1], "f4", 0), strict=True)
    )
    arrays["grad_out"][...] = 0
    arrays[place].flat[arrays[place].size // 2] = value
    x, weights, grad_out = arrays.values()
    finite = {"x": (True, False, True), "weights": (False, True, True)}
    for when in ("never", "where it pays", "always"):
        skip_zeros(when)
        grads = conv_grads(x, weights, grad_out, 5, 2)
        are_finite = tuple(bool(np.isfinite(grad).all()) for grad in grads)
        assert are_finite == finite.get(place, (False, False, False))
        if when == "never":
            dense = grads
        for ours, right in zip(grads, dense, strict=True):
            assert np.array_equal(np.isnan(ours), np.isnan(right))


# --- Winograd's convolution -----------------------------------------------------------------------


@pytest.fixture
def winograd():
    yield kernels.set_winograd
    kernels.set_winograd("where it pays")


def random_forward(rng):
    """x, weights, bias and padding, of any sizes."""
    N, C, F, padding = (int(rng.integers(*ends)) for ends in [(1, 3), (1, 19), (1, 19), (0, 6)])
    H, W = rng.integers(max(1, 5 - 2 * padding), 12, size=2)
    shapes = (N, C, H, W), (F, C * 25), (F,)
    x, weights, bias = (rng.standard_normal(shape) for shape in shapes)
    x *= rng.random((1, C, 1, 1)) < 0.8  # here and there a channel of zeros
    return x.astype("f4"), weights.astype("f4"), bias.astype("f4"), padding


def test_an_unknown_word_for_winograd_is_refused():
    with pytest.raises(ValueError, match=r"expected one of never, where it pays, always, got 'on'"):
        kernels.set_winograd("on")


def test_the_error_of_winograd_is_within_its_bound(rng, winograd):
    """In 1,000 geometries, on the instruction sets in turn."""
    names, eps = kernels.instruction_sets()[-3:], np.finfo("f4").eps
    squares = {"never": 0.0, "always": 0.0}  # means, as shares of the outputs'
    for case in range(1_000):
        kernels.set_instruction_set(names[case % len(names)])
        x, weights, bias, padding = random_forward(rng)
        doubles = [array.astype(np.float64) for array in (x, weights, bias)]
        exact = kernels.conv_forward(*doubles, 5, padding, 1)
        taps = np.abs(doubles[1]).reshape(len(weights), -1, 25).sum(axis=2)  # (F, C)
        size = np.abs(doubles[2]) + np.abs(doubles[0]).max(axis=(2, 3)) @ taps.T  # (N, F)
        for when in squares:
            winograd(when)
            errors = np.abs(kernels.conv_forward(x, weights, bias, 5, padding, 1) - exact)
            assert (errors.max(axis=(2, 3)) <= 50 * eps * size).all()
            squares[when] += np.mean(errors**2) / np.mean(exact**2) / 1_000
    assert np.sqrt(squares["always"]) < 5e-6
    if names != ["none"]:
        assert squares["always"] > squares["never"]  # it is another way, and this one is exacter


@pytest.mark.usefixtures("instruction_set")
def test_winograd_gives_the_same_bits_on_any_threads(rng, winograd):
    x, weights, bias = (rng.standard_normal(s).astype("f4") for s in [(3, 9, 11, 8), (5, 225), 5])
    winograd("always")
    outs = []
    for threads in (1, 2, 3, 8):
        kernels.set_num_threads(threads)
        outs += [kernels.conv_forward(x, weights, bias, 5, 2, 1) for _ in range(5)]
    assert all(np.array_equal(outs[0], out) for out in outs)


def test_whether_winograd_pays_depends_on_the_sizes(rng, winograd):
    for N, is_taken in [(1, False), (50, kernels.get_instruction_set() != "none")]:
        arrays = [rng.standard_normal(s).astype("f4") for s in [(N, 8, 8, 8), (16, 200), 16]]
        outs = {}
        for when in ("never", "where it pays"):
            winograd(when)
            outs[when] = kernels.conv_forward(*arrays, 5, 2, 1)
        assert np.array_equal(outs["never"], outs["where it pays"]) != is_taken


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.usefixtures("instruction_set")
def test_winograd_hides_nothing_that_is_not_finite(rng, winograd, value, place):
    arrays = [rng.standard_normal(s).astype("f4") for s in [(1, 8, 9, 9), (9, 200), 9]]
    arrays[place].flat[arrays[place].size // 2] = value
    seen = []
    for when in ("always", "never"):
        winograd(when)
        seen.append(np.isfinite(kernels.conv_forward(*arrays, 5, 2, 1)))
    assert not seen[1].all()
    assert not (seen[0] & ~seen[1]).any()


# --- memory, threads, processes -------------------------------------------------------------------


def test_memory_begins_with_a_line_of_the_cache():
    for shape in [(3,), (5, 7), (0, 4), (2, 3, 4, 5)]:
        for make in (kernels.empty, zeros):
            array = make(shape, np.float32)
            assert (array.shape, array.dtype) == (shape, np.float32)
            assert array.ctypes.data % 64 == 0 or array.size == 0
    assert not zeros((3, 5), np.float64).any()


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


TOO_LARGE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import numpy as np, fast_layers
image = np.zeros((1, 65536, 1, 1), np.float32)
fast_layers.Convolution(image, 1, 4, "c", padding=33).forward(image)  # 2^32 numbers in columns
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_columns_that_outgrow_an_int_are_no_room_rather_than_a_crash():
    command = [sys.executable, "-c", TOO_LARGE]
    few = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread would take its share
    done = subprocess.run(command, cwd=ROOT, env=few, capture_output=True, text=True)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
@pytest.mark.parametrize("how", ["os", "multiprocessing"])
def test_a_forked_process_goes_on_with_one_thread(how, tmp_path):
    """GNU's OpenMP would wait for ever for threads that a fork leaves behind."""
    kernels.set_num_threads(2)
    if kernels.get_num_threads() == 1:
        pytest.skip("built without OpenMP, or forked: there are no other threads")
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
