"""The layers once more, by plain formulas in float64: what the checks hold to be right.

Slow and obvious, and of no other module's code. Its gradients are compared with numeric ones by
tests/test_checks.py. Holds the solutions: not for hand-outs.
"""

import numpy as np


class _Layer:
    has_params = False

    def __init__(self, input_layer, name):
        self.input_shape, self.name = tuple(input_layer.shape), name
        self.shape = self.input_shape

    def parameters(self, shape, weights_initializer_fn, bias_initializer_fn):
        self.weights = weights_initializer_fn(list(shape), fan_in=shape[1])
        self.bias = bias_initializer_fn([shape[0]])


class FC(_Layer):
    has_params = True

    def __init__(
        self, input_layer, num_outputs, name, weights_initializer_fn, bias_initializer_fn=np.zeros
    ):
        super().__init__(input_layer, name)
        self.shape = (self.input_shape[0], num_outputs)
        shape = (num_outputs, self.input_shape[1])
        self.parameters(shape, weights_initializer_fn, bias_initializer_fn)

    def forward(self, x):
        self.x = np.asarray(x, np.float64)
        return np.einsum("ni,oi->no", self.x, self.weights) + self.bias

    def backward_inputs(self, grad_out):
        return np.einsum("no,oi->ni", np.asarray(grad_out, np.float64), self.weights)

    def backward_params(self, grad_out):
        grad_out = np.asarray(grad_out, np.float64)
        grad_weights = np.einsum("no,ni->oi", grad_out, self.x)
        return [[self.weights, grad_weights], [self.bias, np.einsum("no->o", grad_out)], self.name]


class ReLU(_Layer):
    def forward(self, x):
        self.x = np.asarray(x, np.float64)
        return np.where(self.x > 0, self.x, 0.0)

    def backward_inputs(self, grad_out):
        return np.where(self.x > 0, np.asarray(grad_out, np.float64), 0.0)


class SoftmaxCrossEntropyWithLogits:
    def log_probabilities(self, x):
        x = np.asarray(x, np.float64)
        x = x - np.max(x, axis=1, keepdims=True)
        return x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))

    def forward(self, x, y):
        return np.sum(-self.log_probabilities(x) * np.asarray(y, np.float64)) / len(x)

    def backward_inputs(self, x, y):
        return (np.exp(self.log_probabilities(x)) - np.asarray(y, np.float64)) / len(x)


class L2Regularizer:
    def __init__(self, weights, weight_decay, name):
        self.weights, self.weight_decay, self.name = weights, weight_decay, name

    def forward(self):
        weights = np.asarray(self.weights, np.float64)
        return self.weight_decay / 2 * np.sum(weights * weights)

    def backward_params(self):
        return [[self.weights, self.weight_decay * np.asarray(self.weights, np.float64)], self.name]


class Convolution(_Layer):
    has_params = True

    def __init__(
        self,
        input_layer,
        num_filters,
        kernel_size,
        name,
        padding="SAME",
        weights_initializer_fn=None,
        bias_initializer_fn=np.zeros,
        stride=1,
    ):
        super().__init__(input_layer, name)
        self.k, self.stride = kernel_size, stride
        self.pad = {"SAME": kernel_size // 2, "VALID": 0}.get(padding, padding)
        shape = (num_filters, self.input_shape[1] * kernel_size**2)
        self.parameters(shape, weights_initializer_fn, bias_initializer_fn)

    def filters(self):
        return self.weights.reshape(len(self.weights), -1, self.k, self.k)

    def windows(self, padded):
        """For each place in a filter, the pixels of padded that it meets, as a view."""
        OH, OW = ((n - self.k) // self.stride + 1 for n in padded.shape[2:])
        for i, j in np.ndindex(self.k, self.k):
            rows = slice(i, i + self.stride * (OH - 1) + 1, self.stride)
            columns = slice(j, j + self.stride * (OW - 1) + 1, self.stride)
            yield i, j, padded[:, :, rows, columns]

    def padded(self, x):
        p = self.pad
        return np.pad(np.asarray(x, np.float64), ((0, 0), (0, 0), (p, p), (p, p)))

    def forward(self, x):
        self.x = np.asarray(x, np.float64)
        products = [
            np.einsum("ncyx,fc->nfyx", pixels, self.filters()[:, :, i, j])
            for i, j, pixels in self.windows(self.padded(x))
        ]
        return sum(products) + self.bias[:, np.newaxis, np.newaxis]

    def backward_inputs(self, grad_out):
        grad = np.zeros_like(self.padded(self.x))
        for i, j, pixels in self.windows(grad):
            pixels += np.einsum("nfyx,fc->ncyx", grad_out, self.filters()[:, :, i, j])
        (_, _, H, W), p = self.x.shape, self.pad
        return grad[:, :, p : p + H, p : p + W]

    def backward_params(self, grad_out):
        grad = np.zeros(self.filters().shape)
        for i, j, pixels in self.windows(self.padded(self.x)):
            grad[:, :, i, j] = np.einsum("nfyx,ncyx->fc", grad_out, pixels)
        grad_bias = np.einsum("nfyx->f", np.asarray(grad_out, np.float64))
        return [[self.weights, grad.reshape(self.weights.shape)], [self.bias, grad_bias], self.name]


class MaxPooling(_Layer):
    def __init__(self, input_layer, name, pool_size=2, stride=2):
        super().__init__(input_layer, name)
        self.k, self.stride = pool_size, stride

    windows = Convolution.windows

    def forward(self, x):
        self.x = np.asarray(x, np.float64)
        pixels = np.stack([pixels for _, _, pixels in self.windows(self.x)])
        self.out, self.winner = np.max(pixels, axis=0), np.argmax(pixels, axis=0)
        return self.out.copy()

    def backward_inputs(self, grad_out):
        grad = np.zeros_like(self.x)
        for i, j, pixels in self.windows(grad):
            pixels += np.where(self.winner == i * self.k + j, grad_out, 0.0)
        return grad
