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
