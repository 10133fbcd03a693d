"""Known mistakes in SoftmaxCrossEntropyWithLogits."""

import numpy as np

from checks.mistakes import known, variant

SOFTMAX = "softmax(x[n])[k] = exp(x[n, k]) / sum over j of exp(x[n, j])"
LOSS = "loss = mean over n of -sum over k of y[n, k] * log(softmax(x[n])[k])"
STABLE = "log(softmax(x)[k]) = x[k] - m - log(sum over j of exp(x[j] - m)), m = max(x)"
GRAD = "dL/dx[n, k] = (softmax(x[n])[k] - y[n, k]) / N"
FORWARD = "SoftmaxCrossEntropyWithLogits.forward"
BACKWARD = "SoftmaxCrossEntropyWithLogits.backward_inputs"
EPSILONS = [1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-14, 1e-15, 1e-16, 1e-20, 1e-300]


def softmax(x, axis=1):
    exps = np.exp(x - x.max(axis=axis, keepdims=True))
    return exps / exps.sum(axis=axis, keepdims=True)


def plain_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def of_right_class(array, y):
    return array[np.arange(len(y)), y.argmax(axis=1)]


@known(FORWARD, "1/N is missing: the sum over the batch, not the mean", LOSS)
def loss_summed(self, x, y):
    return -np.sum(y * self.log_probabilities(x))


@known(FORWARD, "the mean is taken over the classes, too", LOSS)
def loss_averaged_over_classes(self, x, y):
    return -np.mean(y * self.log_probabilities(x))


@known(FORWARD, "1/N twice", LOSS)
def loss_averaged_twice(self, x, y):
    return -np.mean(np.sum(y * self.log_probabilities(x), axis=1)) / len(x)


@known(FORWARD, "the minus is missing", LOSS)
def loss_without_minus(self, x, y):
    return np.mean(np.sum(y * self.log_probabilities(x), axis=1))


@known(FORWARD, "the mean over the batch is missing: a loss for each image", LOSS)
def loss_of_each_image(self, x, y):
    return -np.sum(y * self.log_probabilities(x), axis=1)


@known(FORWARD, "the logarithm is missing: y times softmax", LOSS)
def loss_without_logarithm(self, x, y):
    return -np.mean(np.sum(y * softmax(x), axis=1))


@variant(loss_without_logarithm)
def loss_without_logarithm_and_minus(self, x, y):
    return np.mean(np.sum(y * softmax(x), axis=1))


@known(FORWARD, "the softmax is missing", LOSS)
def loss_of_logits(self, x, y):
    return -np.mean(np.sum(y * x, axis=1))


@known(FORWARD, "the softmax runs over the images, not over the classes (axis 0 for 1)", SOFTMAX)
def loss_softmax_wrong_axis(self, x, y):
    return -np.mean(np.sum(y * np.log(softmax(x, axis=0)), axis=1))


@variant(loss_softmax_wrong_axis)
def loss_sum_wrong_axis(self, x, y):
    x = x - x.max(axis=0)
    return -np.mean(np.sum(y * (x - np.log(np.exp(x).sum(axis=0))), axis=1))


@known(FORWARD, "the maximum is subtracted in the numerator, not in the sum below it", SOFTMAX)
def loss_maximum_on_one_side(self, x, y):
    shifted = x - x.max(axis=1, keepdims=True)
    return -np.mean(np.sum(y * (shifted - np.log(np.exp(x).sum(axis=1, keepdims=True))), axis=1))


@known(FORWARD, "the logarithm is of another base", LOSS)
def loss_of_another_base(self, x, y):
    return -np.mean(np.sum(y * self.log_probabilities(x), axis=1)) / np.log(2)


@variant(loss_of_another_base)
def loss_of_base_ten(self, x, y):
    return -np.mean(np.sum(y * self.log_probabilities(x), axis=1)) / np.log(10)


@known(FORWARD, "each class counts as a yes or no of its own (binary cross-entropy)", LOSS)
def loss_binary(self, x, y):
    p = softmax(x)
    return -np.mean(np.sum(y * np.log(p) + (1 - y) * np.log(1 - p), axis=1))


@known(FORWARD, "integer division: the fraction is lost", LOSS)
def loss_floored(self, x, y):
    return -np.sum(y * self.log_probabilities(x)) // len(x)


