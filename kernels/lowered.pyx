# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""Convolution as a matrix product (im2col), one image at a time: any stride and padding.

A batch in columns has k*k copies of every pixel, far more than the cache holds; so an image is
lowered straight before the product that needs it.
"""

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from kernels.products cimport gemm
from kernels.machine cimport num_threads, real
from kernels.windows cimport Geometry

from kernels.machine import empty, zeros


cdef void lower(const real* image, Geometry g, real* columns) noexcept nogil:
    """One image (C, H, W) to columns (C*k*k, OH*OW); the padding is zero."""
    cdef Py_ssize_t c, i, j, y, x, row, first, last
    cdef const real* source
    for c in range(g.C):
        for i in range(g.k):
            for j in range(g.k):
                # output columns whose pixel x*stride + j - padding lies inside the image
                first = max(0, (g.padding - j + g.stride - 1) // g.stride)
                last = min(g.OW, (g.W + g.padding - j + g.stride - 1) // g.stride)
                last = max(first, last)
                for y in range(g.OH):
                    row = y * g.stride + i - g.padding
                    if row < 0 or row >= g.H or first >= last:
                        memset(columns, 0, g.OW * sizeof(real))
                    else:
                        source = image + (c * g.H + row) * g.W + j - g.padding
                        for x in range(first):
                            columns[x] = 0
                        if g.stride == 1:
                            memcpy(columns + first, source + first, (last - first) * sizeof(real))
                        else:
                            for x in range(first, last):
                                columns[x] = source[x * g.stride]
                        for x in range(last, g.OW):
                            columns[x] = 0
                    columns += g.OW


cdef void raise_columns(const real* columns, Geometry g, real* image) noexcept nogil:
    """The adjoint of lower: columns (C*k*k, OH*OW) added to the image (C, H, W)."""
    cdef Py_ssize_t c, i, j, y, x, row, first, last
    cdef real* target
    for c in range(g.C):
        for i in range(g.k):
            for j in range(g.k):
                first = max(0, (g.padding - j + g.stride - 1) // g.stride)
                last = min(g.OW, (g.W + g.padding - j + g.stride - 1) // g.stride)
                for y in range(g.OH):
                    row = y * g.stride + i - g.padding
                    if 0 <= row < g.H:
                        target = image + (c * g.H + row) * g.W + j - g.padding
                        for x in range(first, last):
                            target[x * g.stride] += columns[x]
                    columns += g.OW


cdef void forward_images(const real[:, :, :, ::1] x, const real[:, ::1] weights,
                         const real[::1] bias, real[:, :, :, ::1] out, Geometry g,
                         Py_ssize_t first, Py_ssize_t last, real* columns) noexcept nogil:
    cdef int K = g.C * g.k * g.k
    cdef int P = g.OH * g.OW
    cdef Py_ssize_t n, f, p
    cdef real* target
    for n in range(first, last):
        lower(&x[n, 0, 0, 0], g, columns)
        for f in range(g.F):
            target = &out[n, f, 0, 0]
            for p in range(P):
                target[p] = bias[f]
        gemm(c"N", c"N", P, g.F, K, columns, P, <real*> &weights[0, 0], K, 1,
             &out[n, 0, 0, 0], P)


cdef void backward_inputs_images(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                                 real[:, :, :, ::1] grad_x, Geometry g,
                                 Py_ssize_t first, Py_ssize_t last, real* columns) noexcept nogil:
    cdef int K = g.C * g.k * g.k
    cdef int P = g.OH * g.OW
    cdef Py_ssize_t n
    for n in range(first, last):
        gemm(c"N", c"T", P, K, g.F, <real*> &grad_out[n, 0, 0, 0], P,
             <real*> &weights[0, 0], K, 0, columns, P)
        raise_columns(columns, g, &grad_x[n, 0, 0, 0])


cdef void backward_params_images(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                                 real[:, ::1] grad_weights, real[::1] grad_bias, Geometry g,
                                 Py_ssize_t first, Py_ssize_t last, real* columns) noexcept nogil:
    cdef int K = g.C * g.k * g.k
    cdef int P = g.OH * g.OW
    cdef Py_ssize_t n, f, p
    cdef const real* source
    cdef real total
    for n in range(first, last):
        lower(&x[n, 0, 0, 0], g, columns)
        gemm(c"T", c"N", K, g.F, P, columns, P, <real*> &grad_out[n, 0, 0, 0], P, 1,
             &grad_weights[0, 0], K)
        for f in range(g.F):
            source = &grad_out[n, f, 0, 0]
            total = 0
            for p in range(P):
                total = total + source[p]
            grad_bias[f] += total


cdef void lowered_forward(const real[:, :, :, ::1] x, const real[:, ::1] weights,
                          const real[::1] bias, real[:, :, :, ::1] out, Geometry g):
    cdef Py_ssize_t N = x.shape[0]
    cdef int threads = <int> min(num_threads, N)
    cdef int t
    cdef real[:, ::1] columns = columns_of_an_image(threads, g, np.asarray(x).dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        forward_images(x, weights, bias, out, g,
                       N * t // threads, N * (t + 1) // threads, &columns[t, 0])


cdef void lowered_backward_inputs(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                                  real[:, :, :, ::1] grad_x, Geometry g):
    cdef Py_ssize_t N = grad_out.shape[0]
    cdef int threads = <int> min(num_threads, N)
    cdef int t
    cdef real[:, ::1] columns = columns_of_an_image(threads, g, np.asarray(grad_out).dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        backward_inputs_images(grad_out, weights, grad_x, g,
                               N * t // threads, N * (t + 1) // threads, &columns[t, 0])


cdef lowered_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                             Geometry g):
    """Every thread adds up its own images; the sums are added in the order of the threads."""
    cdef Py_ssize_t N = x.shape[0]
    cdef int threads = <int> min(num_threads, N)
    cdef int t
    dtype = np.asarray(x).dtype
    grad_weights = zeros((threads, g.F, g.C * g.k * g.k), dtype)
    grad_bias = zeros((threads, g.F), dtype)
    cdef real[:, :, ::1] weights_view = grad_weights
    cdef real[:, ::1] bias_view = grad_bias
    cdef real[:, ::1] columns = columns_of_an_image(threads, g, dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        backward_params_images(grad_out, x, weights_view[t], bias_view[t], g,
                               N * t // threads, N * (t + 1) // threads, &columns[t, 0])
    return grad_weights.sum(axis=0), grad_bias.sum(axis=0)


cdef columns_of_an_image(int threads, Geometry g, dtype):
    """Memory for the columns of an image, for each thread."""
    return empty((threads, g.C * g.k * g.k * g.OH * g.OW), dtype)
