# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""Max pooling and its way back."""

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memset

from kernels.machine cimport instruction_set, num_threads, real

from kernels.machine import empty

ctypedef unsigned char uchar

ctypedef fused offset:
    uchar
    int

cdef extern from "vector_kernels.h" nogil:
    void pool_pairs_float(int, const float* high, const float* low, float* out,
                          unsigned char* winner, int n)
    void pool_pairs_double(int, const double* high, const double* low, double* out,
                           unsigned char* winner, int n)
    void unpool_pairs_float(int, const float* grad_out, const unsigned char* winner, float* high,
                            float* low, int n)
    void unpool_pairs_double(int, const double* grad_out, const unsigned char* winner,
                             double* high, double* low, int n)


cdef inline void pool_window(const real* window, Py_ssize_t W, int size,
                             real* best, offset* winner) noexcept nogil:
    """The maximum of a window of an image W wide, and the first place i*size + j that has it.

    A NaN counts as larger than all before it.
    """
    cdef Py_ssize_t i, j
    cdef real value
    best[0] = window[0]
    winner[0] = 0
    for i in range(size):
        for j in range(size):
            value = window[i * W + j]
            if value > best[0] or value != value:  # a NaN wins, and stays until the next
                best[0] = value
                winner[0] = <offset> (i * size + j)


cdef inline bint is_paired(int size, int stride, int OW) noexcept nogil:
    """Whether the vector kernels, which take 2x2 windows side by side, four at once, will do."""
    return instruction_set > 0 and size == 2 and stride == 2 and OW >= 4


cdef void pool_plane(const real* plane, int H, int W, int size, int stride, int OH, int OW,
                     real* out, offset* winner) noexcept nogil:
    cdef Py_ssize_t y, x
    cdef const real* row
    for y in range(OH):
        row = plane + y * stride * W
        if offset is uchar and is_paired(size, stride, OW):
            if real is float:
                pool_pairs_float(instruction_set, row, row + W, out, winner, OW)
            else:
                pool_pairs_double(instruction_set, row, row + W, out, winner, OW)
        else:
            for x in range(OW):
                pool_window(row + x * stride, W, size, out + x, winner + x)
        out += OW
        winner += OW


def pool_forward(const real[:, :, :, ::1] x, int size, int stride, offset[:, :, :, ::1] winner):
    """Maximum of each window, and in `winner` its place i*size + j, the first one of a tie.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW), the shape of winner.
    """
    cdef int H = <int> x.shape[2], W = <int> x.shape[3]
    cdef int OH = <int> winner.shape[2], OW = <int> winner.shape[3]
    cdef Py_ssize_t C = x.shape[1]
    cdef Py_ssize_t num_planes = x.shape[0] * C
    cdef Py_ssize_t plane
    out = empty((x.shape[0], C, OH, OW), np.asarray(x).dtype)
    cdef real[:, :, :, ::1] out_view = out
    for plane in prange(num_planes, nogil=True, schedule="static", num_threads=num_threads):
        pool_plane(&x[plane // C, plane % C, 0, 0], H, W, size, stride, OH, OW,
                   &out_view[plane // C, plane % C, 0, 0], &winner[plane // C, plane % C, 0, 0])
    return out


def pool_backward(const real[:, :, :, ::1] grad_out, const offset[:, :, :, ::1] winner, x_shape,
                  int size, int stride):
    """Every grad goes to the pixel that won; where windows overlap, the grads add up.

    Shapes: grad_out and winner (N, C, OH, OW) -> x_shape (N, C, H, W).
    """
    cdef int H = x_shape[2], W = x_shape[3]
    cdef int OH = <int> grad_out.shape[2], OW = <int> grad_out.shape[3]
    cdef Py_ssize_t C = grad_out.shape[1]
    cdef Py_ssize_t num_planes = grad_out.shape[0] * C
    cdef Py_ssize_t plane
    grad_x = empty(x_shape, np.asarray(grad_out).dtype)
    cdef real[:, :, :, ::1] grad_x_view = grad_x
    for plane in prange(num_planes, nogil=True, schedule="static", num_threads=num_threads):
        unpool_plane(&grad_out[plane // C, plane % C, 0, 0], &winner[plane // C, plane % C, 0, 0],
                     H, W, size, stride, OH, OW, &grad_x_view[plane // C, plane % C, 0, 0])
    return grad_x


cdef void unpool_plane(const real* grad_out, const offset* winner, int H, int W,
                       int size, int stride, int OH, int OW, real* grad_x) noexcept nogil:
    cdef Py_ssize_t y, x
    cdef real* row
    cdef bint paired = is_paired(size, stride, OW)
    if not paired or H > 2 * OH or W > 2 * OW:
        memset(grad_x, 0, <Py_ssize_t> H * W * sizeof(real))
    for y in range(OH):
        row = grad_x + y * stride * W
        if offset is uchar and paired:
            if real is float:
                unpool_pairs_float(instruction_set, grad_out, winner, row, row + W, OW)
            else:
                unpool_pairs_double(instruction_set, grad_out, winner, row, row + W, OW)
        else:
            for x in range(OW):
                row[winner[x] // size * W + winner[x] % size + x * stride] += grad_out[x]
        grad_out += OW
        winner += OW
