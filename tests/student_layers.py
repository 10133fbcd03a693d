"""The layers as a student may write them: right, in plain NumPy, the exercise's interface and no
more. Tests plant mistakes in this text and mutate its operators."""

import numpy as np


def initial_weights(shape, fan_in):
    return np.random.default_rng(1).normal(0, np.sqrt(2 / fan_in), shape)


class FC:
    has_params = True

    def __init__(
        self, input_layer, num_outputs, name, weights_initializer_fn=initial_weights,
        bias_initializer_fn=np.zeros,
    ):  # fmt: skip
        self.input_shape, self.name = input_layer.shape, name
        self.N, self.num_inputs = input_layer.shape
        self.num_outputs = num_outputs
        self.shape = (self.N, num_outputs)
        self.weights = weights_initializer_fn([num_outputs, self.num_inputs], self.num_inputs)
        self.bias = bias_initializer_fn([num_outputs])

    def forward(self, inputs):
        self.inputs = inputs
        return inputs @ self.weights.T + self.bias

    def backward_inputs(self, grads):
        return grads @ self.weights

    def backward_params(self, grads):
        grad_weights = grads.T @ self.inputs
        grad_bias = np.sum(grads, axis=0)
        return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]


class ReLU:
    has_params = False

    def __init__(self, input_layer, name):
        self.shape, self.name = input_layer.shape, name

    def forward(self, inputs):
        self.inputs = inputs
        return np.maximum(inputs, 0)

    def backward_inputs(self, grads):
        return grads * (self.inputs > 0)


class SoftmaxCrossEntropyWithLogits:
    has_params = False

    def forward(self, x, y):
        shifted = x - x.max(axis=1, keepdims=True)
        log_sums = np.log(np.sum(np.exp(shifted), axis=1))
        return np.sum(log_sums - np.sum(y * shifted, axis=1)) / x.shape[0]

    def backward_inputs(self, x, y):
        exps = np.exp(x - np.max(x, axis=1, keepdims=True))
        probabilities = exps / np.sum(exps, axis=1, keepdims=True)
        return (probabilities - y) / x.shape[0]


class L2Regularizer:
    has_params = True

    def __init__(self, weights, weight_decay, name):
        self.weights, self.weight_decay, self.name = weights, weight_decay, name

    def forward(self):
        return self.weight_decay / 2 * np.sum(self.weights**2)

    def backward_params(self):
        grad_weights = self.weight_decay * self.weights
        return [[self.weights, grad_weights], self.name]


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


class Flatten:
    has_params = False

    def __init__(self, input_layer, name):
        self.input_shape, self.name = input_layer.shape, name
        self.shape = (input_layer.shape[0], int(np.prod(input_layer.shape[1:])))

    def forward(self, inputs):
        self.x_shape = inputs.shape
        return inputs.reshape(len(inputs), -1)

    def backward_inputs(self, grads):
        return grads.reshape(self.x_shape)


class Convolution:
    has_params = True

    def __init__(
        self, input_layer, num_filters, kernel_size, name, padding="SAME",
        weights_initializer_fn=initial_weights, bias_initializer_fn=np.zeros,
    ):  # fmt: skip
        N, self.C, H, W = input_layer.shape
        assert kernel_size % 2 == 1
        assert padding in ("SAME", "VALID")
        self.k, self.name, self.num_filters = kernel_size, name, num_filters
        self.pad = (kernel_size - 1) // 2 if padding == "SAME" else 0
        lost = kernel_size - 1 - 2 * self.pad
        self.shape = (N, num_filters, H - lost, W - lost)
        fan_in = self.C * kernel_size**2
        self.weights = weights_initializer_fn([num_filters, fan_in], fan_in)
        self.bias = bias_initializer_fn([num_filters])

    def forward(self, x):
        self.x = np.pad(x, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        filters = self.weights.reshape(-1, self.C, self.k, self.k)
        H, W = self.x.shape[2] - self.k + 1, self.x.shape[3] - self.k + 1
        out = np.zeros((x.shape[0], self.num_filters, H, W), x.dtype)
        for i in range(self.k):
            for j in range(self.k):
                pixels = self.x[:, :, i : i + H, j : j + W]
                out += np.einsum("ncyx,fc->nfyx", pixels, filters[:, :, i, j])
        return out + self.bias.reshape(1, -1, 1, 1)

    def backward_inputs(self, grads):
        filters = self.weights.reshape(-1, self.C, self.k, self.k)
        H, W = grads.shape[2], grads.shape[3]
        grad_x = np.zeros(self.x.shape)
        for i in range(self.k):
            for j in range(self.k):
                part = np.einsum("nfyx,fc->ncyx", grads, filters[:, :, i, j])
                grad_x[:, :, i : i + H, j : j + W] += part
        p = self.pad
        return grad_x[:, :, p : grad_x.shape[2] - p, p : grad_x.shape[3] - p]

    def backward_params(self, grads):
        H, W = grads.shape[2], grads.shape[3]
        grad_filters = np.zeros((self.num_filters, self.C, self.k, self.k))
        for i in range(self.k):
            for j in range(self.k):
                pixels = self.x[:, :, i : i + H, j : j + W]
                grad_filters[:, :, i, j] = np.einsum("nfyx,ncyx->fc", grads, pixels)
        grad_weights = grad_filters.reshape(self.weights.shape)
        grad_bias = np.sum(grads, axis=(0, 2, 3))
        return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]


class MaxPooling:
    has_params = False

    def __init__(self, input_layer, name, pool_size=2, stride=2):
        N, C, H, W = input_layer.shape
        self.name, self.size, self.stride = name, pool_size, stride
        self.shape = (N, C, (H - pool_size) // stride + 1, (W - pool_size) // stride + 1)

    def forward(self, x):
        self.x, s = x, self.stride
        rows, columns = (x.shape[2] - self.size) // s + 1, (x.shape[3] - self.size) // s + 1
        out = np.zeros((x.shape[0], x.shape[1], rows, columns), x.dtype)
        self.places = np.zeros(out.shape, int)
        for y, z in np.ndindex(rows, columns):
            window = x[:, :, y * s : y * s + self.size, z * s : z * s + self.size]
            window = window.reshape(x.shape[0], x.shape[1], -1)
            out[:, :, y, z] = window.max(axis=2)
            self.places[:, :, y, z] = window.argmax(axis=2)
        return out

    def backward_inputs(self, grads):
        grad_x = np.zeros(self.x.shape)
        for n, c, y, z in np.ndindex(grads.shape):
            i, j = divmod(self.places[n, c, y, z], self.size)
            grad_x[n, c, y * self.stride + i, z * self.stride + j] += grads[n, c, y, z]
        return grad_x
