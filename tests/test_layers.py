import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import fast_layers
import kernels
import layers as plain_layers
import reference
from im2col_cython import im2col_cython

try:
    import torch
    from torch.nn import functional
except ImportError:  # what is compared with reference.py and with SciPy, is so without it, too
    torch = None

# layers.py, and fast_layers.py with the kernels of each instruction set that this processor has
EVERY_KERNEL = pytest.mark.parametrize(
    "layers", ["plain", *kernels.instruction_sets()], indirect=True
)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.fixture(params=["plain", "fast"])
def layers(request):
    """The module with the layers; every test holds for both."""
    if request.param == "plain":
        return plain_layers
    if request.param != "fast":
        kernels.set_instruction_set(request.param)  # set back after the test
    return fast_layers


def normal(rng, shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def assert_close(actual, expected, dtype):
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)


# --- hand-computed numbers ----------------------------------------------------------------------


def test_convolution_by_hand(layers):
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    conv = layers.Convolution(x, 1, 3, "conv")
    conv.weights[...] = [[0, 0, 0, 0, 1, 2, 0, 0, 0]]  # the pixel plus twice its right neighbour
    conv.bias[...] = 10
    expected = [[15, 18, 13], [24, 27, 16], [33, 36, 19]]
    assert np.array_equal(conv.forward(x)[0, 0], expected)
    grad_out = np.zeros((1, 1, 3, 3))
    grad_out[0, 0, 1, 1] = 1
    assert np.array_equal(conv.backward_inputs(grad_out)[0, 0], [[0, 0, 0], [0, 1, 2], [0, 0, 0]])
    (weights, grad_weights), (bias, grad_bias), name = conv.backward_params(grad_out)
    assert weights is conv.weights
    assert bias is conv.bias
    assert name == "conv"
    assert np.array_equal(grad_weights, [[1, 2, 3, 4, 5, 6, 7, 8, 9]])
    assert np.array_equal(grad_bias, [1])


def test_max_pooling_by_hand_takes_the_first_of_a_tie(layers):
    x = np.array([[1.0, 1, 0, 2], [1, 0, 3, 3]]).reshape(1, 1, 2, 4)
    pool = layers.MaxPooling(x, "pool")
    assert np.array_equal(pool.forward(x), [[[[1, 3]]]])
    grad_x = pool.backward_inputs(np.array([[[[5.0, 7]]]]))
    assert np.array_equal(grad_x[0, 0], [[5, 0, 0, 0], [0, 0, 7, 0]])


def test_fc_by_hand(layers):
    x = np.array([[1.0, 2], [3, 4]])
    fc = layers.FC(x, 1, "fc")
    fc.weights[...], fc.bias[...] = [[10, 1]], 0.5
    assert np.array_equal(fc.forward(x), [[12.5], [34.5]])
    grad_out = np.array([[1.0], [2]])
    assert np.array_equal(fc.backward_inputs(grad_out), [[10, 1], [20, 2]])
    (_, grad_weights), (_, grad_bias), _ = fc.backward_params(grad_out)
    assert np.array_equal(grad_weights, [[7, 10]])
    assert np.array_equal(grad_bias, [3])


def test_relu_by_hand(layers):
    x = np.array([[-1.0, 0, 2]])
    relu = layers.ReLU(x, "relu")
    assert np.array_equal(relu.forward(x), [[0, 0, 2]])
    assert np.array_equal(relu.backward_inputs(np.array([[5.0, 6, 7]])), [[0, 0, 7]])


def test_cross_entropy_by_hand(layers):
    x, y = np.log([[1.0, 3], [1, 1]]), np.array([[0.0, 1], [0.5, 0.5]])
    loss = layers.SoftmaxCrossEntropyWithLogits()
    assert loss.forward(x, y) == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)
    np.testing.assert_allclose(loss.backward_inputs(x, y), [[0.125, -0.125], [0, 0]], atol=1e-15)


