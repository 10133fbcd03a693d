"""Layers, losses and regularizers: their mathematics, and what each keeps to go backward.

A network is a list of layers, each built on the one before:

    conv = Convolution(x, 16, 5, "conv1")      # x: anything with a .shape
    relu = ReLU(conv, "relu1")
    out = relu.forward(conv.forward(x))
    grad_conv = relu.backward_inputs(grad_out)
    (weights, grad_weights), (bias, grad_bias), name = conv.backward_params(grad_conv)

The rules that all of them follow:
- the batch may have another size at every call; backward_* refer to the most recent forward;
- the parameters' dtype decides, float32 or float64: arrays of another one are converted;
- outputs belong to the caller, and no argument is changed. A layer may keep a reference to its
  input until the next forward: do not change that array between forward and backward.

Axes: N images, C channels, H, W rows and columns; F filters; OH, OW output rows and columns.
"""

import support  # says in one line what is missing

import numpy as np
from threadpoolctl import ThreadpoolController

import im2col_cython as kernels

# The kernels share a batch out among threads of their own; the threads of BLAS would only fight
# those for the cores.
ThreadpoolController().limit(limits=1, user_api="blas")
get_num_threads = kernels.get_num_threads
set_num_threads = kernels.set_num_threads


def he_normal(shape, fan_in, rng=None):
    """Weights from a normal distribution of variance 2 / fan_in; rng None means np.random.

    Source: He et al., Delving Deep into Rectifiers, 2015, equation 10.
    """
    rng = np.random if rng is None else rng
    return np.sqrt(2 / fan_in) * rng.standard_normal(shape)


def _float_dtype(array):
    """The dtype of an array or a layer where it is float32, float64 in every other case."""
    dtype = getattr(array, "dtype", None)
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def _contiguous(array, dtype):
    return np.ascontiguousarray(array, dtype)


def _check_shape(owner, name, expected, array):
    """Raise unless array.shape fits expected, in which a letter stands for any size."""
    shape = np.shape(array)
    fits = len(shape) == len(expected) and all(
        isinstance(e, str) or e == s for e, s in zip(expected, shape, strict=True)
    )
    if not fits:
        letters = ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "")
        raise ValueError(f"{owner}: expected {name} of shape ({letters}), got {shape}")


class Layer:
    """What all layers have: `.shape` (of the output), `.dtype`, `.name`, `.has_params`.

    After a forward: `kept`, the arrays it left for the backward pass, and the shapes of its x and
    its output.
    """

    has_params = False

    def __init__(self, input_layer, name):
        self.input_shape = tuple(input_layer.shape)
        self.dtype = _float_dtype(input_layer)
        self.name = name
        self.kept = self.x_shape = self.out_shape = None

    def _keep(self, x, out, *kept):
        self.x_shape, self.out_shape, self.kept = x.shape, out.shape, kept
        return out

    def _check_grad(self, grad_out):
        if self.kept is None:
            raise RuntimeError(f"{self.name}: backward was called before forward")
        _check_shape(self.name, "grad_out", self.out_shape, grad_out)

    def _init_params(self, weights_shape, fan_in, weights_fn, bias_fn, rng):
        """weights and bias from the initializers, copied, in the dtype of the layer."""
        options = {} if rng is None else {"rng": rng}
        self.weights = np.asarray(weights_fn(weights_shape, fan_in, **options))
        self.bias = np.array(bias_fn(weights_shape[:1]), self.dtype, order="C")
        self.weights_shape = weights_shape
        weights, _ = self._params()
        self.weights = kernels.empty(weights_shape, self.dtype)
        self.weights[...] = weights

    def _params(self):
        """weights and bias as the kernels take them, also after the caller has replaced them."""
        _check_shape(self.name, "weights", self.weights_shape, self.weights)
        _check_shape(self.name, "bias", self.weights_shape[:1], self.bias)
        dtype = _float_dtype(self.weights)
        return _contiguous(self.weights, dtype), _contiguous(self.bias, dtype)


