"""The layers of a convolutional network: forward, and backward for inputs and parameters.

A network is a list of layers, each built on the one before:

    conv = Convolution(x, 16, 5, "conv1")      # x: anything with a .shape
    relu = ReLU(conv, "relu1")
    out = relu.forward(conv.forward(x))
    grad_conv = relu.backward_inputs(grad_out)
    [[weights, grad_weights], [bias, grad_bias], name] = conv.backward_params(grad_conv)

backward_inputs gets the gradient of the loss L with respect to the layer's output, dL/d out, and
returns dL/dx; backward_params returns dL/d weights and dL/d bias. Both refer to the most recent
forward, which keeps in self what they need of it; do not change its x in between.

The batch may have another size at every call. Parameters are float32 or float64, and what comes in
is converted to their type. Outputs belong to the caller, and no argument is changed.

Axes: N images, C channels, H, W rows and columns; F filters of k x k; OH, OW output rows and
columns; D inputs of FC; K classes.
"""

import support  # says in one line which package is missing

import numpy as np

from im2col_cython import col2im_cython, im2col_cython


def he_normal(shape, fan_in, rng=None):
    """Weights from a normal distribution of variance 2 / fan_in; rng None means np.random.

    With it the outputs of one layer vary as much as those of the next, if a ReLU lies between.
    Source: He et al., Delving Deep into Rectifiers, 2015, equation 10.
    """
    rng = np.random if rng is None else rng
    return np.sqrt(2 / fan_in) * rng.standard_normal(shape)


class Layer:
    """What all layers have: `.shape` (of the output), `.input_shape`, `.name`, `.has_params`."""

    has_params = False

    def __init__(self, input_layer, name):
        self.input_shape = tuple(input_layer.shape)
        self.N = self.input_shape[0]
        self.dtype = float_type(input_layer)  # of the parameters, at first
        self.name = name
        self.out_shape = None  # of the most recent forward

    def make_params(self, shape, weights_initializer_fn, bias_initializer_fn, rng):
        """weights of that shape, a row an output, and bias."""
        options = {} if rng is None else {"rng": rng}
        self.weights_shape = shape
        self.weights = np.array(weights_initializer_fn(shape, shape[1], **options), self.dtype)
        self.bias = np.array(bias_initializer_fn(shape[:1]), self.dtype)
        self.params()

    def params(self):
        """weights and bias in one type; raises if they were replaced by some of another shape."""
        check_shape(self.name, "weights", self.weights, self.weights_shape)
        check_shape(self.name, "bias", self.bias, self.weights_shape[:1])
        dtype = float_type(self.weights)
        return np.asarray(self.weights, dtype), np.asarray(self.bias, dtype)

    def checked(self, what, array, expected):
        """array in the type of the parameters, if there are any; raises if its shape is wrong."""
        check_shape(self.name, what, array, expected)
        return np.asarray(array, float_type(self.weights if self.has_params else array))

    def checked_grad(self, grad_out):
        if self.out_shape is None:
            raise RuntimeError(f"{self.name}: backward was called before forward")
        return self.checked("grad_out", grad_out, self.out_shape)


