# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""The way back through a convolution at stride 1, without multiplying by the grads that are zero.

Whether that pays is decided for a batch by what it holds, never by timing: by the number of zeros
and by the sizes. What is not finite goes the dense way, so that no zero hides it: there 0 * inf is
a NaN. sparse_kernels.h has the loops and a picture.

Axes: N images, C channels, H, W rows and columns; F filters; OH, OW output rows and columns.
"""

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from kernels.machine cimport Work, instruction_set, num_threads, real
from kernels.windows cimport Geometry

from kernels.machine import empty

cdef extern from "vector_kernels.h" nogil:
    ctypedef struct Sparse:
        int C, H, W, F, k, padding, OH, OW, run
        ptrdiff_t row
        const int* place_of
    int block_size(int, int itemsize)
    void turn_float(int, const float* source, ptrdiff_t from_stride, int rows, float* to,
                    ptrdiff_t to_stride, int columns)
    void turn_double(int, const double* source, ptrdiff_t from_stride, int rows, double* to,
                     ptrdiff_t to_stride, int columns)
    void count_nonzeros_float(int, const float* values, ptrdiff_t n, ptrdiff_t* count)
    void count_nonzeros_double(int, const double* values, ptrdiff_t n, ptrdiff_t* count)
    void channels_last_float(int, Sparse, const float* image, float* padded)
    void channels_last_double(int, Sparse, const double* image, double* padded)
    void channels_first_float(int, Sparse, const float* padded, float* image, int y0, int y1)
    void channels_first_double(int, Sparse, const double* padded, double* image, int y0, int y1)
    void sparse_params_float(int, Sparse, const float* x, const float* grad_out, int f0, int f1,
                             int* places, float* grads, float* grad_weights, float* grad_bias)
    void sparse_params_double(int, Sparse, const double* x, const double* grad_out, int f0, int f1,
                              int* places, double* grads, double* grad_weights, double* grad_bias)
    void sparse_inputs_float(int, Sparse, const float* grad_out, const float* weights,
                             int y0, int y1, int* counts, int* begins, int* places,
                             float* values, int* rows, float* grads, float* x)
    void sparse_inputs_double(int, Sparse, const double* grad_out, const double* weights,
                              int y0, int y1, int* counts, int* begins, int* places,
                              double* values, int* rows, double* grads, double* x)
    void fill_place_table()

cdef enum:
    SLACK = 64  # elements that a whole vector may reach beyond the last one
    # what a grad that is not zero costs besides its products, in multiply-adds of vectors: measured
    # where both ways take equally long, over C from 1 to 64, k from 3 to 5, F from 3 to 64
    PARAMS_OVERHEAD = 6
    INPUTS_OVERHEAD = 28

fill_place_table()

WHEN = ("never", "where it pays", "always")
cdef int skips_zeros = 1  # which of them


def set_skip_zeros(when):
    """When the grads of a convolution leave out zeros: "never", "where it pays" or "always"; and
    matrix products those of their left factor.

    What is not finite, a stride above 1, instruction set "none" and products whose columns fill no
    whole vectors take the dense way always.
    Raises: ValueError for another word.
    """
    global skips_zeros
    if when not in WHEN:
        raise ValueError(f"expected one of {', '.join(WHEN)}, got {when!r}")
    skips_zeros = WHEN.index(when)


cdef bint sparse_params_pay(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                            Geometry g):
    cdef int block = block_size(instruction_set, sizeof(real))
    cdef double dense = <double> g.k * g.k * g.C * up_to(block, g.F) / g.F / block
    return pays[real](grad_out, dense, g, PARAMS_OVERHEAD) and (
        count_nonzeros[real](&x[0, 0, 0, 0], x.size) >= 0
    )


cdef bint sparse_inputs_pay(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                            Geometry g):
    cdef int block = block_size(instruction_set, sizeof(real))
    cdef double dense = <double> g.k * g.k * up_to(block, g.C) / block
    return pays[real](grad_out, dense, g, INPUTS_OVERHEAD) and (
        count_nonzeros[real](&weights[0, 0], weights.size) >= 0
    )


cdef bint pays(const real[:, :, :, ::1] grad_out, double dense, Geometry g, int overhead):
    """Whether the grads are finite and few enough; dense: what one costs the dense loops, and 1 is
    what it costs to look at it. Both in multiply-adds of vectors."""
    cdef int block = block_size(instruction_set, sizeof(real))
    cdef double sparse = overhead + g.k * up_to(block, g.k * g.C) / block
    cdef Py_ssize_t count
    if skips_zeros == 0:
        return False
    count = count_nonzeros[real](&grad_out[0, 0, 0, 0], grad_out.size)
    return count >= 0 and (skips_zeros == 2 or count * sparse <= grad_out.size * (dense - 1))


cdef int up_to(int block, int n) noexcept:
    """n rounded up to whole blocks."""
    return (n + block - 1) // block * block


cdef Py_ssize_t count_nonzeros(const real* values, Py_ssize_t n):
    """How many of n values are not zero; -1 if one of them is not finite."""
    cdef int threads = num_threads
    cdef int t
    cdef Py_ssize_t first
    cdef ptrdiff_t count = 0
    cdef Work counts = Work(threads, sizeof(ptrdiff_t))
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        first = n * t // threads
        if real is float:
            count_nonzeros_float(instruction_set, values + first, n * (t + 1) // threads - first,
                                 <ptrdiff_t*> counts.at(t))
        else:
            count_nonzeros_double(instruction_set, values + first, n * (t + 1) // threads - first,
                                  <ptrdiff_t*> counts.at(t))
    for t in range(threads):
        if (<ptrdiff_t*> counts.at(t))[0] < 0:
            return -1
        count += (<ptrdiff_t*> counts.at(t))[0]
    return count


cdef Sparse sparse(Geometry g, int itemsize, const int* place_of) noexcept:
    cdef Sparse s
    s.place_of = place_of
    s.C, s.H, s.W, s.F, s.k = g.C, g.H, g.W, g.F, g.k
    s.padding, s.OH, s.OW = g.padding, g.OH, g.OW
    s.run = up_to(block_size(instruction_set, itemsize), g.k * g.C)
    s.row = <ptrdiff_t> g.C * (g.W + 2 * g.padding)
    return s


cdef Work windows_of(Geometry g):
    """Where in the padded image the window of each output begins: OH*OW of int."""
    cdef int y, x
    cdef Work place_of = Work(1, g.OH * g.OW * sizeof(int))
    for y in range(g.OH):
        for x in range(g.OW):
            (<int*> place_of.at(0))[y * g.OW + x] = g.C * ((g.W + 2 * g.padding) * y + x)
    return place_of


cdef void pack(real* weights, Geometry g, real* packed, int run, bint back) noexcept nogil:
    """weights (F, C, k*k) with the channels of a place side by side: (F, k, run); or back."""
    cdef Py_ssize_t f, i
    cdef real* row
    for f in range(g.F):
        for i in range(g.k):
            row = weights + f * g.C * g.k * g.k + i * g.k
            if real is float:
                if back:
                    turn_float(instruction_set, packed, g.C, g.k, row, g.k * g.k, g.C)
                else:
                    turn_float(instruction_set, row, g.k * g.k, g.C, packed, g.C, g.k)
            else:
                if back:
                    turn_double(instruction_set, packed, g.C, g.k, row, g.k * g.k, g.C)
                else:
                    turn_double(instruction_set, row, g.k * g.k, g.C, packed, g.C, g.k)
            packed += run


cdef sparse_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                            Geometry g):
    """The filters of all images, one below the other, are shared out among the threads; each adds
    up its own, and the sums are added in the order of the threads."""
    cdef Work place_of = windows_of(g)
    cdef Sparse s = sparse(g, sizeof(real), <int*> place_of.at(0))
    cdef Py_ssize_t num_units = x.shape[0] * g.F
    cdef Py_ssize_t P = g.OH * g.OW
    cdef int threads = <int> min(num_threads, num_units)
    cdef int t
    dtype = np.asarray(x).dtype
    cdef Work grad_weights = Work(threads, g.F * g.k * s.run * sizeof(real), True)
    cdef Work grad_bias = Work(threads, g.F * sizeof(real), True)
    cdef Work padded = Work(threads, ((g.H + 2 * g.padding) * s.row + SLACK) * sizeof(real), True)
    cdef Work found = Work(threads, (P + SLACK) * sizeof(int))
    cdef Work grads = Work(threads, (P + SLACK) * sizeof(real))
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        params_of_units(&grad_out[0, 0, 0, 0], &x[0, 0, 0, 0], s, num_units * t // threads,
                        num_units * (t + 1) // threads, <real*> padded.at(t), <int*> found.at(t),
                        <real*> grads.at(t), <real*> grad_weights.at(t), <real*> grad_bias.at(t))
    out, out_bias = empty((g.F, g.C * g.k * g.k), dtype), empty((g.F,), dtype)
    cdef real[:, ::1] out_view = out
    cdef real[::1] bias_view = out_bias
    for t in range(1, threads):
        add[real](<real*> grad_weights.at(0), <real*> grad_weights.at(t), g.F * g.k * s.run)
        add[real](<real*> grad_bias.at(0), <real*> grad_bias.at(t), g.F)
    pack[real](&out_view[0, 0], g, <real*> grad_weights.at(0), s.run, True)
    memcpy(&bias_view[0], grad_bias.at(0), g.F * sizeof(real))
    return out, out_bias


cdef inline void add(real* to, const real* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        to[i] += values[i]


cdef void params_of_units(const real* grad_out, const real* x, Sparse s, Py_ssize_t first,
                          Py_ssize_t last, real* padded, int* found, real* grads,
                          real* grad_weights, real* grad_bias) noexcept nogil:
    cdef Py_ssize_t outputs = <Py_ssize_t> s.F * s.OH * s.OW
    cdef Py_ssize_t n
    cdef int f0, f1
    for n in range(first // s.F, (last - 1) // s.F + 1):
        f0 = <int> max(0, first - n * s.F)
        f1 = <int> min(s.F, last - n * s.F)
        if real is float:
            channels_last_float(instruction_set, s, x + n * s.C * s.H * s.W, padded)
            sparse_params_float(instruction_set, s, padded, grad_out + n * outputs, f0, f1, found,
                                grads, grad_weights, grad_bias)
        else:
            channels_last_double(instruction_set, s, x + n * s.C * s.H * s.W, padded)
            sparse_params_double(instruction_set, s, padded, grad_out + n * outputs, f0, f1, found,
                                 grads, grad_weights, grad_bias)


cdef void sparse_backward_inputs(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                                 real[:, :, :, ::1] grad_x, Geometry g):
    """The rows of all inputs, one below the other, are shared out among the threads."""
    cdef Work place_of = windows_of(g)
    cdef Sparse s = sparse(g, sizeof(real), <int*> place_of.at(0))
    cdef Py_ssize_t num_rows = grad_x.shape[0] * g.H
    cdef Py_ssize_t P = g.OH * g.OW
    cdef int threads = <int> min(num_threads, num_rows)
    cdef int t
    cdef Work packed = Work(1, g.F * g.k * s.run * sizeof(real), True)
    pack[real](<real*> &weights[0, 0], g, <real*> packed.at(0), s.run, False)
    cdef Work padded = Work(threads, ((g.H + 2 * g.padding) * s.row + SLACK) * sizeof(real))
    cdef Work counts = Work(threads, (g.F + P + 2) * sizeof(int))
    cdef Work places = Work(threads, (g.F * P + SLACK) * sizeof(int))
    cdef Work values = Work(threads, (g.F * P + SLACK) * sizeof(real))
    cdef Work rows = Work(threads, (g.F * P + SLACK) * sizeof(int))
    cdef Work grads = Work(threads, (g.F * P + SLACK) * sizeof(real))
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        inputs_of_rows(&grad_out[0, 0, 0, 0], <real*> packed.at(0), s, num_rows * t // threads,
                       num_rows * (t + 1) // threads, <int*> counts.at(t), <int*> places.at(t),
                       <real*> values.at(t), <int*> rows.at(t), <real*> grads.at(t),
                       <real*> padded.at(t), &grad_x[0, 0, 0, 0])


cdef void inputs_of_rows(const real* grad_out, const real* weights, Sparse s, Py_ssize_t first,
                         Py_ssize_t last, int* counts, int* places, real* values, int* rows,
                         real* grads, real* padded, real* grad_x) noexcept nogil:
    cdef Py_ssize_t outputs = <Py_ssize_t> s.F * s.OH * s.OW
    cdef Py_ssize_t inputs = <Py_ssize_t> s.C * s.H * s.W
    cdef Py_ssize_t n
    cdef int y0, y1, from_row, to_row
    for n in range(first // s.H, (last - 1) // s.H + 1):
        y0 = <int> max(0, first - n * s.H)
        y1 = <int> min(s.H, last - n * s.H)
        # the outputs whose windows cover these rows
        from_row = max(0, y0 + s.padding - s.k + 1)
        to_row = max(from_row, min(s.OH, y1 + s.padding))
        memset(padded, 0, s.row * (s.H + 2 * s.padding) * sizeof(real))
        if real is float:
            sparse_inputs_float(instruction_set, s, grad_out + n * outputs, weights, from_row,
                                to_row, counts, counts + s.F, places, values, rows, grads, padded)
            channels_first_float(instruction_set, s, padded, grad_x + n * inputs, y0, y1)
        else:
            sparse_inputs_double(instruction_set, s, grad_out + n * outputs, weights, from_row,
                                 to_row, counts, counts + s.F, places, values, rows, grads, padded)
            channels_first_double(instruction_set, s, padded, grad_x + n * inputs, y0, y1)
