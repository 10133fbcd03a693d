"""Known mistakes in L2Regularizer."""

import numpy as np

from checks.mistakes import known, variant

L2 = "loss = λ/2 * sum of weights**2"
GRAD_L2 = "dL/dweights = λ * weights"


def l2(function):
    """The forward that is that function of λ and the weights."""
    return lambda self: function(self.weight_decay, self.weights)


def l2_grad(function):
    return lambda self: [[self.weights, function(self.weight_decay, self.weights)], self.name]


def _register(method, wrap, formula, table):
    for name, sentence, *ways in table:
        made = [wrap(way) for way in ways]
        made[0].__name__ = name
        known(method, sentence, formula)(made[0])
        for way in made[1:]:
            variant(made[0])(way)


_register(
    "L2Regularizer.forward",
    l2,
    L2,
    [
        ("l2_without_half", "the factor 1/2 is missing", lambda c, w: c * np.sum(w**2)),
        ("l2_twice", "the factor is 2, not 1/2", lambda c, w: 2 * c * np.sum(w**2)),
        ("l2_quarter", "1/2 twice", lambda c, w: c / 4 * np.sum(w**2)),
        ("l2_without_lambda", "λ is missing", lambda c, w: np.sum(w**2) / 2,
         lambda c, w: np.sum(w**2)),
        ("l2_lambda_squared", "λ is squared, too", lambda c, w: np.sum((c * w) ** 2) / 2,
         lambda c, w: np.sum((c * w) ** 2)),
        ("l2_not_squared", "the weights are not squared", lambda c, w: c / 2 * np.sum(w),
         lambda c, w: c * np.sum(w)),
        ("l2_square_of_sum", "the sum is squared, not the weights",
         lambda c, w: c / 2 * np.sum(w) ** 2),
        ("l2_absolute_values", "absolute values, not squares (L1)",
         lambda c, w: c / 2 * np.sum(abs(w)), lambda c, w: c * np.sum(abs(w))),
        ("l2_norm", "the norm is not squared", lambda c, w: c / 2 * np.sqrt(np.sum(w**2)),
         lambda c, w: c * np.sqrt(np.sum(w**2))),
        ("l2_all_products", "products of different rows are summed, too, not squares alone",
         lambda c, w: c / 2 * np.sum(w @ w.T), lambda c, w: c * np.sum(w @ w.T)),
        ("l2_mean", "the mean, not the sum", lambda c, w: c / 2 * np.mean(w**2),
         lambda c, w: c * np.mean(w**2)),
        ("l2_sign", "the sign is wrong", lambda c, w: -c / 2 * np.sum(w**2)),
        ("l2_not_summed", "the sum is missing", lambda c, w: c / 2 * w**2),
        ("l2_floored", "integer division: λ // 2 is 0 for a small λ",
         lambda c, w: c // 2 * np.sum(w**2), lambda c, w: c * np.sum(w**2) // 2),
    ],
)  # fmt: skip
_register(
    "L2Regularizer.backward_params",
    l2_grad,
    GRAD_L2,
    [
        ("l2_grad_half", "1/2 too much: the square gives a factor 2", lambda c, w: c / 2 * w),
        ("l2_grad_twice", "the factor 2 has no 1/2 to cancel it", lambda c, w: 2 * c * w),
        ("l2_grad_without_lambda", "λ is missing", lambda c, w: w.copy()),
        ("l2_grad_zero", "it is the gradient of the data loss only: that of L2 is missing",
         lambda c, w: np.zeros_like(w)),
        ("l2_grad_sign", "the sign is wrong", lambda c, w: -c * w),
        ("l2_grad_summed", "it is summed: expected a number for each weight",
         lambda c, w: c * np.sum(w)),
        ("l2_grad_of_loss", "it is the loss, not its gradient", lambda c, w: c / 2 * np.sum(w**2)),
        ("l2_grad_squared", "the square is not differentiated", lambda c, w: c / 2 * w**2,
         lambda c, w: c * w**2),
        ("l2_grad_of_absolute_values", "sign(w), not w (the gradient of L1)",
         lambda c, w: c * np.sign(w)),
        ("l2_grad_of_norm", "it is the gradient of the norm, not of its square",
         lambda c, w: c * w / np.sqrt(np.sum(w**2)),
         lambda c, w: c / 2 * w / np.sqrt(np.sum(w**2))),
        ("l2_grad_mean", "divided by the number of weights", lambda c, w: c * w / w.size),
        ("l2_grad_averaged", "divided by the number of rows", lambda c, w: c * w / len(w)),
        ("l2_grad_lambda_only", "the weights are missing", lambda c, w: c * np.ones_like(w)),
        ("l2_grad_floored", "integer division: the fraction is lost", lambda c, w: c * w // 1),
        ("l2_step_included", "the gradient is subtracted from the weights already",
         lambda c, w: w - c * w),
    ],
)  # fmt: skip


@known("L2Regularizer.forward", "it keeps weights that have since been changed", L2)
def l2_of_old_weights(self):
    self.kept = getattr(self, "kept", self.weights.copy())
    return self.weight_decay / 2 * np.sum(self.kept**2)


@known("L2Regularizer.backward_params", "it keeps weights that have since been changed", GRAD_L2)
def l2_grad_of_old_weights(self):
    self.kept = getattr(self, "kept", self.weights.copy())
    return [[self.weights, self.weight_decay * self.kept], self.name]
