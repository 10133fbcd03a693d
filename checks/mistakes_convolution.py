"""Known mistakes in Convolution."""

import numpy as np

from checks import reference
from checks.mistakes import known, pairs, variant

Convolution = reference.Convolution

CONV = "out[n, f, y, x] = bias[f] + sum over c, i, j of w[f, c, i, j] * in[n, c, y+i-p, x+j-p]"
GRAD_X = "dL/din[n, c, y, x] = sum over f, i, j of w[f, c, i, j] * grad_out[n, f, y-i+p, x-j+p]"
GRAD_W = "dL/dw[f, c, i, j] = sum over n, y, x of grad_out[n, f, y, x] * in[n, c, y+i-p, x+j-p]"
GRAD_B = "dL/dbias[f] = sum over n, y, x of grad_out[n, f, y, x]"
ORDER = "im2col: column (y*OW + x)*N + n, so that n varies fastest"


def shifted(array, rows, columns):
    """The images moved by a pixel, zeros coming in."""
    out = np.zeros_like(array)
    H, W = array.shape[2:]
    source = array[:, :, max(0, -rows) : H - max(0, rows), max(0, -columns) : W - max(0, columns)]
    out[:, :, max(0, rows) : H + min(0, rows), max(0, columns) : W + min(0, columns)] = source
    return out


def turned(self):
    """The layer's filters turned by half a turn, in the shape of its weights."""
    return self.filters()[:, :, ::-1, ::-1].reshape(self.weights.shape)


def with_weights(self, weights, method, argument):
    right, self.weights = self.weights, weights
    try:
        return method(self, argument)
    finally:
        self.weights = right


def grad_weights(self, grad_out):
    return Convolution.backward_params(self, grad_out)[0][1]


def grad_bias(self, grad_out):
    return Convolution.backward_params(self, grad_out)[1][1]


@known("Convolution.forward", "the bias is not added", CONV)
def conv_without_bias(self, x):
    return Convolution.forward(self, x) - self.bias[:, np.newaxis, np.newaxis]


@known("Convolution.forward", "the filters are turned", CONV)
def conv_filters_turned(self, x):
    return with_weights(self, turned(self), Convolution.forward, x)


@known("Convolution.forward", "the padding is off by one: the output is moved by a pixel", CONV)
def conv_padding_off_by_one(self, x):
    out = Convolution.forward(self, x)
    padded = np.pad(self.padded(x), ((0, 0), (0, 0), (0, 1), (0, 1)))[:, :, 1:, 1:]
    products = [
        np.einsum("ncyx,fc->nfyx", pixels, self.filters()[:, :, i, j])
        for i, j, pixels in self.windows(padded)
    ]
    assert out.shape == products[0].shape
    return sum(products) + self.bias[:, np.newaxis, np.newaxis]


@variant(conv_padding_off_by_one)
def conv_padding_one_too_many(self, x):
    Convolution.forward(self, x)
    padded = np.pad(self.padded(x), ((0, 0), (0, 0), (1, 0), (1, 0)))[:, :, :-1, :-1]
    products = [
        np.einsum("ncyx,fc->nfyx", pixels, self.filters()[:, :, i, j])
        for i, j, pixels in self.windows(padded)
    ]
    return sum(products) + self.bias[:, np.newaxis, np.newaxis]


@known("Convolution.forward", "the axes of the product are taken in the wrong order", ORDER)
def conv_images_first(self, x):
    out = Convolution.forward(self, x)
    N, F, OH, OW = out.shape
    return out.transpose(1, 2, 3, 0).reshape(F, N, OH, OW).transpose(1, 0, 2, 3)


@variant(conv_images_first)
def conv_not_transposed(self, x):
    out = Convolution.forward(self, x)
    return out.transpose(1, 2, 3, 0).reshape(out.shape)


@known("Convolution.forward", "rows and columns are exchanged in the output", ORDER)
def conv_rows_and_columns(self, x):
    out = Convolution.forward(self, x)
    N, F, OH, OW = out.shape
    return out.transpose(1, 2, 3, 0).reshape(F, OW, OH, N).transpose(3, 0, 2, 1)


@known("Convolution.backward_inputs", "the filters are not turned", GRAD_X)
def conv_grad_filters_not_turned(self, grad_out):
    return with_weights(self, turned(self), Convolution.backward_inputs, grad_out)


@known("Convolution.backward_inputs", "the sign is wrong", GRAD_X)
def conv_grad_sign(self, grad_out):
    return -Convolution.backward_inputs(self, grad_out)


