"""What torch_checks.py should see, and what known mistakes give, in NumPy: no PyTorch is needed.

Holds the solutions: not for hand-outs.
"""

import functools

import numpy as np

from checks import cases, tasks
from checks.comparison import is_same
from checks.expectations import Expected, Mistake
from checks.reference import Convolution, MaxPooling, SoftmaxCrossEntropyWithLogits

# of images, the layers' outputs, kernel and window sizes
NETWORKS = {
    "pytorch_mnist": {"shape": (2, 1, 28, 28), "conv": (16, 32), "pool": 2, "fc": (512, 10)},
    "pytorch_cifar": {"shape": (2, 3, 32, 32), "conv": (16, 32), "pool": 3, "fc": (256, 128, 10)},
}
HINGE = "loss = mean over b of sum over k != y of max(0, x[b, k] - x[b, y] + delta)"
L2 = "λ/2 * sum of the squared weights of all layers but the last, and of no bias"
WORST = "the misclassified images alone, by their losses, the largest one first"
CONFUSION = "confusion[i, j] = images of class i that were predicted as j"


def parameters(script, seed):
    """Weights and biases in their order, in the shapes that PyTorch has."""
    network = NETWORKS[script]
    sizes, channels, side = [], network["shape"][1], network["shape"][2]
    for filters in network["conv"]:
        sizes += [(filters, channels, 5, 5), (filters,)]
        channels, side = filters, (side - network["pool"]) // 2 + 1
    inputs = channels * side**2
    for outputs in network["fc"]:
        sizes += [(outputs, inputs), (outputs,)]
        inputs = outputs
    return [cases.model_parameter(seed, script, i, size) for i, size in enumerate(sizes)]


def outputs(script, seed, images, relu_at=None, ending=None):
    """The network's outputs; relu_at: for each layer but the last whether a ReLU follows."""
    network, values = NETWORKS[script], parameters(script, seed)
    pairs = list(zip(values[::2], values[1::2], strict=True))
    x = images
    for i, (weights, bias) in enumerate(pairs):
        if weights.ndim == 4:
            flat = weights.reshape(len(weights), -1)
            layer = Convolution(x, len(weights), 5, "conv", "SAME", lambda s, fan_in, w=flat: w)
            layer.bias = bias
            x = layer.forward(x)
            x = MaxPooling(x, "pool", network["pool"], 2).forward(x)
        else:
            x = x.reshape(len(x), -1) @ weights.T + bias
        if i < len(pairs) - 1 and (relu_at is None or relu_at[i]):
            x = np.maximum(x, 0)
    return x if ending is None else ending(x)


def model_seen(script, seed, **change):
    images = cases.images(seed, NETWORKS[script]["shape"])
    size = sum(values.size for values in parameters(script, seed))
    found = outputs(script, seed, images, **change)
    return {"size": np.array(size), "outputs": found, "one image": found[:1]}


def l2_seen(script, seed, half=0.5, biases=False, last=False, with_lambda=True):
    values = parameters(script, seed)
    chosen = values[0 : None if last else -2 : 1 if biases else 2]
    total = sum(np.sum(np.square(array)) for array in chosen)
    return {f"λ = {d:g}": np.array(half * (d if with_lambda else d > 0) * total) for d in (0, 0.25)}


def evaluate_seen(script, seed, transposed=False):
    logits, labels = cases.evaluation(seed)
    loss = SoftmaxCrossEntropyWithLogits().forward(logits, np.eye(4)[labels])
    confusion = np.zeros((4, 4))
    for true, predicted in zip(labels, logits.argmax(axis=1), strict=True):
        confusion[true, predicted] += 1
    confusion = confusion.T if transposed else confusion
    return {"loss": loss, "confusion": confusion, "zero over zero": "ok", "trained": "ok"}


def worst_seen(script, seed, sign=-1, with_right=False):
    logits, labels, losses = cases.mistakes(seed)
    found = np.flatnonzero((logits.argmax(axis=1) != labels) | with_right)
    found = found[np.argsort(sign * losses[found])]
    return {f"num = {num}": found[:num] for num in (3, 20)}


def hinge_seen(script, seed, change=None):
    """change(margins, is_right, N): another loss of the matrix x - x[y] + delta."""

    def loss(logits, target, delta):
        is_right = np.eye(logits.shape[1], dtype=bool)[target]
        margins = logits - logits[is_right][:, np.newaxis] + (1.0 if delta is None else delta)
        if change is not None:
            return change(margins, is_right, len(logits), 1.0 if delta is None else delta)
        return np.sum(np.maximum(margins, 0) * ~is_right) / len(logits)

    seen = {}
    for key, case in cases.hinge(seed).items():
        x, target, delta = case
        seen[key] = np.asarray(loss(*case))
        grad = np.zeros_like(x)
        for index in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[index] = 1e-5
            ends = (np.sum(loss(x + sign * step, target, delta)) for sign in (1, -1))
            grad[index] = np.subtract(*ends) / 2e-5
        seen[f"gradient, {key}"] = grad
    return seen