@variant(loss_floored)
def loss_floored_otherwise(self, x, y):
    return -(np.sum(y * self.log_probabilities(x)) // len(x))


@known(FORWARD, "softmax without the maximum: exp(1000) is infinite", STABLE)
def loss_without_maximum(self, x, y):
    return -np.mean(np.sum(y * np.log(plain_softmax(x)), axis=1))


@variant(loss_without_maximum)
def loss_without_maximum_of_right_class(self, x, y):
    return -np.mean(np.log(of_right_class(plain_softmax(x), y)))


@variant(loss_without_maximum)
def loss_without_maximum_summed_logarithms(self, x, y):
    return np.mean(np.log(np.exp(x).sum(axis=1)) - of_right_class(x, y))


@variant(loss_without_maximum)
def loss_without_maximum_in_the_difference(self, x, y):
    return -np.mean(np.sum(y * (x - np.log(np.exp(x).sum(axis=1, keepdims=True))), axis=1))


@known(FORWARD, "log of 0: a softmax may be as small as that", STABLE)
def loss_log_of_zero(self, x, y):
    return -np.mean(np.sum(y * np.log(softmax(x)), axis=1))


@variant(loss_log_of_zero)
def loss_log_of_zero_in_right_class(self, x, y):
    return -np.mean(np.log(of_right_class(softmax(x), y)))


@variant(loss_log_of_zero)
def loss_log_of_zero_after_the_sum(self, x, y):
    return -np.mean(np.log(np.sum(y * softmax(x), axis=1)))


@known(FORWARD, "the maximum is that of the whole batch: a row far below it underflows", STABLE)
def loss_maximum_of_batch(self, x, y):
    return -np.mean(np.sum(y * np.log(plain_softmax(x - x.max())), axis=1))


@variant(loss_maximum_of_batch)
def loss_maximum_of_batch_of_right_class(self, x, y):
    return -np.mean(np.log(of_right_class(plain_softmax(x - x.max()), y)))


@variant(loss_maximum_of_batch)
def loss_maximum_of_batch_summed_logarithms(self, x, y):
    x = x - x.max()
    return np.mean(np.log(np.exp(x).sum(axis=1)) - of_right_class(x, y))


@known(FORWARD, "a small number is added in the logarithm, or bounds it: losses cannot be large",
       STABLE)  # fmt: skip
def loss_with_epsilon(self, x, y):
    return -np.mean(np.sum(y * np.log(softmax(x) + 1e-6), axis=1))


for epsilon in EPSILONS:

    def added(self, x, y, epsilon=epsilon):
        return -np.mean(np.sum(y * np.log(softmax(x) + epsilon), axis=1))

    def added_after_the_sum(self, x, y, epsilon=epsilon):
        return -np.mean(np.log(of_right_class(softmax(x), y) + epsilon))

    def clipped(self, x, y, epsilon=epsilon):
        return -np.mean(np.sum(y * np.log(np.clip(softmax(x), epsilon, 1)), axis=1))

    def clipped_on_both_sides(self, x, y, epsilon=epsilon):
        return -np.mean(np.sum(y * np.log(np.clip(softmax(x), epsilon, 1 - epsilon)), axis=1))

    for made in (added, added_after_the_sum, clipped, clipped_on_both_sides):
        variant(loss_with_epsilon)(made)


@known(BACKWARD, "1/N is missing: the loss is a mean over the batch", GRAD)
def grad_not_averaged(self, x, y):
    return softmax(x) - y


@known(BACKWARD, "1/N twice", GRAD)
def grad_averaged_twice(self, x, y):
    return (softmax(x) - y) / len(x) ** 2


@known(BACKWARD, "the sign is wrong: y - softmax", GRAD)
def grad_sign(self, x, y):
    return (y - softmax(x)) / len(x)


@known(BACKWARD, "y is not subtracted", GRAD)
def grad_without_y(self, x, y):
    return softmax(x) / len(x)


@known(BACKWARD, "y is added, not subtracted", GRAD)
def grad_y_added(self, x, y):
    return (softmax(x) + y) / len(x)


@known(BACKWARD, "y times softmax, where a minus belongs", GRAD)
def grad_y_times_softmax(self, x, y):
    return y * softmax(x) / len(x)


@variant(grad_y_times_softmax)
def grad_minus_y_times_softmax(self, x, y):
    return -y * softmax(x) / len(x)


@known(BACKWARD, "only the right class has a gradient", GRAD)
def grad_of_right_class_only(self, x, y):
    return y * (softmax(x) - y) / len(x)


@known(BACKWARD, "the softmax runs over the images, not over the classes (axis 0 for 1)", SOFTMAX)
def grad_softmax_wrong_axis(self, x, y):
    return (softmax(x, axis=0) - y) / len(x)


@known(BACKWARD, "divided by the number of classes, not of images", GRAD)
def grad_divided_by_classes(self, x, y):
    return (softmax(x) - y) / x.shape[1]


@known(BACKWARD, "divided by the number of elements, not of images", GRAD)
def grad_divided_by_size(self, x, y):
    return (softmax(x) - y) / x.size


@known(BACKWARD, "only softmax is divided by N", GRAD)
def grad_y_not_averaged(self, x, y):
    return softmax(x) / len(x) - y


@known(BACKWARD, "only y is divided by N", GRAD)
def grad_softmax_not_averaged(self, x, y):
    return softmax(x) - y / len(x)


@known(BACKWARD, "the gradient is that of the probabilities, not of the logits", GRAD)
def grad_of_probabilities(self, x, y):
    return -y / softmax(x) / len(x)


@known(BACKWARD, "the softmax is missing", GRAD)
def grad_of_logits(self, x, y):
    return (x - y) / len(x)


@known(BACKWARD, "integer division: the fraction is lost", GRAD)
def grad_floored(self, x, y):
    return (softmax(x) - y) // len(x)


@known(BACKWARD, "softmax without the maximum: exp(1000) is infinite", STABLE)
def grad_without_maximum(self, x, y):
    return (plain_softmax(x) - y) / len(x)


@known(BACKWARD, "the maximum is that of the whole batch: a row far below it underflows", STABLE)
def grad_maximum_of_batch(self, x, y):
    return (plain_softmax(x - x.max()) - y) / len(x)


@known(BACKWARD, "a stale cache: the softmax is that of an earlier forward", GRAD)
class GradOfFirstForward:
    def forward(self, x, y):
        if not hasattr(self, "kept"):
            self.kept = softmax(x)
        return 0.0

    def backward_inputs(self, x, y):
        return (self.kept - y) / len(x)
