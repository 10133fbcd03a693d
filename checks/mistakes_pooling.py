"""Known mistakes in MaxPooling."""

import numpy as np

from checks import reference
from checks.mistakes import also_right, known

MaxPooling = reference.MaxPooling
POOL = "out[n, c, y, x] = max over i, j of in[n, c, y*stride + i, x*stride + j]"
GRAD_POOL = "grad_out goes to the pixel that was the maximum of its window, and adds up there"


def pooled(self, function):
    return function(np.stack([pixels for _, _, pixels in self.windows(self.x)]))


def spread(self, grad_out, share):
    """grad_out brought to each pixel of a window in the share (i, j, pixels) that is asked for."""
    grad = np.zeros_like(self.x)
    for (i, j, pixels), (_, _, x) in zip(self.windows(grad), self.windows(self.x), strict=True):
        pixels += grad_out * share(i, j, x)
    return grad


@known("MaxPooling.forward", "it takes the mean of a window", POOL)
def pool_mean(self, x):
    MaxPooling.forward(self, x)
    return pooled(self, lambda pixels: pixels.mean(axis=0))


@known("MaxPooling.forward", "it takes the minimum of a window", POOL)
def pool_minimum(self, x):
    MaxPooling.forward(self, x)
    return pooled(self, lambda pixels: pixels.min(axis=0))


@known("MaxPooling.forward", "it takes the first pixel of a window", POOL)
def pool_first(self, x):
    MaxPooling.forward(self, x)
    return pooled(self, lambda pixels: pixels[0].copy())


@known("MaxPooling.forward", "negative numbers count as 0", POOL)
def pool_not_below_zero(self, x):
    return np.maximum(MaxPooling.forward(self, x), 0)


@known("MaxPooling.backward_inputs", "the gradient goes to every one of several maxima", GRAD_POOL)
def pool_grad_to_every_tie(self, grad_out):
    return spread(self, grad_out, lambda i, j, x: x == self.out)


@known("MaxPooling.backward_inputs", "the gradient goes to every pixel of a window", GRAD_POOL)
def pool_grad_to_all(self, grad_out):
    return spread(self, grad_out, lambda i, j, x: 1)


@known("MaxPooling.backward_inputs", "the gradient is that of the mean of a window", GRAD_POOL)
def pool_grad_of_mean(self, grad_out):
    return spread(self, grad_out, lambda i, j, x: 1 / self.k**2)


@known("MaxPooling.backward_inputs", "it goes to the wrong place: i and j exchanged", GRAD_POOL)
def pool_grad_exchanged(self, grad_out):
    return spread(self, grad_out, lambda i, j, x: self.winner == j * self.k + i)


@known("MaxPooling.backward_inputs", "it goes to the wrong place: the first pixel", GRAD_POOL)
def pool_grad_to_first(self, grad_out):
    return spread(self, grad_out, lambda i, j, x: (i, j) == (0, 0))


@known("MaxPooling.backward_inputs", "it goes to the minimum of a window", GRAD_POOL)
def pool_grad_to_minimum(self, grad_out):
    smallest = pooled(self, lambda pixels: pixels.argmin(axis=0))
    return spread(self, grad_out, lambda i, j, x: smallest == i * self.k + j)


@known("MaxPooling.backward_inputs", "the sign is wrong", GRAD_POOL)
def pool_grad_sign(self, grad_out):
    return -MaxPooling.backward_inputs(self, grad_out)


@known(
    "MaxPooling.backward_inputs", "overlapping windows overwrite each other (= for +=)", GRAD_POOL
)
def pool_grad_overwritten(self, grad_out):
    grad = np.zeros_like(self.x)
    for n, c, y, x in np.ndindex(grad_out.shape):
        i, j = divmod(self.winner[n, c, y, x], self.k)
        grad[n, c, y * self.stride + i, x * self.stride + j] = grad_out[n, c, y, x]
    return grad


@known(
    "MaxPooling.backward_inputs", "grad_out is missing: it returns where the maxima are", GRAD_POOL
)
def pool_grad_mask_only(self, grad_out):
    return spread(self, 1.0, lambda i, j, x: self.winner == i * self.k + j)


@known("MaxPooling.backward_inputs", "a stale cache: x is that of an earlier forward", GRAD_POOL)
class PoolGradOfFirstForward:
    def forward(self, x):
        out = MaxPooling.forward(self, x)
        self.kept = getattr(self, "kept", (self.x, self.winner))
        self.x, self.winner = self.kept
        return out


@also_right("MaxPooling.backward_inputs")
def to_the_last_of_several(self, grad_out):
    last = pooled(self, lambda pixels: self.k**2 - 1 - pixels[::-1].argmax(axis=0))
    return spread(self, grad_out, lambda i, j, x: last == i * self.k + j)


@also_right("MaxPooling.backward_inputs")
def shared_by_all_maxima(self, grad_out):
    count = pooled(self, lambda pixels: (pixels == self.out).sum(axis=0))
    return spread(self, grad_out, lambda i, j, x: (x == self.out) / count)


@also_right("MaxPooling.backward_inputs")
def to_the_first_column_by_column(self, grad_out):
    k = self.k
    order = np.arange(k * k).reshape(k, k).T.ravel()
    first = pooled(self, lambda pixels: order[pixels[order].argmax(axis=0)])
    return spread(self, grad_out, lambda i, j, x: first == i * k + j)