SEEN = {
    "ConvolutionalModel.forward": model_seen,
    "l2_loss": l2_seen,
    "evaluate": evaluate_seen,
    "worst_mistakes": worst_seen,
    "multiclass_hinge_loss": hinge_seen,
}


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    exps = np.exp(x - x.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


MODEL = "conv → pool → relu, conv → pool → relu, fc → relu, ..., and the last fc without one"
KNOWN = [  # part, id, sentence, formula, changes
    ("ConvolutionalModel.forward", "model-relu-at-the-end", "a ReLU follows the last layer", MODEL,
     {"ending": relu}),
    ("ConvolutionalModel.forward", "model-softmax-at-the-end", "a softmax follows the last layer, "
     "which the loss brings along", MODEL, {"ending": softmax}),
    ("ConvolutionalModel.forward", "model-without-relu", "there is no ReLU", MODEL,
     {"relu_at": [False] * 4}),
    ("ConvolutionalModel.forward", "model-without-relu-of-fc", "no ReLU follows the fc layers",
     MODEL, {"relu_at": [True, True, False, False]}),
    ("ConvolutionalModel.forward", "model-without-relu-of-conv", "no ReLU follows the convolutions",
     MODEL, {"relu_at": [False, False, True, True]}),
    ("l2_loss", "l2-loss-without-half", "the factor 1/2 is missing", L2, {"half": 1.0}),
    ("l2_loss", "l2-loss-with-biases", "the biases are in it", L2, {"biases": True}),
    ("l2_loss", "l2-loss-with-last-layer", "the last layer is in it", L2, {"last": True}),
    ("l2_loss", "l2-loss-of-all-parameters", "it is of all parameters", L2,
     {"last": True, "biases": True}),
    ("l2_loss", "l2-loss-without-lambda", "λ is missing", L2, {"with_lambda": False}),
    ("evaluate", "confusion-transposed", "rows and columns are exchanged", CONFUSION,
     {"transposed": True}),
    ("worst_mistakes", "worst-smallest-loss", "the smallest losses come first", WORST,
     {"sign": 1}),
    ("worst_mistakes", "worst-with-right", "images that are classified right are in it", WORST,
     {"with_right": True}),
    ("multiclass_hinge_loss", "hinge-summed", "1/N is missing: the mean over the batch", HINGE,
     {"change": lambda m, r, n, d: np.sum(relu(m) * ~r)}),
    ("multiclass_hinge_loss", "hinge-of-each-image", "the mean over the batch is missing", HINGE,
     {"change": lambda m, r, n, d: np.sum(relu(m) * ~r, axis=1)}),
    ("multiclass_hinge_loss", "hinge-averaged-over-wrong-classes", "the mean is over classes, too",
     HINGE, {"change": lambda m, r, n, d: np.sum(relu(m) * ~r) / np.sum(~r)}),
    ("multiclass_hinge_loss", "hinge-averaged-over-classes", "the mean is over classes, too", HINGE,
     {"change": lambda m, r, n, d: np.mean(relu(m) * ~r)}),
    ("multiclass_hinge_loss", "hinge-with-right-class", "the right class is in it: delta too much",
     HINGE, {"change": lambda m, r, n, d: np.sum(relu(m)) / n}),
    ("multiclass_hinge_loss", "hinge-without-maximum", "max(0, ...) is missing", HINGE,
     {"change": lambda m, r, n, d: np.sum(m * ~r) / n}),
    ("multiclass_hinge_loss", "hinge-without-delta", "delta is missing", HINGE,
     {"change": lambda m, r, n, d: np.sum(relu(m - d) * ~r) / n}),
    ("multiclass_hinge_loss", "hinge-sign", "the difference has the wrong sign", HINGE,
     {"change": lambda m, r, n, d: np.sum(relu(2 * d - m) * ~r) / n}),
    ("multiclass_hinge_loss", "hinge-squared", "it is squared", HINGE,
     {"change": lambda m, r, n, d: np.sum(relu(m) ** 2 * ~r) / n}),
    ("multiclass_hinge_loss", "hinge-of-worst-class", "only the worst of the wrong classes counts",
     HINGE, {"change": lambda m, r, n, d: np.sum(np.max(relu(m) * ~r, axis=1)) / n}),
]  # fmt: skip


@functools.cache
def expected(seed=0):
    """The Expected of all scripts for a seed."""
    right, known = {}, []
    for script in ("pytorch_mnist", "pytorch_cifar", "hinge_bonus"):
        for name in tasks.torch_names(script):
            part = name.partition(".")[2]
            values = SEEN[part](script, seed)
            right |= {f"{name}/{key}": [value] for key, value in values.items()}
            for of, id, sentence, formula, change in KNOWN:
                if of == part:
                    wrong = SEEN[part](script, seed, **change)
                    wrong = {f"{name}/{key}": value for key, value in wrong.items()}
                    variant = {k: v for k, v in wrong.items() if not is_same(k, v, right[k], True)}
                    known.append(Mistake(id, name, sentence, formula, [variant]))
    return Expected(right, known)
