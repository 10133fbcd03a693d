"""Task 1: compare the analytic gradients of every layer with numeric ones.

    python3 check_grads.py                         # exit status 0 if all agree, else 1
    python3 check_grads.py --layers fast_layers    # those that train.py uses

The table goes into out/check_grads/gradients.csv, too, and what it took into results.json.

Numeric gradient: every element is moved by STEP to both sides, (f(x + h) - f(x - h)) / 2h, in
float64. Relative error: |analytic - numeric| / max(|analytic|, |numeric|, FLOOR * the tensor's
largest gradient), so that rounding in a gradient that is nearly zero does not count as an error.
Inputs are kept away from the kinks of ReLU and the ties of max pooling, where there is no gradient.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import support  # says in one line which package is missing
from support import files, tables
from support.errors import one_line_errors
from support.framework import load_layers
from support.options import folder_option, option, parse

import numpy as np

import nn

STEP = 1e-5  # h
TOLERANCE = 1e-5  # largest relative error that passes, the lab's own
FLOOR = 1e-3  # gradients below this share of the tensor's largest are measured against that
MARGIN = 1e-3  # distance of inputs from kinks and ties; STEP never crosses it
LAB_PARAMETERS = 821_706  # of the network in train.py
LAB_STEPS = 8 * 1_100  # of its training: 8 epochs of 55,000 images, 50 at a time


@dataclass(kw_only=True)
class Config:
    save_dir: str = folder_option("SAVE_DIR", "out", "folder that gets check_grads/")
    layers: str = option("layers", "module with the layers: layers or fast_layers")


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
    """Check inputs and parameters of a layer, for f = sum(forward(x) * random weights)."""
    grad_out = rng.standard_normal(layer.forward(x).shape)

    def f():
        return np.sum(layer.forward(x) * grad_out)

    layer.forward(x)
    analytic = {"x": layer.backward_inputs(grad_out)}
    tensors = {"x": x}
    if layer.has_params:
        (_, analytic["weights"]), (_, analytic["bias"]), _ = layer.backward_params(grad_out)
        tensors |= {"weights": layer.weights, "bias": layer.bias}
    return [
        compare(f"{name}: {key}", analytic[key], numeric_gradient(f, tensor))
        for key, tensor in tensors.items()
    ]


def check_losses(layers, rng):
    """Check the losses, and the regularizer alone and within RegularizedLoss."""
    logits, y = rng.standard_normal((4, 5)), rng.dirichlet(np.ones(5), 4)
    weights = rng.standard_normal((3, 4))
    cross_entropy = layers.SoftmaxCrossEntropyWithLogits()
    regularizer = layers.L2Regularizer(weights, 0.3, "l2")
    total = layers.RegularizedLoss(cross_entropy, [regularizer])
    [(_, grad_weights), _name] = regularizer.backward_params()
    [[(_, total_grad_weights), _name]] = total.backward_params()
    cases = [
        ("SoftmaxCrossEntropyWithLogits: x", cross_entropy.backward_inputs(logits, y),
         lambda: cross_entropy.forward(logits, y), logits),
        ("L2Regularizer: weights", grad_weights, regularizer.forward, weights),
        ("RegularizedLoss: x", total.backward_inputs(logits, y),
         lambda: total.forward(logits, y), logits),
        ("RegularizedLoss: weights", total_grad_weights,
         lambda: total.forward(logits, y), weights),
    ]  # fmt: skip
    return [compare(name, grad, numeric_gradient(f, x)) for name, grad, f, x in cases]


def layer_cases(layers, rng):
    """(name, layer, x) for each kind of layer and geometry."""
    cases = []
    for title, shape, filters, kernel, options in (
        ("3x3 SAME", (2, 3, 5, 5), 2, 3, {}),
        ("3x3 SAME, 4x7", (2, 2, 4, 7), 3, 3, {}),
        ("5x5 SAME, batch 1", (1, 1, 6, 5), 2, 5, {}),
        ("3x3 VALID", (2, 2, 5, 6), 2, 3, {"padding": "VALID"}),
        ("3x3 stride 2", (2, 2, 7, 6), 2, 3, {"stride": 2}),
        ("2x2 padding 1, stride 3", (2, 1, 6, 7), 2, 2, {"padding": 1, "stride": 3}),
    ):
        x = rng.standard_normal(shape)
        conv = layers.Convolution(x, filters, kernel, "conv", rng=rng, **options)
        cases.append((f"Convolution {title}", conv, x))
    for title, shape, size, stride in (
        ("2x2", (2, 2, 4, 4), 2, 2),
        ("2x2, 5x7", (2, 2, 5, 7), 2, 2),
        ("3x3 stride 2, batch 1", (1, 3, 7, 6), 3, 2),
        ("2x2 stride 3", (2, 1, 8, 6), 2, 3),
    ):
        x = rng.permutation(np.prod(shape)).reshape(shape) * 0.01  # no two alike
        cases.append((f"MaxPooling {title}", layers.MaxPooling(x, "pool", size, stride), x))
    x = away_from_zero(rng, (3, 2, 4, 5))
    cases.append(("ReLU", layers.ReLU(x, "relu"), x))
    x = rng.standard_normal((3, 2, 4, 5))
    cases.append(("Flatten", layers.Flatten(x, "flatten"), x))
    for title, batch in (("", 4), (" batch 1", 1)):
        x = rng.standard_normal((batch, 6))
        cases.append((f"FC{title}", layers.FC(x, 5, "fc", rng=rng), x))
    return cases


def away_from_zero(rng, shape):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 1, shape)


def small_network(layers, rng):
    """A network of every kind of layer and a regularized loss for it, with x and y; no input of a
    ReLU or a max pooling is nearer than MARGIN to a kink or a tie."""
    while True:
        x, y = rng.standard_normal((2, 1, 8, 8)), np.eye(3)[rng.integers(3, size=2)]
        net = [layers.Convolution(x, 3, 3, "conv1", rng=rng)]
        net += [layers.MaxPooling(net[-1], "pool1")]
        net += [layers.ReLU(net[-1], "relu1")]
        net += [layers.Convolution(net[-1], 4, 3, "conv2", rng=rng)]
        net += [layers.ReLU(net[-1], "relu2")]
        net += [layers.Flatten(net[-1], "flatten3")]
        net += [layers.FC(net[-1], 3, "logits", rng=rng)]
        conv = net[0]
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

    Returns the results, the number of parameters, and the seconds of the analytic and of the
    numeric gradient.
    """
    net, loss, x, y = small_network(layers, rng)

    def f():
        return loss.forward(nn.forward_pass(net, x), y)

    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        grads = nn.backward_pass(net, loss, nn.forward_pass(net, x), y)
        seconds.append(time.perf_counter() - start)
    analytic_seconds = float(np.median(seconds))

    totals = {id(array): np.zeros_like(array) for array in nn.parameters(net).values()}
    for *pairs, _name in grads:
        for array, grad in pairs:
            totals[id(array)] += grad
    results, start = [], time.perf_counter()
    for name, array in nn.parameters(net).items():
        label = f"network: {name.partition('.')[2]}"
        results.append(compare(label, totals[id(array)], numeric_gradient(f, array)))
    numeric_seconds = time.perf_counter() - start
    count = sum(array.size for array in nn.parameters(net).values())
    return results, count, analytic_seconds, numeric_seconds