class Convolution(Layer):
    """Convolution: every filter slides over all channels (a cross-correlation, as is usual).

    out[n, f, y, x] = bias[f] + sum over c, i, j of
                      weights[f, (c*k + i)*k + j] * x[n, c, y*stride + i - pad, x*stride + j - pad]

    input_layer: of shape (N, C, H, W). kernel_size: k, rows and columns.
    padding: 'SAME' (zeros, k-1 in all: OH = H at stride 1; k must be odd), 'VALID' (none), or the
    number of zeros on each side. rng: handed to weights_initializer_fn(shape, fan_in, rng=rng).
    Shapes: x (N, C, H, W) -> (N, F, OH, OW), OH = (H + 2*pad - k) // stride + 1;
    weights (F, C*k*k), bias (F,).
    Raises: ValueError for another rank or number of channels, or an output of size zero.
    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.
    """

    has_params = True

    def __init__(
        self,
        input_layer,
        num_filters,
        kernel_size,
        name,
        padding="SAME",
        weights_initializer_fn=he_normal,
        bias_initializer_fn=np.zeros,
        *,
        stride=1,
        rng=None,
    ):
        super().__init__(input_layer, name)
        _check_shape(name, "input_layer", ("N", "C", "H", "W"), input_layer)
        if padding == "SAME" and kernel_size % 2 == 0:
            raise ValueError(f"{name}: padding 'SAME' needs an odd kernel_size, got {kernel_size}")
        if padding not in ("SAME", "VALID") and not isinstance(padding, int | np.integer):
            raise ValueError(f"{name}: expected padding 'SAME', 'VALID' or int, got {padding!r}")
        if num_filters < 1:
            raise ValueError(f"{name}: expected at least 1 filter, got {num_filters}")
        N, C, H, W = self.input_shape
        self.kernel_size = kernel_size
        self.stride = stride
        self.pad = {"SAME": (kernel_size - 1) // 2, "VALID": 0}.get(padding, padding)
        OH, OW = (kernels.output_size(size, kernel_size, self.pad, stride) for size in (H, W))
        self.shape = (N, num_filters, OH, OW)
        fan_in = C * kernel_size**2
        self._init_params(
            (num_filters, fan_in), fan_in, weights_initializer_fn, bias_initializer_fn, rng
        )

    def forward(self, x):
        _check_shape(self.name, "x", ("N", self.input_shape[1], "H", "W"), x)
        weights, bias = self._params()
        x = _contiguous(x, weights.dtype)
        out = kernels.conv_forward(x, weights, bias, self.kernel_size, self.pad, self.stride)
        return self._keep(x, out, x)

    def backward_inputs(self, grad_out):
        self._check_grad(grad_out)
        weights, _ = self._params()
        grad_out = _contiguous(grad_out, weights.dtype)
        return kernels.conv_backward_inputs(
            grad_out, weights, self.x_shape, self.kernel_size, self.pad, self.stride
        )

    def backward_params(self, grad_out):
        self._check_grad(grad_out)
        (x,) = self.kept
        grad_out = _contiguous(grad_out, x.dtype)
        grad_weights, grad_bias = kernels.conv_backward_params(
            grad_out, x, self.kernel_size, self.pad, self.stride
        )
        return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]


class MaxPooling(Layer):
    """Maximum of each window; pixels beyond the last whole window are left out.

    out[n, c, y, x] = max over i, j < pool_size of x[n, c, y*stride + i, x*stride + j]

    The grad goes to the maximum, to the first one (row by row) of several, as in PyTorch; where
    windows overlap, grads add up. Kept: the place of the maximum, one byte an output.
    Shapes: x (N, C, H, W) -> (N, C, OH, OW), OH = (H - pool_size) // stride + 1.
    Raises: ValueError for another rank or number of channels, or an output of size zero.
    """

    def __init__(self, input_layer, name, pool_size=2, stride=2):
        super().__init__(input_layer, name)
        _check_shape(name, "input_layer", ("N", "C", "H", "W"), input_layer)
        self.pool_size = pool_size
        self.stride = stride
        self.shape = self.input_shape[:2] + self._output_size(*self.input_shape[2:])

    def forward(self, x):
        _check_shape(self.name, "x", ("N", self.input_shape[1], "H", "W"), x)
        x = _contiguous(x, _float_dtype(x))
        offset_dtype = np.uint8 if self.pool_size <= 16 else np.intc
        winner = np.empty(x.shape[:2] + self._output_size(*x.shape[2:]), offset_dtype)
        out = kernels.pool_forward(x, self.pool_size, self.stride, winner)
        return self._keep(x, out, winner)

    def backward_inputs(self, grad_out):
        self._check_grad(grad_out)
        grad_out = _contiguous(grad_out, _float_dtype(grad_out))
        (winner,) = self.kept
        return kernels.pool_backward(grad_out, winner, self.x_shape, self.pool_size, self.stride)

    def _output_size(self, H, W):
        return tuple(kernels.output_size(s, self.pool_size, 0, self.stride) for s in (H, W))


class Flatten(Layer):
    """All axes but the first become one. Shapes: x (N, ...) -> (N, product of the rest)."""

    def __init__(self, input_layer, name):
        super().__init__(input_layer, name)
        self.shape = (self.input_shape[0], int(np.prod(self.input_shape[1:])))

    def forward(self, x):
        _check_shape(self.name, "x", ("N", *self.input_shape[1:]), x)
        x = np.asarray(x)
        out = kernels.empty((len(x), self.shape[1]), x.dtype)
        out[...] = x.reshape(out.shape)
        return self._keep(x, out)

    def backward_inputs(self, grad_out):
        self._check_grad(grad_out)
        return np.array(grad_out).reshape(self.x_shape)


