# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""ReLU and the update of parameters: loops over single elements."""

import numpy as np

from cython.parallel cimport prange

from kernels.machine cimport num_threads, real

cdef extern from "vector_kernels.h" nogil:
    void relu_forward_float(const float* x, float* out, unsigned char* positive, ptrdiff_t n)
    void relu_forward_double(const double* x, double* out, unsigned char* positive, ptrdiff_t n)
    void relu_backward_float(const float* grad_out, const unsigned char* positive, float* grad_x,
                             ptrdiff_t n)
    void relu_backward_double(const double* grad_out, const unsigned char* positive,
                              double* grad_x, ptrdiff_t n)

cdef enum:
    MANY = 16384  # elements: for fewer, waking up the other threads takes longer than it saves


def relu_forward(const real[::1] x, real[::1] out, unsigned char[::1] positive):
    """out = max(x, 0), in which a NaN stays; positive = x > 0. Shapes: (n,) each."""
    cdef Py_ssize_t n = x.shape[0]
    cdef Py_ssize_t first, last
    cdef int threads = num_threads
    cdef int t
    if n == 0:
        return
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        first = n * t // threads
        last = n * (t + 1) // threads
        if real is float:
            relu_forward_float(&x[0] + first, &out[0] + first, &positive[0] + first, last - first)
        else:
            relu_forward_double(&x[0] + first, &out[0] + first, &positive[0] + first, last - first)


def relu_backward(const real[::1] grad_out, const unsigned char[::1] positive, real[::1] grad_x):
    """grad_x = grad_out where positive, else 0. Shapes: (n,) each."""
    cdef Py_ssize_t n = grad_out.shape[0]
    cdef Py_ssize_t first, last
    cdef int threads = num_threads
    cdef int t
    if n == 0:
        return
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        first = n * t // threads
        last = n * (t + 1) // threads
        if real is float:
            relu_backward_float(&grad_out[0] + first, &positive[0] + first, &grad_x[0] + first,
                                last - first)
        else:
            relu_backward_double(&grad_out[0] + first, &positive[0] + first, &grad_x[0] + first,
                                 last - first)


def add_scaled(parameter, factor, grad):
    """parameter += factor * grad, in place: what a step of gradient descent does.

    Shapes: any, the same; both float32 or both float64, and C-contiguous.
    """
    if parameter.dtype == np.float32:
        add_scaled_flat[float](parameter.reshape(-1), factor, grad.reshape(-1))
    else:
        add_scaled_flat[double](parameter.reshape(-1), factor, grad.reshape(-1))


cdef void add_scaled_flat(real[::1] parameter, real factor, const real[::1] grad):
    cdef Py_ssize_t n = parameter.shape[0]
    cdef int threads = num_threads if n >= MANY else 1
    cdef Py_ssize_t i
    for i in prange(n, nogil=True, schedule="static", num_threads=threads):
        parameter[i] += factor * grad[i]
