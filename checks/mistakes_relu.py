"""Known mistakes in ReLU."""

import numpy as np

from checks.mistakes import also_right, known, variant

RELU = "out = max(x, 0), element by element"
GRAD = "dL/dx = grad_out where x > 0, else 0"


@known("ReLU.forward", "it takes the absolute value", RELU)
def relu_absolute(self, x):
    self.x = x
    return np.abs(x)


@known("ReLU.forward", "it takes the minimum", RELU)
def relu_minimum(self, x):
    self.x = x
    return np.minimum(x, 0)


@known("ReLU.forward", "negative numbers are made smaller, not 0 (a leaky ReLU)", RELU)
def relu_leaky(self, x):
    self.x = x
    return np.where(x > 0, x, 0.01 * x)


@variant(relu_leaky)
def relu_leaky_by_a_tenth(self, x):
    self.x = x
    return np.where(x > 0, x, 0.1 * x)


@known("ReLU.forward", "it returns the mask x > 0, not the values of x there", RELU)
def relu_returns_the_mask(self, x):
    self.x = x
    return x > 0


@known("ReLU.forward", "the sign is wrong: the negative numbers pass", RELU)
def relu_of_minus_x(self, x):
    self.x = x
    return np.maximum(-x, 0)


@known("ReLU.forward", "integers in between: the fractions are lost", RELU)
def relu_whole_numbers(self, x):
    self.x = x
    return np.maximum(x, 0).astype(int)


@known("ReLU.forward", "everything passes unchanged", RELU)
def relu_identity(self, x):
    self.x = x
    return x.copy()


@known("ReLU.backward_inputs", "the gradient is let through at x < 0, too", GRAD)
def relu_grad_let_through(self, grad_out):
    return grad_out.copy()


@variant(relu_grad_let_through)
class ReluByOutputChangedInPlace:
    def forward(self, x):
        x[x < 0] = 0
        self.kept = x
        return x

    def backward_inputs(self, grad_out):
        return grad_out * (self.kept >= 0)


@known("ReLU.backward_inputs", "it asks for the sign of the gradient, not of x", GRAD)
def relu_by_sign_of_grad(self, grad_out):
    return np.maximum(grad_out, 0)


@known("ReLU.backward_inputs", "it asks for the signs of the gradient and of x", GRAD)
def relu_by_both_signs(self, grad_out):
    return np.where((self.x > 0) & (grad_out > 0), grad_out, 0)


@variant(relu_by_both_signs)
def relu_by_both_signs_and_zero(self, grad_out):
    return np.where((self.x >= 0) & (grad_out > 0), grad_out, 0)


@known("ReLU.backward_inputs", "the condition is turned round: it passes at x < 0", GRAD)
def relu_grad_inverted(self, grad_out):
    return np.where(self.x > 0, 0, grad_out)


@variant(relu_grad_inverted)
def relu_grad_inverted_without_zero(self, grad_out):
    return np.where(self.x < 0, grad_out, 0)


@known("ReLU.backward_inputs", "it is multiplied by the output, not by 1 where x > 0", GRAD)
def relu_grad_times_output(self, grad_out):
    return grad_out * np.maximum(self.x, 0)


@known("ReLU.backward_inputs", "grad_out is missing: it returns where x is positive", GRAD)
def relu_grad_mask_only(self, grad_out):
    return self.x > 0


@variant(relu_grad_mask_only)
def relu_grad_mask_with_zero(self, grad_out):
    return self.x >= 0


@known("ReLU.backward_inputs", "the sign is wrong", GRAD)
def relu_grad_sign(self, grad_out):
    return -np.where(self.x > 0, grad_out, 0)


@variant(relu_grad_sign)
def relu_grad_sign_with_zero(self, grad_out):
    return -np.where(self.x >= 0, grad_out, 0)


@known("ReLU.backward_inputs", "it is multiplied by the sign of x: -1 at x < 0 instead of 0", GRAD)
def relu_grad_by_sign_of_x(self, grad_out):
    return grad_out * np.sign(self.x)


@known("ReLU.backward_inputs", "a stale cache: x is that of an earlier forward", GRAD)
class ReluOfFirstForward:
    def forward(self, x):
        if not hasattr(self, "x"):
            self.x = np.array(x)
        return np.maximum(x, 0)

    def backward_inputs(self, grad_out):
        return np.where(self.x > 0, grad_out, 0)


@also_right("ReLU.backward_inputs")
def at_zero_any_slope_of_either_side(self, grad_out):
    return np.where(self.x >= 0, grad_out, 0)
