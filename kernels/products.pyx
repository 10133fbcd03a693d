# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Matrix products on the threads of the kernels, and BLAS's for single ones."""

import numpy as np

from cython.parallel cimport prange
from scipy.linalg.cython_blas cimport dgemm, sgemm

from kernels.machine cimport instruction_set, num_threads, real

from kernels.machine import empty

cdef extern from "vector_kernels.h" nogil:
    ctypedef struct Product:
        int M, N, K
        ptrdiff_t a_row, a_col, b_row, out_row
    void product_float(int, Product, const float* a, const float* b, float* out)
    void product_double(int, Product, const double* a, const double* b, double* out)
    void dots_float(int, Product, const float* a, const float* b, float* out)
    void dots_double(int, Product, const double* a, const double* b, double* out)


cdef void gemm(char trans_a, char trans_b, int m, int n, int k, real* a, int lda,
                      real* b, int ldb, real beta, real* c, int ldc) noexcept nogil:
    """C = A B + beta C, in BLAS's column-major order: a row-major array arrives transposed."""
    cdef real one = 1
    if real is float:
        sgemm(&trans_a, &trans_b, &m, &n, &k, &one, a, &lda, b, &ldb, &beta, c, &ldc)
    else:
        dgemm(&trans_a, &trans_b, &m, &n, &k, &one, a, &lda, b, &ldb, &beta, c, &ldc)


def matmul(a, b):
    """a @ b, on the threads of this module rather than on those of BLAS.

    The rows of the result are shared out if there are many, else its columns, never the sum: the
    number of threads does not change the order of the additions.
    Shapes: (M, K), (K, N) -> (M, N); both float32 or both float64, each C- or F-contiguous.
    """
    if a.flags.c_contiguous:
        a_rows, trans_a = a, b"N"
    else:
        a_rows, trans_a = np.ascontiguousarray(a.T), b"T"
    if b.flags.c_contiguous:
        b_rows, trans_b = b, b"N"
    else:
        b_rows, trans_b = np.ascontiguousarray(b.T), b"T"
    out = empty((a.shape[0], b.shape[1]), a.dtype)
    if out.size == 0 or a.shape[1] == 0:
        out[...] = 0
    elif a.dtype == np.float32:
        share_product[float](a_rows, trans_a[0], b_rows, trans_b[0], out, a.shape[1])
    else:
        share_product[double](a_rows, trans_a[0], b_rows, trans_b[0], out, a.shape[1])
    return out


cdef void share_product(const real[:, ::1] a, char trans_a, const real[:, ::1] b, char trans_b,
                        real[:, ::1] out, int K):
    cdef int M = <int> out.shape[0]
    cdef int N = <int> out.shape[1]
    cdef int lda = <int> a.shape[1]
    cdef int ldb = <int> b.shape[1]
    cdef int threads = num_threads
    cdef bint by_rows = M >= min(N, 64 * threads)
    cdef int blocks = (N + 15) // 16  # of columns, so that every thread begins with a whole vector
    cdef int t
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        if not by_rows:
            product_part(<real*> &a[0, 0], trans_a, lda, <real*> &b[0, 0], trans_b, ldb,
                         &out[0, 0], N, K, 0, M,
                         16 * (blocks * t // threads), min(N, 16 * (blocks * (t + 1) // threads)))
        else:
            product_part(<real*> &a[0, 0], trans_a, lda, <real*> &b[0, 0], trans_b, ldb,
                         &out[0, 0], N, K, M * t // threads, M * (t + 1) // threads, 0, N)


cdef void product_part(real* a, char trans_a, int lda, real* b, char trans_b, int ldb,
                       real* out, int N, int K, int m0, int m1, int n0, int n1) noexcept nogil:
    """Rows m0 to m1 and columns n0 to n1 of out = a @ b."""
    cdef Product p
    if m1 <= m0 or n1 <= n0:
        return
    p.M, p.N, p.K = m1 - m0, n1 - n0, K
    p.a_row = lda if trans_a == c"N" else 1
    p.a_col = 1 if trans_a == c"N" else lda
    p.b_row, p.out_row = ldb, N
    a += m0 * p.a_row
    b += n0 * (1 if trans_b == c"N" else p.b_row)
    out += m0 * p.out_row + n0
    if instruction_set == 0 or trans_a == trans_b == c"T":
        # Row-major out = a @ b is column-major out.T = b.T @ a.T.
        gemm(trans_b, trans_a, p.N, p.M, K, b, ldb, a, lda, 0, out, N)
    elif trans_b == c"N":
        if real is float:
            product_float(instruction_set, p, a, b, out)
        else:
            product_double(instruction_set, p, a, b, out)
    else:
        if real is float:
            dots_float(instruction_set, p, a, b, out)
        else:
            dots_double(instruction_set, p, a, b, out)
