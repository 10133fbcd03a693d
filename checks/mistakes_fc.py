"""Known mistakes in FC."""

import numpy as np

from checks.mistakes import known, pairs, variant

OUT = "out[n, o] = sum over i of weights[o, i] * x[n, i] + bias[o]"
GRAD_X = "dL/dx[n, i] = sum over o of grad_out[n, o] * weights[o, i]"
GRAD_W = "dL/dweights[o, i] = sum over n of grad_out[n, o] * x[n, i]"
GRAD_B = "dL/dbias[o] = sum over n of grad_out[n, o]"


class KeepsFirst:
    """Keeps x of the first forward only."""

    def forward(self, x):
        if not hasattr(self, "x"):
            self.x = np.array(x)
        return np.array(x) @ self.weights.T + self.bias


@known("FC.forward", "the bias is not added", OUT)
def fc_without_bias(self, x):
    self.x = x
    return x @ self.weights.T


@known("FC.forward", "the bias is subtracted", OUT)
def fc_bias_subtracted(self, x):
    self.x = x
    return x @ self.weights.T - self.bias


@known("FC.forward", "the product is transposed: weights has one row an output", OUT)
def fc_product_transposed(self, x):
    self.x = x
    return x @ self.weights + self.bias


@known("FC.forward", "the mean is taken over the inputs, not the sum", OUT)
def fc_product_averaged(self, x):
    self.x = x
    return x @ self.weights.T / x.shape[1] + self.bias


@known("FC.forward", "it keeps weights that have since been changed: read self.weights anew", OUT)
def fc_forward_with_old_weights(self, x):
    self.x = x
    if not hasattr(self, "kept"):
        self.kept = self.weights.copy(), self.bias.copy()
    weights, bias = self.kept
    return x @ weights.T + bias


@variant(fc_forward_with_old_weights)
def fc_forward_with_first_arrays(self, x):
    self.x = x
    if not hasattr(self, "kept"):
        self.kept = self.weights, self.bias  # changes in place are seen, others not
    weights, bias = self.kept
    return x @ weights.T + bias


@known("FC.backward_inputs", "the product is transposed: weights has one row an output", GRAD_X)
def fc_grad_x_transposed(self, grad_out):
    return grad_out @ self.weights.T


@known("FC.backward_inputs", "the sign is wrong", GRAD_X)
def fc_grad_x_sign(self, grad_out):
    return -grad_out @ self.weights


@known("FC.backward_inputs", "1/N twice: the loss has divided by N already", GRAD_X)
def fc_grad_x_averaged(self, grad_out):
    return grad_out @ self.weights / len(grad_out)


@known("FC.backward_inputs", "it is multiplied by x, which belongs to the weights", GRAD_X)
def fc_grad_x_times_x(self, grad_out):
    return grad_out @ self.weights * self.x


@known("FC.backward_inputs", "it keeps weights that have since been changed", GRAD_X)
class FcGradXWithOldWeights:
    def forward(self, x):
        if not hasattr(self, "kept"):
            self.kept = self.weights.copy()
        return x @ self.weights.T + self.bias

    def backward_inputs(self, grad_out):
        return grad_out @ self.kept


@known("FC.backward_params", "the product is transposed: weights has one row an output", GRAD_W)
def fc_grad_weights_transposed(self, grad_out):
    return pairs(self, self.x.T @ grad_out, grad_out.sum(axis=0))


@known("FC.backward_params", "the gradient of the weights has the wrong sign", GRAD_W)
def fc_grad_weights_sign(self, grad_out):
    return pairs(self, -grad_out.T @ self.x, grad_out.sum(axis=0))


@known("FC.backward_params", "1/N twice in the weights: the loss has divided by N already", GRAD_W)
def fc_grad_weights_averaged(self, grad_out):
    return pairs(self, grad_out.T @ self.x / len(grad_out), grad_out.sum(axis=0))


@known("FC.backward_params", "sums of grad_out and x are multiplied, not products summed", GRAD_W)
def fc_grad_weights_of_sums(self, grad_out):
    return pairs(self, np.outer(grad_out.sum(axis=0), self.x.sum(axis=0)), grad_out.sum(axis=0))


@known("FC.backward_params", "a stale cache: x is that of an earlier forward", GRAD_W)
class FcGradWeightsOfFirstForward:
    forward = KeepsFirst.forward

    def backward_params(self, grad_out):
        return pairs(self, grad_out.T @ self.x, grad_out.sum(axis=0))


@known("FC.backward_params", "the gradient of the weights adds up from call to call", GRAD_W)
def fc_grad_weights_added_up(self, grad_out):
    self.total = getattr(self, "total", 0) + grad_out.T @ self.x
    return pairs(self, self.total.copy(), grad_out.sum(axis=0))


@known("FC.backward_params", "the gradient of the bias is not summed over the batch", GRAD_B)
def fc_grad_bias_not_summed(self, grad_out):
    return pairs(self, grad_out.T @ self.x, grad_out)


@known("FC.backward_params", "the gradient of the bias is summed over the wrong axis", GRAD_B)
def fc_grad_bias_wrong_axis(self, grad_out):
    return pairs(self, grad_out.T @ self.x, grad_out.sum(axis=1))


@known("FC.backward_params", "the gradient of the bias is summed over everything", GRAD_B)
def fc_grad_bias_one_number(self, grad_out):
    return pairs(self, grad_out.T @ self.x, grad_out.sum())


@known("FC.backward_params", "1/N twice in the bias: the loss has divided by N already", GRAD_B)
def fc_grad_bias_averaged(self, grad_out):
    return pairs(self, grad_out.T @ self.x, grad_out.mean(axis=0))


@known("FC.backward_params", "the gradient of the bias has the wrong sign", GRAD_B)
def fc_grad_bias_sign(self, grad_out):
    return pairs(self, grad_out.T @ self.x, -grad_out.sum(axis=0))


@known("FC.backward_params", "the gradient of the bias has an axis too many (keepdims)", GRAD_B)
def fc_grad_bias_keepdims(self, grad_out):
    return pairs(self, grad_out.T @ self.x, grad_out.sum(axis=0, keepdims=True))


@known("FC.backward_params", "the gradient of the bias adds up from call to call", GRAD_B)
def fc_grad_bias_added_up(self, grad_out):
    self.total = getattr(self, "total", 0) + grad_out.sum(axis=0)
    return pairs(self, grad_out.T @ self.x, self.total.copy())