def test_l2_by_hand(layers):
    weights = np.array([[1.0, -2], [0, 3]])
    l2 = layers.L2Regularizer(weights, 0.5, "l2")
    assert l2.forward() == 3.5
    (same, grad), name = l2.backward_params()
    assert same is weights
    assert name == "l2"
    assert np.array_equal(grad, [[0.5, -1], [0, 1.5]])
    data_loss = layers.SoftmaxCrossEntropyWithLogits()
    total = layers.RegularizedLoss(data_loss, [l2, l2])
    x, y = np.zeros((1, 2)), np.array([[1.0, 0]])
    assert total.forward(x, y) == pytest.approx(np.log(2) + 7)
    assert len(total.backward_params()) == 2


# --- against torch and the slow reference -------------------------------------------------------


def torch_results(function, arrays, grad_out):
    """The output of a function of tensors, and the gradients of sum(output * grad_out)."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    out = function(*tensors)
    out.backward(torch.tensor(grad_out))
    return [out.detach(), *(tensor.grad for tensor in tensors)]


def torch_convolution(x, conv, grad_out):
    """Output, and gradients of inputs, weights and bias."""

    def function(x, weights, bias):
        weights = weights.reshape(len(weights), x.shape[1], conv.kernel_size, -1)
        return functional.conv2d(x, weights, bias, conv.stride, conv.pad)

    return torch_results(function, [x, conv.weights, conv.bias], grad_out)


def slow_convolution(x, conv, grad_out):
    geometry = conv.kernel_size, conv.pad, conv.stride
    out = reference.conv(x, conv.weights, conv.bias, *geometry)
    return [out, *reference.conv_grads(x, conv.weights, grad_out, *geometry)]


def results(layer, x, grad_out):
    """Output and gradients of a layer, in the order of torch_results."""
    grads = [layer.forward(x), layer.backward_inputs(grad_out)]
    if layer.has_params:
        grads += [grad for _, grad in layer.backward_params(grad_out)[:2]]
    return grads


def assert_all_close(ours, expected, dtype):
    for array, wanted in zip(ours, expected, strict=True):
        assert_close(array, wanted, dtype)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = kernels.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)


@DTYPES
@pytest.mark.parametrize("shape", [(3, 2, 7, 6), (1, 1, 5, 5), (4, 3, 9, 4), (2, 5, 1, 8)])
@pytest.mark.parametrize(
    ("kernel", "padding", "stride"),
    [(3, "SAME", 1), (5, "SAME", 1), (1, "VALID", 1), (3, 1, 2), (5, 2, 3), (2, 1, 1), (3, 4, 1)],
)
@EVERY_KERNEL
def test_convolution_equals_torch_and_reference(layers, rng, dtype, shape, kernel, padding, stride):
    x = normal(rng, shape, dtype)
    conv = layers.Convolution(x, 4, kernel, "conv", padding, stride=stride, rng=rng)
    conv.bias[...] = normal(rng, 4)
    grad_out = normal(rng, conv.shape, dtype)
    ours = results(conv, x, grad_out)
    assert_all_close(ours, slow_convolution(x, conv, grad_out), dtype)
    if torch:
        assert_all_close(ours, torch_convolution(x, conv, grad_out), dtype)


@DTYPES
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("filters", "width", "kernel"), [(35, 33, 3), (16, 14, 5), (9, 31, 7)])
@EVERY_KERNEL
def test_blocks_tiles_and_threads_that_do_not_come_out_even(
    layers, rng, dtype, batch, filters, width, kernel, threads
):
    """More filters than a vector has elements, rows that leave a rest, parts of images a thread."""
    x = normal(rng, (batch, 3, 5, width), dtype)
    conv = layers.Convolution(x, filters, kernel, "conv", rng=rng)
    conv.bias[...] = normal(rng, filters)
    grad_out = normal(rng, conv.shape, dtype)
    oracle = torch_convolution if torch else slow_convolution
    assert_all_close(results(conv, x, grad_out), oracle(x, conv, grad_out), dtype)


@DTYPES
@pytest.mark.usefixtures("threads")
def test_relu_equals_numpy(layers, rng, dtype):
    x = normal(rng, (3, 2, 5, 7), dtype)
    x[0, 0, 0] = [0, -0.0, np.nan, np.inf, -np.inf, 1, -1]
    relu = layers.ReLU(x, "relu")
    assert np.array_equal(relu.forward(x), np.maximum(x, 0), equal_nan=True)
    grad_out = normal(rng, x.shape, dtype)
    assert np.array_equal(relu.backward_inputs(grad_out), np.where(x > 0, grad_out, 0))


@DTYPES
@pytest.mark.parametrize(
    ("kernel", "padding", "stride"), [(5, 2, 1), (3, 0, 1), (3, 2, 2), (2, 1, 1)]
)
@EVERY_KERNEL
def test_convolution_is_a_product_with_im2col(layers, rng, dtype, kernel, padding, stride):
    x = normal(rng, (3, 2, 8, 7), dtype)
    conv = layers.Convolution(x, 4, kernel, "conv", padding, stride=stride, rng=rng)
    cols = im2col_cython(x, kernel, kernel, padding, stride)
    product = conv.weights @ cols + conv.bias[:, np.newaxis]
    _, F_, OH, OW = conv.shape
    assert_close(conv.forward(x), product.reshape(F_, OH, OW, 3).transpose(3, 0, 1, 2), dtype)


@DTYPES
@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (1, 1, 5, 7), (2, 3, 4, 9), (2, 2, 15, 23)])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3), (1, 1), (4, 4)])
@pytest.mark.parametrize("ties", [False, True])
@EVERY_KERNEL
def test_max_pooling_equals_torch_and_reference(layers, rng, dtype, shape, size, stride, ties):
    x = normal(rng, shape, dtype)
    if ties:
        x = np.rint(x)
    pool = layers.MaxPooling(x, "pool", size, stride)
    out = pool.forward(x)
    assert out.shape == pool.shape
    assert np.array_equal(out, reference.max_pool(x, size, stride))
    grad_out = normal(rng, out.shape, dtype)
    grad_x = pool.backward_inputs(grad_out)
    assert_close(grad_x, reference.max_pool_grad(x, grad_out, size, stride), dtype)
    if torch:
        expected = torch_results(lambda x: functional.max_pool2d(x, size, stride), [x], grad_out)
        assert np.array_equal(out, expected[0])
        assert_close(grad_x, expected[1], dtype)


def test_large_windows_keep_larger_offsets(layers, rng):
    x = normal(rng, (1, 2, 40, 33))
    pool = layers.MaxPooling(x, "pool", 20, 10)
    assert np.array_equal(pool.forward(x), reference.max_pool(x, 20, 10))
    grad_out = normal(rng, pool.shape)
    expected = reference.max_pool_grad(x, grad_out, 20, 10)
    assert_close(pool.backward_inputs(grad_out), expected, np.float64)


@DTYPES
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (3, 40)])
def test_fc_equals_numpy_and_torch(layers, rng, dtype, shape):
    x = normal(rng, shape, dtype)
    fc = layers.FC(x, 6, "fc", rng=rng)
    fc.bias[...] = normal(rng, 6)
    grad_out = normal(rng, fc.shape, dtype)
    ours = results(fc, x, grad_out)
    grads = [grad_out @ fc.weights, grad_out.T @ x, grad_out.sum(axis=0)]
    assert_all_close(ours, [x @ fc.weights.T + fc.bias, *grads], dtype)
    if torch:
        expected = torch_results(functional.linear, [x, fc.weights, fc.bias], grad_out)
        assert_all_close(ours, expected, dtype)


@DTYPES
@pytest.mark.parametrize("one_hot", [True, False])
def test_cross_entropy_equals_scipy_and_torch(layers, rng, dtype, one_hot):
    x = normal(rng, (6, 5), dtype) * 3
    y = (np.eye(5)[rng.integers(5, size=6)] if one_hot else rng.dirichlet(np.ones(5), 6)).astype(
        dtype
    )
    loss = layers.SoftmaxCrossEntropyWithLogits()
    value = loss.forward(x, y)
    assert isinstance(value, np.floating)
    ours = [value, loss.backward_inputs(x, y)]
    entropies = -(y * log_softmax(x, axis=1)).sum(axis=1)
    assert_all_close(ours, [entropies.mean(), (softmax(x, axis=1) - y) / 6], dtype)
    if torch:
        one = np.ones((), dtype)
        expected = torch_results(lambda x: functional.cross_entropy(x, torch.tensor(y)), [x], one)
        assert_all_close(ours, expected, dtype)


@DTYPES
def test_cross_entropy_of_huge_logits_is_exact(layers, dtype):
    x = np.array([[1000, -1000, 0], [-1000, -1000, 1000]], dtype)
    loss, y = layers.SoftmaxCrossEntropyWithLogits(), np.array([[0, 1, 0], [0, 0, 1]], dtype)
    assert loss.forward(x, y) == 1000  # (2000 + 0) / 2
    assert np.array_equal(loss.backward_inputs(x, y), np.array([[1, -1, 0], [0, 0, 0]]) / 2)


# --- the contract that all layers share ---------------------------------------------------------

LAYERS = {
    "Convolution": ((4, 2, 6, 5), lambda layers, x: layers.Convolution(x, 3, 3, "layer")),
    "Convolution stride 2": (
        (4, 2, 6, 5),
        lambda layers, x: layers.Convolution(x, 3, 3, "layer", "VALID", stride=2),
    ),
    "MaxPooling": ((4, 2, 6, 5), lambda layers, x: layers.MaxPooling(x, "layer")),
    "MaxPooling 3, 2": ((4, 2, 7, 5), lambda layers, x: layers.MaxPooling(x, "layer", 3, 2)),
    "ReLU": ((4, 2, 6, 5), lambda layers, x: layers.ReLU(x, "layer")),
    "Flatten": ((4, 2, 6, 5), lambda layers, x: layers.Flatten(x, "layer")),
    "FC": ((4, 7), lambda layers, x: layers.FC(x, 3, "layer")),
}


@pytest.fixture(params=LAYERS)
def case(request):
    return LAYERS[request.param]


@DTYPES
def test_contract(layers, case, rng, dtype):
    shape, make = case
    x = normal(rng, shape, dtype)
    layer = make(layers, x)
    assert layer.name == "layer"
    assert layer.has_params == hasattr(layer, "weights") == hasattr(layer, "bias")
    for batch in (shape[0], 1, 7):  # any batch size at every call
        x = normal(rng, (batch, *shape[1:]), dtype)
        x_before = x.copy()
        out = layer.forward(x)
        assert out.shape == (batch, *layer.shape[1:])
        assert out.dtype == dtype
        grad_out = normal(rng, out.shape, dtype)
        grad_before, out_before = grad_out.copy(), out.copy()
        grad_x = layer.backward_inputs(grad_out)
        assert grad_x.shape == x.shape
        assert grad_x.dtype == dtype
        grads = [grad_x]
        if layer.has_params:
            pairs = layer.backward_params(grad_out)
            assert pairs[0][0] is layer.weights
            assert pairs[1][0] is layer.bias
            assert pairs[2] == "layer"
            assert all(p.shape == g.shape and g.dtype == dtype for p, g in pairs[:2])
            grads += [pairs[0][1], pairs[1][1]]
        copies = [grad.copy() for grad in grads]

        # outputs are the caller's: nothing that happens later changes them, nor they the layer
        out[...] = np.nan
        again = layer.backward_inputs(grad_out)
        assert np.array_equal(again, grad_x)
        again[...] = np.nan
        out = layer.forward(x)
        assert np.array_equal(out, out_before)
        layer.forward(x + 1)
        layer.backward_inputs(grad_out * 2)
        assert np.array_equal(out, out_before)
        assert all(np.array_equal(a, b) for a, b in zip(grads, copies, strict=True))
        assert np.array_equal(x, x_before)
        assert np.array_equal(grad_out, grad_before)


def test_outputs_do_not_share_memory_with_arguments(layers, case, rng):
    shape, make = case
    x = normal(rng, shape)
    layer = make(layers, x)
    out = layer.forward(x)
    assert not np.shares_memory(out, x)
    assert not np.shares_memory(layer.backward_inputs(out), out)


def test_views_give_the_same_as_contiguous_arrays(layers, case, rng):
    shape, make = case
    x = normal(rng, shape)
    layer = make(layers, x)
    view = np.asfortranarray(x)
    out = layer.forward(x)
    grad_out = normal(rng, out.shape)
    expected = layer.backward_inputs(grad_out)
    assert np.array_equal(layer.forward(view), out)
    assert np.array_equal(layer.backward_inputs(np.asfortranarray(grad_out)), expected)
    read_only = x.copy()
    read_only.flags.writeable = False
    assert np.array_equal(layer.forward(read_only), out)


def test_dtype_passes_from_layer_to_layer(layers):
    class OnlyShape:
        shape = (2, 3, 6, 6)

    for start, expected in (
        (np.zeros((2, 3, 6, 6), np.float32), np.float32),
        (np.zeros((2, 3, 6, 6)), np.float64),
        (np.zeros((2, 3, 6, 6), np.uint8), np.float64),
        (OnlyShape, np.float64),
    ):
        net = [layers.MaxPooling(start, "pool")]
        net += [layers.ReLU(net[-1], "relu")]
        net += [layers.Convolution(net[-1], 2, 3, "conv")]
        net += [layers.Flatten(net[-1], "flatten")]
        net += [layers.FC(net[-1], 2, "fc")]
        assert [net[2].weights.dtype, net[2].bias.dtype, net[4].weights.dtype] == [expected] * 3


def test_parameters_decide_the_dtype(layers, rng):
    for layer, shape in (
        (layers.Convolution(np.zeros((2, 1, 4, 4), np.float32), 2, 3, "conv"), (2, 1, 4, 4)),
        (layers.FC(np.zeros((2, 4), np.float32), 2, "fc"), (2, 4)),
    ):
        out = layer.forward(normal(rng, shape))
        assert out.dtype == np.float32
        grad_out = normal(rng, out.shape)
        (_, grad_weights), (_, grad_bias), _ = layer.backward_params(grad_out)
        grads = [layer.backward_inputs(grad_out), grad_weights, grad_bias]
        assert [grad.dtype for grad in grads] == [np.float32] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_of_another_dtype_may_come_before_the_way_back(layers, rng, dtype):
    for layer, shape in (
        (layers.Convolution(np.zeros((2, 1, 4, 4), dtype), 2, 3, "conv"), (2, 1, 4, 4)),
        (layers.FC(np.zeros((2, 4), dtype), 2, "fc"), (2, 4)),
    ):
        grad_out = layer.forward(normal(rng, shape))
        (_, expected), _, _ = layer.backward_params(grad_out)
        other = np.float32 if dtype == np.float64 else np.float64
        layer.weights, layer.bias = layer.weights.astype(other), layer.bias.astype(other)
        (_, grad_weights), _, _ = layer.backward_params(grad_out)
        np.testing.assert_allclose(grad_weights, expected, rtol=1e-4, atol=1e-5)
        assert layer.backward_inputs(grad_out).dtype == other


def test_parameters_may_be_changed_and_replaced(layers, rng):
    x = normal(rng, (2, 1, 5, 5))
    conv = layers.Convolution(x, 2, 3, "conv", rng=rng)
    weights, bias = normal(rng, (2, 9)), normal(rng, 2)
    conv.weights[...], conv.bias[...] = weights, bias
    expected = conv.forward(x)
    other = layers.Convolution(x, 2, 3, "other")
    other.forward(x)
    other.weights, other.bias = np.asfortranarray(weights), bias
    assert np.array_equal(other.forward(x), expected)
    other.weights = weights.astype(np.float32)
    assert other.forward(x).dtype == np.float32
    other.weights = weights[:, :4]
    with pytest.raises(ValueError, match=r"expected weights of shape \(2, 9\), got \(2, 4\)"):
        other.forward(x)


def test_a_call_that_passed_lets_nothing_else_through(layers, rng):
    """Fast layers look twice only at what is not like the array before."""
    fc = layers.FC(np.zeros((2, 5), np.float32), 3, "fc", rng=rng)
    x = normal(rng, (2, 5), np.float32)
    out = fc.forward(x)
    for bad in (x[:, :4], x[0]):
        with pytest.raises(ValueError, match="fc: expected x of shape"):
            fc.forward(bad)
    for same in (x.astype(np.float64), np.asfortranarray(x), x.tolist()):
        again = fc.forward(same)
        assert again.dtype == np.float32
        assert_close(again, out, np.float32)
    fc.backward_params(out)
    with pytest.raises(ValueError, match="fc: expected grad_out of shape"):
        fc.backward_params(out[:, :2])
    fc.forward(x[:1])
    with pytest.raises(ValueError, match=r"fc: expected grad_out of shape \(1, 3\), got \(2, 3\)"):
        fc.backward_inputs(out)
    fc.weights = fc.weights.astype(np.float64)
    assert fc.forward(x[:1]).dtype == np.float64
    fc.bias = np.zeros(4)
    with pytest.raises(ValueError, match="fc: expected bias of shape"):
        fc.forward(x[:1])
    loss = layers.SoftmaxCrossEntropyWithLogits()
    loss.forward(x, np.eye(2, 5, dtype=np.float32))
    with pytest.raises(ValueError, match="expected y of shape"):
        loss.forward(x, np.eye(2, 4, dtype=np.float32))


def test_initializers(layers, rng):
    x = np.zeros((2, 3, 8, 8))
    shapes = []

    def constant(shape, fan_in):
        shapes.append((tuple(shape), fan_in))
        return np.full(shape, 7.0)

    conv = layers.Convolution(x, 4, 5, "conv", "SAME", constant, np.ones)
    assert np.all(conv.weights == 7)
    assert np.all(conv.bias == 1)
    fc = layers.FC(np.zeros((2, 6)), 3, "fc", constant, np.ones)
    assert shapes == [((4, 75), 75), ((3, 6), 6)]
    assert np.all(fc.weights == 7)
    he = layers.FC(np.zeros((1, 1000)), 200, "fc", rng=rng)
    assert he.weights.std() == pytest.approx(np.sqrt(2 / 1000), rel=0.01)
    assert not he.bias.any()
    same = [layers.FC(x[0, 0], 3, "fc", rng=np.random.default_rng(5)).weights for _ in range(2)]
    assert np.array_equal(*same)
    np.random.seed(3)
    first = layers.FC(x[0, 0], 3, "fc").weights
    np.random.seed(3)
    assert np.array_equal(first, layers.FC(x[0, 0], 3, "fc").weights)


def test_convolution_takes_other_image_sizes(layers, rng):
    conv = layers.Convolution(np.zeros((2, 1, 8, 8)), 2, 3, "conv", rng=rng)
    x = normal(rng, (3, 1, 5, 11))
    expected = reference.conv(x, conv.weights, conv.bias, 3, 1, 1)
    np.testing.assert_allclose(conv.forward(x), expected)


@DTYPES
@EVERY_KERNEL
def test_a_nan_wins_in_each_place_of_a_window(layers, dtype):
    x = np.zeros((4, 1, 2, 10), dtype)
    for place in range(4):
        x[place, 0, place // 2, place % 2 :: 2] = np.nan
    pool = layers.MaxPooling(x, "pool")
    assert np.isnan(pool.forward(x)).all()
    grad_out = np.arange(1, 21, dtype=dtype).reshape(pool.shape)
    expected = np.where(np.isnan(x), grad_out.repeat(2, axis=2).repeat(2, axis=3), 0)
    assert np.array_equal(pool.backward_inputs(grad_out), expected)


def test_nan_is_not_hidden(layers):
    x = np.ones((1, 1, 4, 4))
    x[0, 0, 1, 1] = np.nan
    assert np.isnan(layers.MaxPooling(x, "pool").forward(x)[0, 0, 0, 0])
    assert np.isnan(layers.ReLU(x, "relu").forward(x)[0, 0, 1, 1])


# --- errors -------------------------------------------------------------------------------------

IMAGE = np.zeros((2, 3, 6, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda layers: layers.Convolution(IMAGE, 4, 3, "conv").forward(
                np.zeros((50, 1, 28, 28))
            ),
            r"conv: expected x of shape \(N, 3, H, W\), got \(50, 1, 28, 28\)",
        ),
        (
            lambda layers: layers.Convolution(IMAGE, 4, 3, "conv").forward(np.zeros((3, 6, 6))),
            r"\(N, 3, H, W\), got \(3, 6, 6\)",
        ),
        (
            lambda layers: layers.Convolution(np.zeros((2, 3)), 4, 3, "conv"),
            r"input_layer of shape \(N, C, H, W\), got \(2, 3\)",
        ),
        (lambda layers: layers.Convolution(IMAGE, 4, 7, "conv", "VALID"), "at least 7 pixels"),
        (
            lambda layers: layers.Convolution(IMAGE, 4, 4, "conv"),
            "'SAME' needs an odd kernel_size, got 4",
        ),
        (lambda layers: layers.Convolution(IMAGE, 4, 3, "conv", "FULL"), "got 'FULL'"),
        (lambda layers: layers.Convolution(IMAGE, 0, 3, "conv"), "at least 1 filter, got 0"),
        (lambda layers: layers.Convolution(IMAGE, 1, 3, "conv", stride=0), "stride 0"),
        (
            lambda layers: layers.Convolution(
                IMAGE, 1, 3, "c", "SAME", lambda s, f: np.zeros((2, 2))
            ),
            r"expected weights of shape \(1, 27\), got \(2, 2\)",
        ),
        (lambda layers: layers.MaxPooling(IMAGE, "pool", 7, 1), "at least 7 pixels"),
        (
            lambda layers: layers.MaxPooling(np.zeros((2, 3)), "pool"),
            r"\(N, C, H, W\), got \(2, 3\)",
        ),
        (
            lambda layers: layers.MaxPooling(IMAGE, "pool").forward(np.zeros((2, 1, 6, 6))),
            r"expected x of shape \(N, 3, H, W\), got \(2, 1, 6, 6\)",
        ),
        (lambda layers: layers.FC(IMAGE, 4, "fc"), r"\(N, D\), got \(2, 3, 6, 6\)"),
        (lambda layers: layers.FC(IMAGE[0, 0], 0, "fc"), "at least 1 output, got 0"),
        (
            lambda layers: layers.FC(IMAGE[0, 0], 4, "fc").forward(np.zeros((2, 5))),
            r"expected x of shape \(N, 6\), got \(2, 5\)",
        ),
        (
            lambda layers: layers.Flatten(IMAGE, "flatten").forward(np.zeros((2, 3, 6, 5))),
            r"\(N, 3, 6, 6\), got \(2, 3, 6, 5\)",
        ),
        (
            lambda layers: layers.SoftmaxCrossEntropyWithLogits().forward(
                np.zeros((4, 10)), np.zeros(4)
            ),
            r"expected y of shape \(4, 10\), got \(4,\)",
        ),
        (
            lambda layers: layers.SoftmaxCrossEntropyWithLogits().backward_inputs(
                np.zeros((4, 10)), np.zeros((4, 9))
            ),
            r"expected y of shape \(4, 10\), got \(4, 9\)",
        ),
        (
            lambda layers: layers.SoftmaxCrossEntropyWithLogits().forward(
                np.zeros(10), np.zeros(10)
            ),
            r"logits of shape \(N, K\), got \(10,",
        ),
        (
            lambda layers: layers.SoftmaxCrossEntropyWithLogits().forward(
                np.zeros((0, 10)), np.zeros((0, 10))
            ),
            "empty batch",
        ),
    ],
)
def test_errors_quote_expected_and_actual(layers, call, message):
    with pytest.raises(ValueError, match=message):
        call(layers)


def test_backward_checks_the_gradient(layers, case, rng):
    shape, make = case
    layer = make(layers, normal(rng, shape))
    with pytest.raises(RuntimeError, match="layer: backward was called before forward"):
        layer.backward_inputs(np.zeros(layer.shape))
    layer.forward(normal(rng, shape))
    wrong = np.zeros((layer.shape[0] + 1, *layer.shape[1:]))
    for backward in ("backward_inputs", *(["backward_params"] if layer.has_params else [])):
        with pytest.raises(ValueError, match="expected grad_out of shape"):
            getattr(layer, backward)(wrong)
