# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""Softmax and its cross-entropy against a distribution: a row an image, reckoned in float64.

In NumPy these are a dozen calls on some hundred numbers, which at batch 1 take as long as a layer.
"""

import numpy as np

from cython.parallel cimport prange
from libc.math cimport exp, log

from kernels.machine cimport Work, num_threads, real

from kernels.machine import empty

cdef enum:
    MANY = 2000  # logits: for fewer, waking up the other threads takes longer than it saves


def cross_entropy(const real[:, ::1] x, const real[:, ::1] y):
    """Mean over the rows of -sum over k of y[n, k] * log_softmax(x)[n, k]. Shapes: (N, K) each."""
    cdef Py_ssize_t N = x.shape[0]
    cdef Py_ssize_t n
    cdef int threads = num_threads if x.size >= MANY else 1
    cdef Work losses = Work(1, N * sizeof(double))
    cdef double* of_row = <double*> losses.at(0)
    cdef double total = 0
    for n in prange(N, nogil=True, schedule="static", num_threads=threads):
        of_row[n] = loss_of_row(&x[n, 0], &y[n, 0], x.shape[1])
    for n in range(N):  # in their order, on any number of threads
        total += of_row[n]
    return total / N


def cross_entropy_grad(const real[:, ::1] x, const real[:, ::1] y):
    """The gradient of cross_entropy for x: (softmax(x) - y) / N. Shapes: (N, K) each."""
    cdef Py_ssize_t N = x.shape[0]
    cdef Py_ssize_t n
    cdef int threads = num_threads if x.size >= MANY else 1
    grad = empty((N, x.shape[1]), np.asarray(x).dtype)
    cdef real[:, ::1] grad_view = grad
    for n in prange(N, nogil=True, schedule="static", num_threads=threads):
        grad_of_row(&x[n, 0], &y[n, 0], &grad_view[n, 0], x.shape[1], N)
    return grad


cdef double largest(const real* x, Py_ssize_t K) noexcept nogil:
    """The largest of K logits: without it no exp overflows, and one of them is exp(0)."""
    cdef double value = x[0]
    cdef Py_ssize_t k
    for k in range(K):
        if x[k] > value or x[k] != x[k]:  # a NaN wins and stays
            value = x[k]
    return value


cdef double sum_of_exps(const real* x, Py_ssize_t K, double most) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t k
    for k in range(K):
        total += exp(x[k] - most)
    return total


cdef double loss_of_row(const real* x, const real* y, Py_ssize_t K) noexcept nogil:
    cdef double most = largest(x, K)
    cdef double log_sum = log(sum_of_exps(x, K, most))
    cdef double loss = 0
    cdef Py_ssize_t k
    for k in range(K):
        loss -= y[k] * (x[k] - most - log_sum)
    return loss


cdef void grad_of_row(const real* x, const real* y, real* grad, Py_ssize_t K,
                      Py_ssize_t N) noexcept nogil:
    cdef double most = largest(x, K)
    cdef double total = sum_of_exps(x, K, most)
    cdef Py_ssize_t k
    for k in range(K):
        grad[k] = <real> ((exp(x[k] - most) / total - y[k]) / N)
