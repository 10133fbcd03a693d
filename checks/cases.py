"""The inputs of the checks, made from a seed: no right number is in here.

All numbers are multiples of 1/64, which float32 holds exactly, and none is zero. They come from
the raw bits of PCG64, which no version of NumPy changes.
"""

import zlib

import numpy as np


def raw(seed, name, shape):
    """Random integers of 32 bits for an array of that name."""
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())])
    return (bits.random_raw(int(np.prod(shape))) >> np.uint64(32)).astype(np.int64).reshape(shape)


def numbers(seed, name, shape):
    """From -2 to 2."""
    return (raw(seed, name, shape) % 256 - 127.5) / 64


def distinct(seed, name, shape):
    """No two alike, and of both signs: for maxima."""
    order = np.argsort(raw(seed, name, shape).ravel(), kind="stable")
    return (order.reshape(shape) - order.size // 2 + 0.5) / 64


def one_hot(seed, name, shape):
    """A row an example; no two neighbours are of one class."""
    N, K = shape
    steps = 1 + raw(seed, name, (N,)) % (K - 1)
    return np.eye(K)[np.cumsum(steps) % K]


def with_zeros(seed, name, shape):
    """numbers, a third of them 0."""
    return np.where(raw(seed, f"{name} zeros", shape) % 3 == 0, 0.0, numbers(seed, name, shape))


def with_ties(seed, name, shape, size):
    """Whole numbers, so that in some windows of that size there are several maxima."""
    x = raw(seed, name, shape) % 3 - 1.0
    x[:, :, :size, :size] = 1.0  # one window has nothing else
    return x


# --- Tasks 3, 4 and the bonus -------------------------------------------------------------------


def images(seed, shape):
    return numbers(seed, f"images {shape}", shape)


def model_parameter(seed, script, i, shape):
    """The i-th parameter of a network: so large that the outputs keep their size."""
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
    return numbers(seed, f"{script} {i}", shape) * np.float32(1.2 / np.sqrt(fan_in))


def evaluation(seed):
    """Outputs (12, 4) and labels: no image is of class 3, and class 2 is never predicted."""
    logits = numbers(seed, "evaluation", (12, 4))
    logits[:, 2] = logits.min() - 1
    logits[:, :2] += 3 * np.eye(2)[np.arange(12) % 3 % 2]
    return logits, np.arange(12) % 3


def mistakes(seed):
    """Outputs (12, 4), labels of which some are wrong, and the loss of each image, no two alike."""
    logits, labels = evaluation(seed)
    labels = np.where(np.arange(12) % 4 == 0, logits.argmax(axis=1), labels)
    return logits, labels, np.abs(distinct(seed, "losses", 12)) + 0.001 * np.arange(12)


def hinge(seed):
    """situation: logits, target, delta (None: as it is); no difference lies on a kink."""
    sizes = {"usual": (4, 5, None), "one image": (1, 3, None), "delta": (5, 5, 0.3)}
    found = {}
    for key, (B, C, delta) in sizes.items():
        logits = numbers(seed, f"hinge {key}", (B, C)) + 0.003 * np.arange(C)
        found[key] = logits, one_hot(seed, f"hinge {key}", (B, C)).argmax(axis=1), delta
    return found