class Convolution(Layer):
    """Convolution: every filter slides over the image (a cross-correlation, as is usual).

    out[n, f, y, x] = bias[f] + sum over c, i, j of
                      weights[f, (c*k + i)*k + j] * x[n, c, y*stride + i - pad, x*stride + j - pad]

    im2col makes a column of what a filter sees at one place, so that all filters at all places are
    one matrix product, of weights and columns; col2im takes gradients of the columns back to x.

    input_layer: of shape (N, C, H, W). kernel_size: k, rows and columns.
    padding: 'SAME' ((k-1)/2 zeros on each side: OH = H at stride 1; k must be odd), 'VALID' (none),
    or the number of zeros on each side. rng: handed to weights_initializer_fn(shape, fan_in,
    rng=rng).
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
        check_shape(name, "input_layer", input_layer, ("N", "C", "H", "W"))
        if padding == "SAME" and kernel_size % 2 == 0:
            raise ValueError(f"{name}: padding 'SAME' needs an odd kernel_size, got {kernel_size}")
        if padding not in ("SAME", "VALID") and not isinstance(padding, int | np.integer):
            raise ValueError(f"{name}: expected padding 'SAME', 'VALID' or int, got {padding!r}")
        if num_filters < 1:
            raise ValueError(f"{name}: expected at least 1 filter, got {num_filters}")
        self.C = self.input_shape[1]
        self.num_filters = num_filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.pad = {"SAME": (kernel_size - 1) // 2, "VALID": 0}.get(padding, padding)
        self.shape = (self.N, num_filters, *self.output_size(*self.input_shape[2:]))
        weights_shape = (num_filters, self.C * kernel_size**2)
        self.make_params(weights_shape, weights_initializer_fn, bias_initializer_fn, rng)

    def output_size(self, H, W):
        return tuple(output_size(size, self.kernel_size, self.pad, self.stride) for size in (H, W))

    def forward(self, x):
        x = self.checked("x", x, ("N", self.C, "H", "W"))
        weights, bias = self.params()
        k = self.kernel_size
        self.x_shape = x.shape
        self.cols = im2col_cython(x, k, k, self.pad, self.stride)  # (C*k*k, OH*OW*N)
        out = weights @ self.cols + bias[:, np.newaxis]  # (F, OH*OW*N)
        out = out.reshape(self.num_filters, *self.output_size(*x.shape[2:]), len(x))
        out = out.transpose(3, 0, 1, 2)  # (N, F, OH, OW)
        self.out_shape = out.shape
        return out

    def backward_inputs(self, grad_out):
        weights, _ = self.params()
        k = self.kernel_size
        grad_cols = weights.T @ self.as_rows(grad_out)  # (C*k*k, OH*OW*N)
        return col2im_cython(grad_cols, *self.x_shape, k, k, self.pad, self.stride)

    def backward_params(self, grad_out):
        rows = self.as_rows(grad_out)
        grad_weights = rows @ self.cols.T
        grad_bias = rows.sum(axis=1)
        return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]

    def as_rows(self, grad_out):
        """(N, F, OH, OW) -> (F, OH*OW*N): a row a filter, a column a window, as im2col has them."""
        grad_out = self.checked_grad(grad_out)
        return grad_out.transpose(1, 2, 3, 0).reshape(self.num_filters, -1)


class MaxPooling(Layer):
    """Maximum of each window; pixels beyond the last whole window are left out.

    out[n, c, y, x] = max over i, j < pool_size of x[n, c, y*stride + i, x*stride + j]

    The gradient goes to the maximum, to the first one (row by row) of several, as in PyTorch; where
    windows overlap, gradients add up.
    Shapes: x (N, C, H, W) -> (N, C, OH, OW), OH = (H - pool_size) // stride + 1.
    Raises: ValueError for another rank or number of channels, or an output of size zero.
    """

    def __init__(self, input_layer, name, pool_size=2, stride=2):
        super().__init__(input_layer, name)
        check_shape(name, "input_layer", input_layer, ("N", "C", "H", "W"))
        self.C = self.input_shape[1]
        self.pool_size = pool_size
        self.stride = stride
        self.shape = (self.N, self.C, *self.output_size(*self.input_shape[2:]))

    def output_size(self, H, W):
        return tuple(output_size(size, self.pool_size, 0, self.stride) for size in (H, W))

    def forward(self, x):
        x = self.checked("x", x, ("N", self.C, "H", "W"))
        self.x_shape = x.shape
        windows = np.stack(self.pixels_of_windows(x))  # (pool_size**2, N, C, OH, OW)
        out, self.winner = windows.max(axis=0), windows.argmax(axis=0)
        self.out_shape = out.shape
        return out

    def backward_inputs(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        grad_x = np.zeros(self.x_shape, grad_out.dtype)
        for place, grad_pixels in enumerate(self.pixels_of_windows(grad_x)):
            grad_pixels += np.where(self.winner == place, grad_out, 0)  # a view: adds to grad_x
        return grad_x

    def pixels_of_windows(self, x):
        """For each place (i, j) in a window a view of x with that pixel of all the windows.

        Shapes: x (N, C, H, W) -> a list of pool_size**2 arrays (N, C, OH, OW).
        """
        size, stride = self.pool_size, self.stride
        OH, OW = self.output_size(*x.shape[2:])
        height, width = stride * (OH - 1) + 1, stride * (OW - 1) + 1
        return [
            x[:, :, i : i + height : stride, j : j + width : stride]
            for i in range(size)
            for j in range(size)
        ]


class ReLU(Layer):
    """Rectified linear unit: out = max(x, 0), whose slope at x = 0 counts as 0. Any shape."""

    def __init__(self, input_layer, name):
        super().__init__(input_layer, name)
        self.shape = self.input_shape

    def forward(self, x):
        self.x = np.asarray(x, float_type(x))
        self.out_shape = self.x.shape
        return np.maximum(self.x, 0)

    def backward_inputs(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        return np.where(self.x > 0, grad_out, 0)


class Flatten(Layer):
    """All axes but the first become one. Shapes: x (N, ...) -> (N, product of the rest)."""

    def __init__(self, input_layer, name):
        super().__init__(input_layer, name)
        self.num_outputs = int(np.prod(self.input_shape[1:]))
        self.shape = (self.N, self.num_outputs)

    def forward(self, x):
        x = self.checked("x", x, ("N", *self.input_shape[1:]))
        self.x_shape, self.out_shape = x.shape, (len(x), self.num_outputs)
        return x.reshape(self.out_shape).copy()

    def backward_inputs(self, grad_out):
        return self.checked_grad(grad_out).reshape(self.x_shape).copy()


class FC(Layer):
    """Fully connected layer: every output is a weighted sum of all inputs.

    out[n, j] = bias[j] + sum over i of weights[j, i] * x[n, i]

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
        check_shape(name, "input_layer", input_layer, ("N", "D"))
        if num_outputs < 1:
            raise ValueError(f"{name}: expected at least 1 output, got {num_outputs}")
        self.num_inputs = self.input_shape[1]
        self.num_outputs = num_outputs
        self.shape = (self.N, num_outputs)
        weights_shape = (num_outputs, self.num_inputs)
        self.make_params(weights_shape, weights_initializer_fn, bias_initializer_fn, rng)

    def forward(self, x):
        self.x = self.checked("x", x, ("N", self.num_inputs))
        weights, bias = self.params()
        self.out_shape = (len(x), self.num_outputs)
        return self.x @ weights.T + bias

    def backward_inputs(self, grad_out):
        weights, _ = self.params()
        return self.checked_grad(grad_out) @ weights

    def backward_params(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        grad_weights = grad_out.T @ self.x
        grad_bias = grad_out.sum(axis=0)
        return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]