class ReLU(Layer):
    """Rectified linear unit: out = max(x, 0); the grad passes where x > 0. Any shape.

    Kept: where x > 0, one byte an element.
    """

    def __init__(self, input_layer, name):
        super().__init__(input_layer, name)
        self.shape = self.input_shape

    def forward(self, x):
        x = _contiguous(x, _float_dtype(x))
        out, positive = kernels.empty(x.shape, x.dtype), np.empty(x.shape, np.uint8)
        kernels.relu_forward(x.ravel(), out.ravel(), positive.ravel())
        return self._keep(x, out, positive)

    def backward_inputs(self, grad_out):
        self._check_grad(grad_out)
        (positive,) = self.kept
        grad_out = _contiguous(grad_out, _float_dtype(grad_out))
        grad_x = kernels.empty(grad_out.shape, grad_out.dtype)
        kernels.relu_backward(grad_out.ravel(), positive.ravel(), grad_x.ravel())
        return grad_x


class FC(Layer):
    """Fully connected layer: out = x @ weights.T + bias.

    Shapes: x (N, num_inputs) -> (N, num_outputs); weights (num_outputs, num_inputs),
    bias (num_outputs,). rng: handed to weights_initializer_fn(shape, fan_in, rng=rng).
    Raises: ValueError for another rank or number of inputs.
    """

    has_params = True

    def __init__(
        self,
        input_layer,
        num_outputs,
        name,
        weights_initializer_fn=he_normal,
        bias_initializer_fn=np.zeros,
        *,
        rng=None,
    ):
        super().__init__(input_layer, name)
        _check_shape(name, "input_layer", ("N", "D"), input_layer)
        if num_outputs < 1:
            raise ValueError(f"{name}: expected at least 1 output, got {num_outputs}")
        N, num_inputs = self.input_shape
        self.shape = (N, num_outputs)
        self._init_params(
            (num_outputs, num_inputs), num_inputs, weights_initializer_fn, bias_initializer_fn, rng
        )

    def forward(self, x):
        _check_shape(self.name, "x", ("N", self.input_shape[1]), x)
        weights, bias = self._params()
        x = _contiguous(x, weights.dtype)
        out = kernels.matmul(x, weights.T)
        out += bias
        return self._keep(x, out, x)

    def backward_inputs(self, grad_out):
        self._check_grad(grad_out)
        weights, _ = self._params()
        return kernels.matmul(_contiguous(grad_out, weights.dtype), weights)

    def backward_params(self, grad_out):
        self._check_grad(grad_out)
        (x,) = self.kept
        grad_out = _contiguous(grad_out, x.dtype)
        grad_weights = kernels.matmul(grad_out.T, x)
        return [[self.weights, grad_weights], [self.bias, grad_out.sum(axis=0)], self.name]


class SoftmaxCrossEntropyWithLogits:
    """Softmax of the logits and its cross-entropy against y, the mean over the batch.

    loss = mean over n of  log(sum over k of exp(x[n, k])) - sum over k of y[n, k] * x[n, k]
    d loss / d x[n, k] = (softmax(x[n])[k] - y[n, k]) / N

    Shapes: logits x (N, K); y (N, K), a distribution in each row, one-hot for example.
    Raises: ValueError for another rank, another shape of y, or an empty batch.
    """

    has_params = False

    def forward(self, x, y):
        x, y = self._check(x, y)
        return -np.mean(np.sum(y * self._log_softmax(x), axis=1))

    def backward_inputs(self, x, y):
        x, y = self._check(x, y)
        return (np.exp(self._log_softmax(x)) - y) / x.dtype.type(len(x))

    def _log_softmax(self, x):
        with np.errstate(invalid="ignore"):  # an infinite logit gives a nan, without a warning
            x = x - x.max(axis=1, keepdims=True)  # no exp() overflows, and one of them is exp(0)
            return x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))

    def _check(self, x, y):
        _check_shape("SoftmaxCrossEntropyWithLogits", "logits", ("N", "K"), x)
        _check_shape("SoftmaxCrossEntropyWithLogits", "y", np.shape(x), y)
        if np.size(x) == 0:
            raise ValueError(f"SoftmaxCrossEntropyWithLogits: empty batch, logits {np.shape(x)}")
        dtype = _float_dtype(x)
        return np.asarray(x, dtype), np.asarray(y, dtype)


class L2Regularizer:
    """loss = weight_decay / 2 * sum(weights**2), with the gradient weight_decay * weights.

    weights: the parameter array itself, so that changes made to it in place are seen here.
    Source: Krogh and Hertz, A Simple Weight Decay Can Improve Generalization, 1991.
    """

    has_params = True

    def __init__(self, weights, weight_decay, name):
        self.weights = weights
        self.weight_decay = float(weight_decay)
        self.name = name

    def forward(self):
        return self.weight_decay / 2 * np.sum(np.square(self.weights))

    def backward_params(self):
        return [[self.weights, self.weight_decay * self.weights], self.name]


class RegularizedLoss:
    """The sum of a data loss and of the losses of any number of regularizers."""

    has_params = True
    name = "RegularizedLoss"

    def __init__(self, data_loss, regularizer_losses):
        self.data_loss = data_loss
        self.regularizer_losses = list(regularizer_losses)

    def forward(self, x, y):
        return self.data_loss.forward(x, y) + sum(r.forward() for r in self.regularizer_losses)

    def backward_inputs(self, x, y):
        return self.data_loss.backward_inputs(x, y)

    def backward_params(self):
        return [regularizer.backward_params() for regularizer in self.regularizer_losses]