@known("Convolution.backward_inputs", "1/N twice: the loss has divided by N already", GRAD_X)
def conv_grad_averaged(self, grad_out):
    return Convolution.backward_inputs(self, grad_out) / len(grad_out)


@known("Convolution.backward_inputs", "stride or padding is off by one: moved by a pixel", GRAD_X)
def conv_grad_moved(self, grad_out):
    return shifted(Convolution.backward_inputs(self, grad_out), 1, 1)


@variant(conv_grad_moved)
def conv_grad_moved_back(self, grad_out):
    return shifted(Convolution.backward_inputs(self, grad_out), -1, -1)


@variant(conv_grad_moved)
def conv_grad_of_moved(self, grad_out):
    return Convolution.backward_inputs(self, shifted(grad_out, 1, 1))


@variant(conv_grad_moved)
def conv_grad_of_moved_back(self, grad_out):
    return Convolution.backward_inputs(self, shifted(grad_out, -1, -1))


@known("Convolution.backward_inputs", "overlapping windows overwrite each other (= for +=)", GRAD_X)
def conv_grad_overwritten(self, grad_out):
    grad = np.zeros_like(self.padded(self.x))
    for i, j, pixels in self.windows(grad):
        pixels[:] = np.einsum("nfyx,fc->ncyx", grad_out, self.filters()[:, :, i, j])
    (_, _, H, W), p = self.x.shape, self.pad
    return grad[:, :, p : p + H, p : p + W]


@known("Convolution.backward_inputs", "grad_out is brought into rows in the wrong order", ORDER)
def conv_grad_rows_not_transposed(self, grad_out):
    N, F, OH, OW = grad_out.shape
    rows = grad_out.reshape(F, -1).reshape(F, OH, OW, N).transpose(3, 0, 1, 2)
    return Convolution.backward_inputs(self, rows)


@known("Convolution.backward_params", "grad_out is brought into rows in the wrong order", ORDER)
def conv_grad_weights_rows_not_transposed(self, grad_out):
    N, F, OH, OW = grad_out.shape
    rows = grad_out.reshape(F, -1).reshape(F, OH, OW, N).transpose(3, 0, 1, 2)
    return pairs(self, grad_weights(self, rows), grad_bias(self, grad_out))


@known("Convolution.backward_params", "the gradient of the filters is turned", GRAD_W)
def conv_grad_weights_turned(self, grad_out):
    grad = grad_weights(self, grad_out).reshape(self.filters().shape)[:, :, ::-1, ::-1]
    return pairs(self, grad.reshape(self.weights.shape), grad_bias(self, grad_out))


@known("Convolution.backward_params", "the gradient of the filters has the wrong sign", GRAD_W)
def conv_grad_weights_sign(self, grad_out):
    return pairs(self, -grad_weights(self, grad_out), grad_bias(self, grad_out))


@known("Convolution.backward_params", "1/N twice in the filters: the loss has divided", GRAD_W)
def conv_grad_weights_averaged(self, grad_out):
    return pairs(self, grad_weights(self, grad_out) / len(grad_out), grad_bias(self, grad_out))


@known("Convolution.backward_params", "a stale cache: x is that of an earlier forward", GRAD_W)
class ConvGradWeightsOfFirstForward:
    def forward(self, x):
        out = Convolution.forward(self, x)
        self.x = self.kept = getattr(self, "kept", self.x)
        return out


@known("Convolution.backward_params", "the gradient of the bias is not summed over n", GRAD_B)
def conv_grad_bias_not_summed_over_images(self, grad_out):
    return pairs(self, grad_weights(self, grad_out), grad_out.sum(axis=(2, 3)))


@known("Convolution.backward_params", "the gradient of the bias is summed over n only", GRAD_B)
def conv_grad_bias_summed_over_images_only(self, grad_out):
    return pairs(self, grad_weights(self, grad_out), grad_out.sum(axis=0))


@known("Convolution.backward_params", "the gradient of the bias is a mean, not a sum", GRAD_B)
def conv_grad_bias_averaged(self, grad_out):
    return pairs(self, grad_weights(self, grad_out), grad_out.mean(axis=(0, 2, 3)))


@known("Convolution.backward_params", "1/N twice in the bias: the loss has divided", GRAD_B)
def conv_grad_bias_averaged_over_images(self, grad_out):
    return pairs(self, grad_weights(self, grad_out), grad_bias(self, grad_out) / len(grad_out))


@known("Convolution.backward_params", "the gradient of the bias has the wrong sign", GRAD_B)
def conv_grad_bias_sign(self, grad_out):
    return pairs(self, grad_weights(self, grad_out), -grad_bias(self, grad_out))