class SoftmaxCrossEntropyWithLogits:
    """Softmax of the logits and its cross-entropy against y, the mean over the batch.

    softmax(x[n])[k] = exp(x[n, k]) / sum over j of exp(x[n, j])
    loss = mean over n of -sum over k of y[n, k] * log(softmax(x[n])[k])

    Shapes: logits x (N, K); y (N, K), a distribution in each row, one-hot for example.
    Raises: ValueError for another rank, another shape of y, or an empty batch.
    """

    has_params = False

    def forward(self, x, y):
        x, y = self.check(x, y)
        return -np.mean(np.sum(y * self.log_softmax(x), axis=1))

    def backward_inputs(self, x, y):
        x, y = self.check(x, y)
        softmax = np.exp(self.log_softmax(x))
        return (softmax - y) / len(x)

    def log_softmax(self, x):
        with np.errstate(invalid="ignore"):  # an infinite logit gives a nan, without a warning
            x = x - x.max(axis=1, keepdims=True)  # exp(x) is 1 at most, and once it is 1
            return x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))

    def check(self, x, y):
        check_shape("SoftmaxCrossEntropyWithLogits", "logits", x, ("N", "K"))
        check_shape("SoftmaxCrossEntropyWithLogits", "y", y, np.shape(x))
        if np.size(x) == 0:
            raise ValueError(f"SoftmaxCrossEntropyWithLogits: empty batch, logits {np.shape(x)}")
        dtype = float_type(x)
        return np.asarray(x, dtype), np.asarray(y, dtype)


class L2Regularizer:
    """L2 regularization, weight decay: loss = λ/2 * sum over all weights of w², λ = weight_decay.

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


# --- sizes and types ----------------------------------------------------------------------------


def output_size(size, window, pad, stride):
    """How often a window fits on `size` pixels: one axis of the output.

    Raises: ValueError if it does not, or an argument is out of range.
    """
    if window < 1 or stride < 1 or pad < 0:
        raise ValueError(
            "expected a window and a stride of at least 1 and a padding of at least 0, "
            f"got window {window}, stride {stride}, padding {pad}"
        )
    if size + 2 * pad < window:
        raise ValueError(
            f"expected an input of at least {window} pixels for a window of {window}, "
            f"got {size} + 2*{pad} of padding: the output would have size zero"
        )
    return (size + 2 * pad - window) // stride + 1


def check_shape(owner, what, array, expected):
    """Raise unless the array has the shape expected, in which a letter stands for any size."""
    shape = tuple(np.shape(array))
    fits = len(shape) == len(expected) and all(
        isinstance(e, str) or e == s for e, s in zip(expected, shape, strict=True)
    )
    if not fits:
        letters = ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "")
        raise ValueError(f"{owner}: expected {what} of shape ({letters}), got {shape}")


def float_type(array):
    """The dtype of an array or a layer where it is float32, float64 in every other case."""
    return np.dtype(np.float32 if getattr(array, "dtype", None) == np.float32 else np.float64)
