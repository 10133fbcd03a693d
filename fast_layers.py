"""The layers of layers.py on the kernels of kernels/: the same classes, several times as fast.

Each class overrides what the kernels do better; sizes, shapes, checks and initial weights are
inherited. What makes the difference:
- convolution without columns: a few outputs stay in registers while pixels and weights stream by;
- four outputs of a 5x5 filter take 36 products, not 4 * 25 (Winograd's way, forward in float32);
- on the way back gradients that are zero are left out, seven of eight behind pooling and ReLU; so
  are the zeros of what a fully connected layer multiplies;
- the images of a batch are shared out among threads, the same way every time: the same bits;
- for the way back pooling keeps the place of each maximum and ReLU a sign, one byte each.
kernels/vector_kernels.h, winograd_kernels.h, sparse_kernels.h and sparse_product_kernels.h have the
innermost loops, with pictures. kernels.set_winograd("never") and kernels.set_skip_zeros("never")
switch the second and the third off.
"""

import support  # says in one line which package is missing

import numpy as np

import kernels
import layers
from kernels.arrays import Contiguous, ContiguousLoss
from layers import L2Regularizer, RegularizedLoss

__all__ = [
    "FC",
    "Convolution",
    "Flatten",
    "L2Regularizer",
    "MaxPooling",
    "ReLU",
    "RegularizedLoss",
    "SoftmaxCrossEntropyWithLogits",
    "sgd_update_params",
]


class Convolution(Contiguous, layers.Convolution):
    __doc__ = layers.Convolution.__doc__

    def forward(self, x):
        self.x = self.checked("x", x, ("N", self.C, "H", "W"))
        weights, bias = self.params()
        out = kernels.conv_forward(self.x, weights, bias, self.kernel_size, self.pad, self.stride)
        self.out_shape = out.shape
        return out

    def backward_inputs(self, grad_out):
        weights, _ = self.params()
        return kernels.conv_backward_inputs(
            self.checked_grad(grad_out),
            weights,
            self.x.shape,
            self.kernel_size,
            self.pad,
            self.stride,
        )

    def backward_params(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        x = np.asarray(self.x, grad_out.dtype)  # weights of another type may have come since
        grad_weights, grad_bias = kernels.conv_backward_params(
            grad_out, x, self.kernel_size, self.pad, self.stride
        )
        return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]


class MaxPooling(Contiguous, layers.MaxPooling):
    __doc__ = layers.MaxPooling.__doc__

    def forward(self, x):
        x = self.checked("x", x, ("N", self.C, "H", "W"))
        place_dtype = np.uint8 if self.pool_size <= 16 else np.intc
        self.x_shape = x.shape
        self.winner = np.empty((*x.shape[:2], *self.output_size(*x.shape[2:])), place_dtype)
        self.out_shape = self.winner.shape
        return kernels.pool_forward(x, self.pool_size, self.stride, self.winner)

    def backward_inputs(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        return kernels.pool_backward(
            grad_out, self.winner, self.x_shape, self.pool_size, self.stride
        )


class Flatten(Contiguous, layers.Flatten):
    __doc__ = layers.Flatten.__doc__

    def forward(self, x):
        x = self.checked("x", x, ("N", *self.input_shape[1:]))
        self.x_shape, self.out_shape = x.shape, (len(x), self.num_outputs)
        return kernels.aligned(x).reshape(self.out_shape)


class ReLU(Contiguous, layers.ReLU):
    __doc__ = layers.ReLU.__doc__

    def forward(self, x):
        x = self.checked("x", x, np.shape(x))
        self.out_shape = x.shape
        out, self.positive = kernels.empty(x.shape, x.dtype), np.empty(x.shape, np.uint8)
        kernels.relu_forward(x.ravel(), out.ravel(), self.positive.ravel())
        return out

    def backward_inputs(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        grad_x = kernels.empty(grad_out.shape, grad_out.dtype)
        kernels.relu_backward(grad_out.ravel(), self.positive.ravel(), grad_x.ravel())
        return grad_x


class FC(Contiguous, layers.FC):
    __doc__ = layers.FC.__doc__

    def forward(self, x):
        self.x = self.checked("x", x, ("N", self.num_inputs))
        weights, bias = self.params()
        self.out_shape = (len(self.x), self.num_outputs)
        out = kernels.matmul(self.x, weights.T)
        out += bias
        return out

    def backward_inputs(self, grad_out):
        weights, _ = self.params()
        return kernels.matmul(self.checked_grad(grad_out), weights)

    def backward_params(self, grad_out):
        grad_out = self.checked_grad(grad_out)
        grad_weights = kernels.matmul(grad_out.T, np.asarray(self.x, grad_out.dtype))
        return [[self.weights, grad_weights], [self.bias, grad_out.sum(axis=0)], self.name]


class SoftmaxCrossEntropyWithLogits(ContiguousLoss, layers.SoftmaxCrossEntropyWithLogits):
    __doc__ = layers.SoftmaxCrossEntropyWithLogits.__doc__

    def forward(self, x, y):
        x, y = self.check(x, y)
        return x.dtype.type(kernels.cross_entropy(x, y))

    def backward_inputs(self, x, y):
        return kernels.cross_entropy_grad(*self.check(x, y))


def sgd_update_params(grads, config):
    """nn.sgd_update_params, parameter -= lr * gradient, on the threads of the kernels."""
    lr = float(config["lr"])
    for *pairs, _name in grads:
        for parameter, grad in pairs:
            alike = parameter.dtype == grad.dtype and parameter.dtype in (np.float32, np.float64)
            if alike and parameter.flags.carray and grad.flags.c_contiguous:
                kernels.add_scaled(parameter, -lr, grad)
            else:
                parameter -= lr * grad
