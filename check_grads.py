"""Task 1: check every method of the layers, and compare their gradients with numeric ones.

    python3 check_grads.py                          # exit status 0 if all is right, else 1
    python3 check_grads.py --layers my_layers.py    # a file of your own
    python3 check_grads.py --only FC                # or FC.forward, and what it prints
    python3 check_grads.py --task 3                 # the scripts in PyTorch; 4, bonus

First the methods that the lab asks for: to do, pass, or FAIL and why, by what they return in many
situations (checks/). Then the gradients of all layers whose methods pass; the table goes into
out/check_grads/gradients.csv, too, and what it took into results.json.

Numeric gradient: every element is moved by STEP to both sides, (f(x + h) - f(x - h)) / 2h, in
float64. Relative error: |analytic - numeric| / max(|analytic|, |numeric|, FLOOR * the tensor's
largest gradient), so that rounding in a gradient that is nearly zero does not count as an error.
Inputs are kept away from the kinks of ReLU and the ties of max pooling, where there is no gradient.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import support  # says in one line which package is missing
from support.errors import one_line_errors
from support.options import CheckedOptions, folder_option, option, parse

import numpy as np

import nn
from checks import gradient_table, session, timing
from checks.calls import quietly
from checks.judge import PASS, report

STEP = 1e-5  # h: the formula is off by about h**2, rounding in float64 by about 1e-16 / h
TOLERANCE = 1e-5  # largest relative error that passes, the lab's own
FLOOR = 1e-3  # gradients below this share of the tensor's largest are measured against that
MARGIN = 1e-3  # distance of inputs from kinks and ties; STEP never crosses it
LAB_PARAMETERS = 821_706  # of the network in train.py
LAB_STEPS = 8 * 1_100  # of its training: 8 epochs of 55,000 images, 50 at a time


@dataclass(kw_only=True)
class Config(CheckedOptions):
    save_dir: str = folder_option("SAVE_DIR", "out", "folder that gets check_grads/")
    layers: str = option("layers", "module with the layers, or a file, my_layers.py")
    only: str = option("", "check one class, FC, or one method, FC.forward; not with --task")
    task: str = option("", "check a script in PyTorch instead", choices=("", "3", "4", "bonus"))


class Result(NamedTuple):
    """The worst index of one tensor: its relative error and both gradients there."""

    name: str
    error: float
    index: tuple
    analytic: float
    numeric: float


def numeric_gradient(f, x):
    """The gradient of the scalar f() with respect to every element of x, which f reads."""
    grad = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + STEP
        above = f()
        x[index] = value - STEP
        below = f()
        x[index] = value
        grad[index] = (above - below) / (2 * STEP)
    return grad


def compare(name, analytic, numeric):
    """The Result for two gradients of one shape."""
    scale = np.fmax(np.abs(analytic), np.abs(numeric))  # fmax ignores a nan
    scale = np.fmax(scale, max(FLOOR * np.fmax.reduce(scale, None), np.finfo(float).tiny))
    errors = np.abs(analytic - numeric) / scale
    errors[np.isnan(errors)] = np.inf
    index = np.unravel_index(np.argmax(errors), errors.shape)
    index = tuple(map(int, index))
    return Result(name, float(errors[index]), index, float(analytic[index]), float(numeric[index]))


def check_layer(name, layer, x, rng):
    """Check inputs and parameters of a layer, for the loss f = sum(forward(x) * grad_out).

    grad_out: random numbers. They are the gradient of this f with respect to the output, of which
    the layer must make the gradients with respect to x, weights and bias.
    """
    grad_out = rng.standard_normal(layer.forward(x).shape)

    def f():
        return np.sum(layer.forward(x) * grad_out)

    analytic = {"x": layer.backward_inputs(grad_out)}
    tensors = {"x": x}
    if layer.has_params:
        (_, grad_weights), (_, grad_bias), _name = layer.backward_params(grad_out)
        analytic |= {"weights": grad_weights, "bias": grad_bias}
        tensors |= {"weights": layer.weights, "bias": layer.bias}
    return [
        compare(f"{name}: {key}", analytic[key], numeric_gradient(f, tensor))
        for key, tensor in tensors.items()
    ]


def check_losses(layers, rng, right):
    """Check the losses, and the regularizer alone and within RegularizedLoss."""
    logits, y = rng.standard_normal((4, 5)), np.eye(5)[rng.integers(5, size=4)]
    weights = rng.standard_normal((3, 4))
    cases = []  # name, gradient, the function it is of, where
    if "SoftmaxCrossEntropyWithLogits" in right:
        loss = layers.SoftmaxCrossEntropyWithLogits()
        loss.forward(logits, y)
        grad = loss.backward_inputs(logits, y)
        name = "SoftmaxCrossEntropyWithLogits: x"
        cases.append((name, grad, lambda: loss.forward(logits, y), logits))
    if "L2Regularizer" in right:
        regularizer = layers.L2Regularizer(weights, 0.3, "l2")
        [(_, grad), _name] = regularizer.backward_params()
        cases.append(("L2Regularizer: weights", grad, regularizer.forward, weights))
    if len(cases) == 2 and "RegularizedLoss" in right:
        total = layers.RegularizedLoss(loss, [regularizer])

        def f():
            return total.forward(logits, y)

        f()
        [[(_, grad), _name]] = total.backward_params()
        cases.append(("RegularizedLoss: x", total.backward_inputs(logits, y), f, logits))
        cases.append(("RegularizedLoss: weights", grad, f, weights))
    return [compare(name, grad, numeric_gradient(f, x)) for name, grad, f, x in cases]


def layer_cases(layers, rng, right, left_out):
    """(name, layer, x) for each kind of layer that is right, and each geometry that it offers."""
    cases = []

    def add(name, title, x, *args, **options):
        if name in right:
            kind = getattr(layers, name)
            title = f"{name} {title}".strip()
            layer = session.built(left_out, title, kind, x, *args, **options)
            cases.extend([(title, layer, x)] if layer else [])

    initial = he_normal(rng)
    for title, shape, filters, kernel, options in (
        ("3x3 SAME", (2, 3, 5, 5), 2, 3, {}),
        ("3x3 SAME, 4x7", (2, 2, 4, 7), 3, 3, {}),
        ("5x5 SAME, batch 1", (1, 1, 6, 5), 2, 5, {}),
        ("3x3 VALID", (2, 2, 5, 6), 2, 3, {"padding": "VALID"}),
        ("3x3 stride 2", (2, 2, 7, 6), 2, 3, {"stride": 2}),
        ("2x2 padding 1, stride 3", (2, 1, 6, 7), 2, 2, {"padding": 1, "stride": 3}),
    ):
        x = rng.standard_normal(shape)
        options["weights_initializer_fn"] = initial
        add("Convolution", title, x, filters, kernel, "conv", **options)
    for title, shape, size, stride in (
        ("2x2", (2, 2, 4, 4), 2, 2),
        ("2x2, 5x7", (2, 2, 5, 7), 2, 2),
        ("3x3 stride 2, batch 1", (1, 3, 7, 6), 3, 2),
        ("2x2 stride 3", (2, 1, 8, 6), 2, 3),
    ):
        x = rng.permutation(np.prod(shape)).reshape(shape) * 0.01  # no two alike
        add("MaxPooling", title, x, "pool", size, stride)
    x = rng.standard_normal((3, 2, 4, 5))
    add("ReLU", "", x + np.copysign(0.1, x), "relu")  # away from the kink
    add("Flatten", "", rng.standard_normal((3, 2, 4, 5)), "flatten")
    for title, batch in (("", 4), ("batch 1", 1)):
        x = rng.standard_normal((batch, 6))
        add("FC", title, x, 5, "fc", weights_initializer_fn=initial)
    return cases


def he_normal(rng):
    """Initial weights from rng, for layers that take no generator."""
    return lambda shape, fan_in: np.sqrt(2 / fan_in) * rng.standard_normal(shape)


def small_network(layers, rng):
    """A network of every kind of layer and a regularized loss for it, with x and y; no input of a
    ReLU or a max pooling is nearer than MARGIN to a kink or a tie."""
    initial = {"weights_initializer_fn": he_normal(rng)}
    while True:
        x, y = rng.standard_normal((2, 1, 8, 8)), np.eye(3)[rng.integers(3, size=2)]
        net = [layers.Convolution(x, 3, 3, "conv1", **initial)]
        net += [layers.MaxPooling(net[-1], "pool1")]
        net += [layers.ReLU(net[-1], "relu1")]
        net += [layers.Convolution(net[-1], 4, 3, "conv2", **initial)]
        net += [layers.ReLU(net[-1], "relu2")]
        net += [layers.Flatten(net[-1], "flatten3")]
        net += [layers.FC(net[-1], 3, "logits", **initial)]
        conv = net[0]
        # (N, C, OH, OW, 2, 2), the windows of pool1
        windows = conv.forward(x).reshape(2, 3, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5)
        second, first = np.sort(windows.reshape(-1, 4), axis=1)[:, -2:].T
        inputs = [nn.forward_pass(net[:i], x) for i in (2, 4)]
        margins = [np.min(first - second), *(np.abs(values).min() for values in inputs)]
        if min(margins) > MARGIN:
            loss = layers.SoftmaxCrossEntropyWithLogits()
            l2 = [layers.L2Regularizer(layer.weights, 0.1, "l2") for layer in (conv, net[3])]
            return net, layers.RegularizedLoss(loss, l2), x, y


def check_network(layers, rng):
    """Check all parameters of a small network at once.

    Returns the results and the cost: the number of parameters, and the seconds that the analytic
    and the numeric gradient take.
    """
    net, loss, x, y = small_network(layers, rng)

    def f():
        return loss.forward(nn.forward_pass(net, x), y)

    def analytic():
        out = nn.forward_pass(net, x)
        loss.forward(out, y)
        return nn.backward_pass(net, loss, out, y)

    grads = analytic()
    totals = {id(array): np.zeros_like(array) for array in nn.parameters(net).values()}
    for *pairs, _name in grads:
        for array, grad in pairs:
            totals[id(array)] += grad
    results = []
    for name, array in nn.parameters(net).items():
        label = f"network: {name.partition('.')[2]}"
        results.append(compare(label, totals[id(array)], numeric_gradient(f, array)))
    one = net[0].bias[:1]  # a view: a numeric gradient of one parameter
    of_all, of_one = timing.in_turns([analytic, lambda: numeric_gradient(f, one)])
    num_params = sum(array.size for array in nn.parameters(net).values())
    return results, {
        "num_params": num_params,
        "analytic_seconds": of_all,
        "numeric_seconds": of_one * num_params,
    }


def check_gradients(layers, right, rng):
    """The results of all gradients that can be checked, what is left out, and the cost."""
    left_out, cost, results = [], {}, []
    for name, layer, x in layer_cases(layers, rng, right, left_out):
        results += check_layer(name, layer, x, rng)
    results += check_losses(layers, rng, right)
    if right >= session.NETWORK:
        network_results, cost = check_network(layers, rng)
        results += network_results
    return results, left_out, cost


def run(config):
    """Print what is known of the methods, then the table; returns the exit status."""
    layers = session.load(config.layers)
    methods = session.check(layers, config.only)
    print(report(session.shown(methods, config.only)))
    right = session.right_classes(layers, methods, config.only)
    with quietly(not config.only):
        results, left_out, cost = check_gradients(layers, right, np.random.default_rng(0))
    passed = [result.error < TOLERANCE for result in results]
    are_right = all(method.status == PASS for method in methods)
    left_out = () if config.only else left_out
    gradient_table.show(results, passed, left_out, TOLERANCE, config.only or are_right)
    if not config.only:
        folder = Path(config.save_dir) / "check_grads"
        gradient_table.save(folder, results, passed, methods, cost, TOLERANCE)
    if cost:
        gradient_table.why_analytic(cost, LAB_PARAMETERS, LAB_STEPS)
    return 0 if all(passed) and are_right else 1


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors(resumes=False):
        if config.task:
            return import_module("checks.torch_checks").main(config.task)  # the only use of PyTorch
        return run(config)


if __name__ == "__main__":
    sys.exit(main())