@one_line_errors(resumes=False)
def main(argv=None):
    """Print the table and the cost of the numeric gradient; returns the exit status."""
    config = parse(Config, argv, __doc__)
    folder, layers = Path(config.save_dir) / "check_grads", load_layers(config.layers)
    rng = np.random.default_rng(0)
    results = []
    for name, layer, x in layer_cases(layers, rng):
        results += check_layer(name, layer, x, rng)
    results += check_losses(layers, rng)
    network_results, count, analytic_seconds, numeric_seconds = check_network(layers, rng)
    results += network_results

    failures = [result for result in results if not result.error < TOLERANCE]
    columns = [("tensor", "<"), ("rel. error", ".1e"), ("worst index", "<")]
    columns += [("analytic", ".5e"), ("numeric", ".5e"), ("", "<")]
    rows = []
    for result in results:
        verdict = "FAIL" if result in failures else "pass"
        index = str(result.index)
        rows.append([result.name, result.error, index, result.analytic, result.numeric, verdict])
    print(tables.text_table(columns, rows))
    print(f"{len(results) - len(failures)} of {len(results)} below {TOLERANCE:g}")
    rows = [{**result._asdict(), "passed": result not in failures} for result in results]
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_table(folder / "gradients.csv", [*Result._fields, "passed"], rows)
    cost = {
        "num_params": count,
        "analytic_seconds": analytic_seconds,
        "numeric_seconds": numeric_seconds,
    }
    files.write_json(folder / "results.json", {"tolerance": TOLERANCE, **cost})

    ratio = numeric_seconds / analytic_seconds
    lab_ratio = ratio / count * LAB_PARAMETERS
    years = lab_ratio * LAB_STEPS * 0.01 / (365 * 24 * 3600)
    print(
        f"\nWhy analytic gradients: for the {count} parameters of the small network the numeric "
        f"gradient took {numeric_seconds:.2f} s\nand the analytic one {1000 * analytic_seconds:.2f}"
        f" ms, {ratio:,.0f} times less: two forward passes a parameter against one pass\nforward "
        f"and one back. For the {LAB_PARAMETERS:,} parameters of the lab's network it would be "
        f"{lab_ratio:,.0f} times; its {LAB_STEPS:,}\ntraining steps, at 10 ms each with analytic "
        f"gradients {LAB_STEPS * 0.01:.0f} s, would take {years:.1f} years."
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
