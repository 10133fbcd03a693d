"""The short training, in the process of a submission: LAYERS.py TASK.npz OUT.npz

It gets images, labels and first weights, and leaves the weights as they are in the end. How good
these are is found out elsewhere.
"""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

from checks import loading

BATCH_SIZE, LEARNING_RATE = 50, 0.1


def build_net(layers, dtype):
    """The lab's network for images of 28x28, built as the exercise builds it."""
    net = [layers.Convolution(np.zeros((BATCH_SIZE, 1, 28, 28), dtype), 16, 5, "conv1")]
    net += [layers.MaxPooling(net[-1], "pool1")]
    net += [layers.ReLU(net[-1], "relu1")]
    net += [layers.Convolution(net[-1], 32, 5, "conv2")]
    net += [layers.MaxPooling(net[-1], "pool2")]
    net += [layers.ReLU(net[-1], "relu2")]
    net += [layers.Flatten(net[-1], "flatten3")]
    net += [layers.FC(net[-1], 512, "fc3")]
    net += [layers.ReLU(net[-1], "relu3")]
    net += [layers.FC(net[-1], 10, "logits")]
    return net


def set_parameters(net, arrays):
    """Let the layers that have parameters begin with those in {"conv1.weights": array, ...}."""
    for layer in net:
        if f"{layer.name}.weights" in arrays:
            layer.weights = arrays[f"{layer.name}.weights"].copy()
            layer.bias = arrays[f"{layer.name}.bias"].copy()


def predict(net, x):
    for layer in net:
        x = layer.forward(x)
    return x


def train(net, loss, x, y, epochs, rng):
    """Stochastic gradient descent. Shapes: x (N, 1, 28, 28), y (N, 10)."""
    for _ in range(epochs):
        for batch in np.split(rng.permutation(len(x)), range(BATCH_SIZE, len(x), BATCH_SIZE)):
            logits = predict(net, x[batch])
            loss.forward(logits, y[batch])  # which may keep what backward needs
            grad = loss.backward_inputs(logits, y[batch])
            grads = []
            for layer in reversed(net):
                if layer.has_params:
                    grads.append(layer.backward_params(grad))
                if layer is not net[0]:
                    grad = layer.backward_inputs(grad)
            for *pairs, _name in grads:
                for parameter, grad_parameter in pairs:
                    parameter -= LEARNING_RATE * grad_parameter


def main(layers_path, task_path, out_path):
    layers, failure = loading.load(layers_path)
    if failure:
        sys.exit(failure)
    with np.load(task_path) as file:
        task = {name: file[name] for name in file.files}
    net = build_net(layers, task["x"].dtype)
    set_parameters(net, task)
    loss, rng = layers.SoftmaxCrossEntropyWithLogits(), np.random.default_rng(0)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        train(net, loss, task["x"], task["y"], int(task["epochs"]), rng)
    arrays = {}
    for layer in net:
        if f"{layer.name}.weights" in task:
            arrays[f"{layer.name}.weights"] = np.asarray(layer.weights)
            arrays[f"{layer.name}.bias"] = np.asarray(layer.bias)
    np.savez(out_path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
