"""The short training of a submission: what its process gets, and what its weights are worth.

The process trains and leaves weights; how good they are is computed here, with our own layers, on
images that were never in that process.
"""

import io
from dataclasses import dataclass

from support.data import one_hot
from support.framework import load_layers

import numpy as np

from checks import records
from marking import limited
from marking.rooms import room
from marking.train_inside import build_net, predict, set_parameters

NUM_TEST = 2_000
CONVOLUTIONS = ("conv1.weights", "conv2.weights")


@dataclass(frozen=True)
class Trained:
    passed: bool
    message: str
    stopped: str | None = None
    output: str = ""


class ShortTraining:
    """The same images and first weights for every submission, from a seed.

    mnist: a data.Dataset with at least as many training images as scheme, the [training] of
    marks.toml, asks for; limits: its [limits].
    """

    def __init__(self, mnist, scheme, limits, seed):
        self.scheme, self.limits = scheme, limits
        self.layers = load_layers("layers")
        rng = np.random.default_rng(seed)
        self.first = {}
        for layer in build_net(self.layers, np.float32):
            if layer.has_params:
                size = np.sqrt(2 / layer.weights.shape[1])
                weights = rng.standard_normal(layer.weights.shape, np.float32) * np.float32(size)
                self.first |= {f"{layer.name}.weights": weights, f"{layer.name}.bias": layer.bias}
        chosen = rng.permutation(len(mnist.train_x))[: scheme.images]
        task = {"x": mnist.train_x[chosen], "y": one_hot(mnist.train_y[chosen], 10)}
        buffer = io.BytesIO()
        np.savez(buffer, **task, **self.first, epochs=scheme.epochs)
        self.task = buffer.getvalue()
        chosen = rng.permutation(len(mnist.test_x))[:NUM_TEST]
        self.test_x, self.test_y = mnist.test_x[chosen], mnist.test_y[chosen]

    def of(self, files):
        """The Trained of a submission with these files {name: bytes}."""
        with room({**files, "task.npz": self.task}) as place:
            arguments = ("layers.py", "task.npz", "out.npz")
            seconds = self.limits.training_seconds
            ended = limited.run(place, "marking.train_inside", arguments, self.limits, seconds)
            content = place.result("out.npz")
        if ended.stopped:
            return Trained(False, ended.stopped, ended.stopped, ended.output)
        if content is None:
            last = ended.output.rstrip().rpartition("\n")[2]
            return Trained(False, f"ended without weights: {last}", None, ended.output)
        return self._judge(records.read(io.BytesIO(content)), ended.output)

    def _judge(self, arrays, output):
        for name, first in self.first.items():
            array = arrays.get(name)
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                return Trained(False, f"left no {name}", None, output)
            if array.shape != first.shape:
                shapes = f"of shape {array.shape}, expected {first.shape}"
                return Trained(False, f"left {name} {shapes}", None, output)
            if not np.all(np.isfinite(array)):
                return Trained(False, f"{name} is no longer finite", None, output)
        with np.errstate(all="ignore"):
            accuracy = self._accuracy(arrays)
            moved = [self._moved(arrays, name) for name in CONVOLUTIONS]
        least = self.scheme
        message = (
            f"{accuracy:.1%} right of {len(self.test_y):,} test images, at least "
            f"{least.accuracy:.0%} needed; the filters moved by {moved[0]:.1%} and {moved[1]:.1%}, "
            f"at least {least.moved:.0%} needed"
        )
        passed = accuracy >= least.accuracy and min(moved) >= least.moved
        return Trained(bool(passed), message, None, output)

    def _accuracy(self, arrays):
        net = build_net(self.layers, np.float32)
        set_parameters(net, {name: arrays[name].astype(np.float32) for name in self.first})
        starts = range(0, len(self.test_x), 500)
        logits = np.concatenate([predict(net, self.test_x[i : i + 500]) for i in starts])
        return np.mean(logits.argmax(axis=1) == self.test_y)

    def _moved(self, arrays, name):
        """How far the filters went, of their size."""
        first = self.first[name].astype(np.float64)
        return np.linalg.norm(arrays[name] - first) / np.linalg.norm(first)
