# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""Convolution at stride 1, done directly; what else there is goes to lowered.pyx, grads that are
mostly zero go to sparse.pyx; forward, 5x5 in float32 goes to winograd.pyx where that is faster.

A few outputs stay in the processor's registers while pixels and weights stream by, and no matrix of
columns is made. vector_kernels.h has the loops and a picture of them.

Axes: N images, C channels, H, W rows and columns; F filters; OH, OW output rows and columns.
"""

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memcpy

from kernels.lowered cimport lowered_backward_inputs, lowered_backward_params, lowered_forward
from kernels.machine cimport Work, instruction_set, num_threads, real
from kernels.sparse cimport (
    sparse_backward_inputs,
    sparse_backward_params,
    sparse_inputs_pay,
    sparse_params_pay,
)
from kernels.windows cimport Geometry, geometry
from kernels.winograd cimport winograd_forward, winograd_pays

from kernels.machine import empty, zeros

cdef extern from "vector_kernels.h" nogil:
    ctypedef struct Direct:
        int C, k, F, OH, OW
        ptrdiff_t row, plane
    int block_size(int, int itemsize)
    void turn_float(int, const float* source, ptrdiff_t from_stride, int rows, float* to,
                    ptrdiff_t to_stride, int columns)
    void turn_double(int, const double* source, ptrdiff_t from_stride, int rows, double* to,
                     ptrdiff_t to_stride, int columns)
    void direct_rows_float(int, Direct, const float* x, const float* packed, const float* bias,
                           float* out, int y0, int y1)
    void direct_rows_double(int, Direct, const double* x, const double* packed, const double* bias,
                            double* out, int y0, int y1)
    void direct_grads_float(int, Direct, const float* x, const float* grad_out, float* blocked,
                            float* grad_weights, float* grad_bias)
    void direct_grads_double(int, Direct, const double* x, const double* grad_out, double* blocked,
                             double* grad_weights, double* grad_bias)


cdef bint is_direct(Geometry g):
    # the grad of the inputs is a convolution with a padding of k - 1 - padding
    return instruction_set > 0 and g.stride == 1 and g.padding < g.k


def conv_forward(const real[:, :, :, ::1] x, const real[:, ::1] weights, const real[::1] bias,
                 int k, int padding, int stride):
    """Shapes: x (N, C, H, W), weights (F, C*k*k), bias (F,) -> (N, F, OH, OW)."""
    cdef Geometry g = geometry(
        x.shape[1], x.shape[2], x.shape[3], weights.shape[0], k, padding, stride
    )
    cdef real[:, :, :, ::1] out_view
    cdef real[:, :, ::1] packed, packed_bias
    out = empty((x.shape[0], g.F, g.OH, g.OW), np.asarray(x).dtype)
    if out.size == 0:
        return out
    out_view = out
    if real is float:
        if is_direct(g) and winograd_pays(g, x.shape[0]):
            winograd_forward(x, weights, bias, out_view, g)
            return out
    if is_direct(g):
        packed = new_blocks(g.F, g.C * k * k, out.dtype)
        pack[real](weights, False, packed, g.F, k)
        packed_bias = new_blocks(g.F, 1, out.dtype)
        memcpy(&packed_bias[0, 0, 0], &bias[0], g.F * sizeof(real))
        correlate(x, packed, packed_bias, out_view, g)
    else:
        lowered_forward(x, weights, bias, out_view, g)
    return out


def conv_backward_inputs(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights, x_shape,
                         int k, int padding, int stride):
    """Shapes: grad_out (N, F, OH, OW), weights (F, C*k*k) -> x_shape (N, C, H, W)."""
    N, C, H, W = x_shape
    cdef Geometry g = geometry(C, H, W, weights.shape[0], k, padding, stride)
    cdef real[:, :, :, ::1] grad_x_view
    cdef real[:, :, ::1] packed, no_bias
    dtype = np.asarray(grad_out).dtype
    if N == 0:
        return empty(x_shape, dtype)
    if is_direct(g):
        grad_x = empty(x_shape, dtype)
        grad_x_view = grad_x
        if sparse_inputs_pay(grad_out, weights, g):
            sparse_backward_inputs(grad_out, weights, grad_x_view, g)
            return grad_x
        packed = new_blocks(C, g.F * k * k, dtype)
        pack[real](weights, True, packed, C, k)
        no_bias = new_blocks(C, 1, dtype)
        correlate(grad_out, packed, no_bias, grad_x_view,
                  geometry(g.F, g.OH, g.OW, C, k, k - 1 - padding, 1))
    else:
        grad_x = zeros(x_shape, dtype)
        grad_x_view = grad_x
        lowered_backward_inputs(grad_out, weights, grad_x_view, g)
    return grad_x


def conv_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                         int k, int padding, int stride):
    """Shapes: grad_out (N, F, OH, OW), x (N, C, H, W) -> grads of weights (F, C*k*k), bias (F,)."""
    cdef Geometry g = geometry(
        x.shape[1], x.shape[2], x.shape[3], grad_out.shape[1], k, padding, stride
    )
    if x.shape[0] == 0:
        dtype = np.asarray(x).dtype
        return np.zeros((g.F, g.C * k * k), dtype), np.zeros(g.F, dtype)
    if is_direct(g) and sparse_params_pay(grad_out, x, g):
        return sparse_backward_params(grad_out, x, g)
    if is_direct(g):
        return direct_backward_params(grad_out, x, g)
    return lowered_backward_params(grad_out, x, g)


cdef void pack(const real[:, ::1] weights, bint turned, real[:, :, ::1] packed, int F, int k):
    """Weights as the kernels want them: (blocks of filters, C*k*k, filters of the block).

    turned: every filter by 180 degrees, and filters and channels exchanged.
    """
    cdef Py_ssize_t taps = k * k, block = packed.shape[2], K = weights.shape[1]
    cdef Py_ssize_t C = packed.shape[1] // taps
    cdef Py_ssize_t b, c
    cdef int num_filters
    for b in range(packed.shape[0]):
        num_filters = <int> min(block, F - b * block)
        if not turned:
            turn(&weights[b * block, 0], K, num_filters, &packed[b, 0, 0], block, <int> K)
        else:
            for c in range(C):
                turn(&weights[c, b * block * taps], taps, num_filters,
                     &packed[b, (c + 1) * taps - 1, 0], -block, <int> taps)


cdef inline void turn(const real* source, ptrdiff_t from_stride, int rows, real* to,
                      ptrdiff_t to_stride, int columns) noexcept nogil:
    """to[j, i] = source[i, j]; strides: elements from a row to the next."""
    if real is float:
        turn_float(instruction_set, source, from_stride, rows, to, to_stride, columns)
    else:
        turn_double(instruction_set, source, from_stride, rows, to, to_stride, columns)


cdef new_blocks(int F, int K, dtype):
    """Zeros (blocks, K, filters of a block) for all of F filters."""
    cdef int block = block_size(instruction_set, dtype.itemsize)
    return zeros(((F + block - 1) // block, K, block), dtype)


cdef Direct direct(Geometry g) noexcept nogil:
    cdef Direct d
    d.C, d.k, d.F, d.OH, d.OW = g.C, g.k, g.F, g.OH, g.OW
    d.row = g.W + 2 * g.padding
    d.plane = d.row * (g.H + 2 * g.padding)
    return d


cdef inline void pad(const real* image, Geometry g, real* padded) noexcept nogil:
    """Copy an image into the middle of a larger one, whose border stays as it is."""
    cdef Py_ssize_t c, y
    cdef Direct d = direct(g)
    for c in range(g.C):
        for y in range(g.H):
            memcpy(padded + c * d.plane + (y + g.padding) * d.row + g.padding,
                   image + (c * g.H + y) * g.W, g.W * sizeof(real))


cdef void correlate(const real[:, :, :, ::1] x, real[:, :, ::1] packed,
                    real[:, :, ::1] bias,
                    real[:, :, :, ::1] out, Geometry g):
    """The rows of all outputs, one below the other, are shared out among the threads."""
    cdef Py_ssize_t num_rows = x.shape[0] * g.OH
    cdef int threads = <int> min(num_threads, num_rows)
    cdef int t
    cdef Work padded = Work(threads, g.C * direct(g).plane * sizeof(real), True)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        correlate_rows(&x[0, 0, 0, 0], &packed[0, 0, 0], &bias[0, 0, 0], &out[0, 0, 0, 0], g,
                       num_rows * t // threads, num_rows * (t + 1) // threads,
                       <real*> padded.at(t))


cdef void correlate_rows(const real* x, const real* packed, const real* bias, real* out, Geometry g,
                         Py_ssize_t first, Py_ssize_t last, real* padded) noexcept nogil:
    cdef Direct d = direct(g)
    cdef Py_ssize_t n
    cdef int y0, y1
    for n in range(first // g.OH, (last - 1) // g.OH + 1):
        pad(x + n * g.C * g.H * g.W, g, padded)
        y0 = <int> max(0, first - n * g.OH)
        y1 = <int> min(g.OH, last - n * g.OH)
        if real is float:
            direct_rows_float(instruction_set, d, padded, packed, bias,
                              out + n * g.F * g.OH * g.OW, y0, y1)
        else:
            direct_rows_double(instruction_set, d, padded, packed, bias,
                               out + n * g.F * g.OH * g.OW, y0, y1)


cdef direct_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                            Geometry g):
    """Every thread adds up its own images; the sums are added in the order of the threads."""
    cdef int block = block_size(instruction_set, sizeof(real))
    cdef int blocks = (g.F + block - 1) // block
    cdef Py_ssize_t K = g.C * g.k * g.k, N = x.shape[0]
    cdef int threads = <int> min(num_threads, N)
    cdef int t
    dtype = np.asarray(x).dtype
    grad_weights = zeros((threads, blocks, K, block), dtype)
    grad_bias = zeros((threads, blocks * block), dtype)
    cdef real[:, :, :, ::1] weights_view = grad_weights
    cdef real[:, ::1] bias_view = grad_bias
    cdef Work padded = Work(threads, g.C * direct(g).plane * sizeof(real), True)
    cdef Work blocked = Work(threads, 2 * g.OH * g.OW * block * sizeof(real))
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        grads_of_images(&grad_out[0, 0, 0, 0], &x[0, 0, 0, 0], g, N * t // threads,
                        N * (t + 1) // threads, <real*> padded.at(t), <real*> blocked.at(t),
                        &weights_view[t, 0, 0, 0], &bias_view[t, 0])
    grad_weights = grad_weights.sum(axis=0).transpose(0, 2, 1).reshape(blocks * block, K)
    return grad_weights[: g.F], grad_bias.sum(axis=0)[: g.F]


cdef void grads_of_images(const real* grad_out, const real* x, Geometry g,
                          Py_ssize_t first, Py_ssize_t last, real* padded, real* blocked,
                          real* grad_weights, real* grad_bias) noexcept nogil:
    cdef Direct d = direct(g)
    cdef Py_ssize_t outputs = <Py_ssize_t> g.F * g.OH * g.OW
    cdef Py_ssize_t n
    for n in range(first, last):
        pad(x + n * g.C * g.H * g.W, g, padded)
        if real is float:
            direct_grads_float(instruction_set, d, padded, grad_out + n * outputs, blocked,
                               grad_weights, grad_bias)
        else:
            direct_grads_double(instruction_set, d, padded, grad_out + n * outputs, blocked,
                                grad_weights, grad_bias)
