"""Layers with the interface of the exercise and nothing more: what a student may put in place of
ours. In double precision, with sliding windows and einsum instead of im2col."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def initial_weights(shape, fan_in, factor=2.0, seed=None):
    return np.random.default_rng(seed).normal(0, np.sqrt(factor / fan_in), shape)


def initial_bias(shape):
    return np.zeros(shape)


class Convolution:
    has_params = True
    stride = 1

    def __init__(
        self,
        input_layer,
        num_filters,
        kernel_size,
        name,
        padding="SAME",
        weights_initializer_fn=initial_weights,
        bias_initializer_fn=initial_bias,
    ):
        self.input_shape = input_layer.shape
        N, C, H, W = input_layer.shape
        assert kernel_size % 2 == 1
        assert padding in ("SAME", "VALID")
        self.C, self.num_filters, self.kernel_size, self.name = C, num_filters, kernel_size, name
        self.pad = (kernel_size - 1) // 2 if padding == "SAME" else 0
        lost = kernel_size - 1 - 2 * self.pad
        self.shape = (N, num_filters, H - lost, W - lost)
        fan_in = C * kernel_size**2
        self.weights = weights_initializer_fn([num_filters, fan_in], fan_in)
        self.bias = bias_initializer_fn([num_filters])

    def filters(self):
        return self.weights.reshape(-1, self.C, self.kernel_size, self.kernel_size)

    def forward(self, x):
        self.x_shape, k, p = x.shape, self.kernel_size, self.pad
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        self.windows = sliding_window_view(padded, (k, k), axis=(2, 3))
        out = np.einsum("ncyxij,fcij->nfyx", self.windows, self.filters(), optimize=True)
        return out + self.bias[None, :, None, None]

    def backward_inputs(self, grad_out):
        (_, _, H, W), k, p = self.x_shape, self.kernel_size, self.pad
        q = k - 1
        padded = np.pad(grad_out, ((0, 0), (0, 0), (q, q), (q, q)))
        windows = sliding_window_view(padded, (k, k), axis=(2, 3))
        turned = self.filters()[:, :, ::-1, ::-1]
        grad = np.einsum("nfyxij,fcij->ncyx", windows, turned, optimize=True)
        return grad[:, :, p : p + H, p : p + W]

    def backward_params(self, grad_out):
        grad = np.einsum("nfyx,ncyxij->fcij", grad_out, self.windows, optimize=True)
        grad = grad.reshape(self.weights.shape)
        return [[self.weights, grad], [self.bias, grad_out.sum(axis=(0, 2, 3))], self.name]


class MaxPooling:
    has_params = False

    def __init__(self, input_layer, name, pool_size=2, stride=2):
        N, C, H, W = self.input_shape = input_layer.shape
        assert pool_size == stride
        assert H % stride == W % stride == 0
        self.name, self.pool_size, self.stride = name, pool_size, stride
        self.shape = (N, C, H // stride, W // stride)

    def forward(self, x):
        k = self.stride
        N, C, H, W = self.x_shape = x.shape
        windows = x.reshape(N, C, H // k, k, W // k, k).transpose(0, 1, 2, 4, 3, 5)
        windows = windows.reshape(N, C, H // k, W // k, k * k)
        self.is_maximum = np.arange(k * k) == windows.argmax(axis=-1)[..., None]
        return windows.max(axis=-1)

    def backward_inputs(self, grad_out):
        k = self.stride
        grad = (self.is_maximum * grad_out[..., None]).reshape(*grad_out.shape, k, k)
        return grad.transpose(0, 1, 2, 4, 3, 5).reshape(self.x_shape)


class Flatten:
    has_params = False

    def __init__(self, input_layer, name):
        self.input_shape, self.name = input_layer.shape, name
        self.N = input_layer.shape[0]
        self.num_outputs = int(np.prod(input_layer.shape[1:]))
        self.shape = (self.N, self.num_outputs)

    def forward(self, x):
        self.x_shape = x.shape
        return x.reshape(len(x), self.num_outputs)

    def backward_inputs(self, grad_out):
        return grad_out.reshape(self.x_shape)


class FC:
    has_params = True

    def __init__(
        self,
        input_layer,
        num_outputs,
        name,
        weights_initializer_fn=initial_weights,
        bias_initializer_fn=initial_bias,
    ):
        self.input_shape, self.name = input_layer.shape, name
        self.N, self.num_inputs = input_layer.shape
        self.num_outputs, self.shape = num_outputs, (self.N, num_outputs)
        shape = [num_outputs, self.num_inputs]
        self.weights = weights_initializer_fn(shape, fan_in=self.num_inputs)
        self.bias = bias_initializer_fn([num_outputs])

    def forward(self, x):
        self.x = x
        return np.einsum("ni,oi->no", x, self.weights) + self.bias

    def backward_inputs(self, grad_out):
        return np.einsum("no,oi->ni", grad_out, self.weights)

    def backward_params(self, grad_out):
        grad = np.einsum("no,ni->oi", grad_out, self.x)
        return [[self.weights, grad], [self.bias, np.sum(grad_out, 0)], self.name]


class ReLU:
    has_params = False

    def __init__(self, input_layer, name):
        self.shape, self.name = input_layer.shape, name

    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward_inputs(self, grad_out):
        return grad_out * self.mask


class SoftmaxCrossEntropyWithLogits:
    has_params = False

    def forward(self, x, y):
        shifted = x - x.max(axis=1, keepdims=True)
        return np.mean(np.log(np.exp(shifted).sum(axis=1)) - (y * shifted).sum(axis=1))

    def backward_inputs(self, x, y):
        exps = np.exp(x - x.max(axis=1, keepdims=True))
        return (exps / exps.sum(axis=1, keepdims=True) - y) / len(x)


class L2Regularizer:
    has_params = True

    def __init__(self, weights, weight_decay, name):
        self.weights, self.weight_decay, self.name = weights, weight_decay, name

    def forward(self):
        return 0.5 * self.weight_decay * np.linalg.norm(self.weights) ** 2

    def backward_params(self):
        return [[self.weights, self.weights * self.weight_decay], self.name]


class RegularizedLoss:
    has_params = True

    def __init__(self, data_loss, regularizer_losses):
        self.data_loss, self.regularizer_losses = data_loss, regularizer_losses

    def forward(self, x, y):
        return self.data_loss.forward(x, y) + sum(r.forward() for r in self.regularizer_losses)

    def backward_inputs(self, x, y):
        return self.data_loss.backward_inputs(x, y)

    def backward_params(self):
        return [r.backward_params() for r in self.regularizer_losses]
