"""Slow, obvious versions of what the kernels do: one line of mathematics, one loop an index."""

import numpy as np


def im2col(x, fh, fw, padding, stride):
    N, C, H, W = x.shape
    OH, OW = (H + 2 * padding - fh) // stride + 1, (W + 2 * padding - fw) // stride + 1
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    cols = np.zeros((C * fh * fw, OH * OW * N), x.dtype)
    for n, c, i, j, y, x_ in np.ndindex(N, C, fh, fw, OH, OW):
        pixel = padded[n, c, y * stride + i, x_ * stride + j]
        cols[(c * fh + i) * fw + j, (y * OW + x_) * N + n] = pixel
    return cols


def conv(x, weights, bias, k, padding, stride):
    N, C, H, W = x.shape
    F = len(weights)
    OH, OW = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    filters = weights.reshape(F, C, k, k)
    out = np.zeros((N, F, OH, OW), x.dtype)
    for n, f, y, x_ in np.ndindex(out.shape):
        window = padded[n, :, y * stride : y * stride + k, x_ * stride : x_ * stride + k]
        out[n, f, y, x_] = bias[f] + np.sum(window * filters[f])
    return out


def conv_grads(x, weights, grad_out, k, padding, stride):
    """The gradients of sum(conv(x) * grad_out) for x, weights and bias."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    filters = weights.reshape(len(weights), x.shape[1], k, k)
    grad_padded, grad_filters = np.zeros_like(padded), np.zeros_like(filters)
    for n, f, y, x_ in np.ndindex(grad_out.shape):
        window = (
            n,
            slice(None),
            slice(y * stride, y * stride + k),
            slice(x_ * stride, x_ * stride + k),
        )
        grad_padded[window] += grad_out[n, f, y, x_] * filters[f]
        grad_filters[f] += grad_out[n, f, y, x_] * padded[window]
    H, W = x.shape[2:]
    grad_x = grad_padded[:, :, padding : padding + H, padding : padding + W]
    return grad_x, grad_filters.reshape(weights.shape), grad_out.sum(axis=(0, 2, 3))


def max_pool(x, size, stride):
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - size) // stride + 1, (W - size) // stride + 1), x.dtype)
    for n, c, y, x_ in np.ndindex(out.shape):
        window = x[n, c, y * stride : y * stride + size, x_ * stride : x_ * stride + size]
        out[n, c, y, x_] = window.max()
    return out


def max_pool_grad(x, grad_out, size, stride):
    grad_x = np.zeros_like(x)
    for n, c, y, x_ in np.ndindex(grad_out.shape):
        window = x[n, c, y * stride : y * stride + size, x_ * stride : x_ * stride + size]
        i, j = np.unravel_index(window.argmax(), window.shape)  # the first of a tie
        grad_x[n, c, y * stride + i, x_ * stride + j] += grad_out[n, c, y, x_]
    return grad_x


def confusion_matrix(true, predicted, num_classes):
    counts = np.zeros((num_classes, num_classes), int)
    for t, p in zip(true, predicted, strict=True):
        counts[t, p] += 1
    return counts
