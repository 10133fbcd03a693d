# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""Matrix products on the threads of the kernels, and BLAS's for single ones.

Zeros of the left factor are left out where that pays: what a ReLU has passed on is zero by half.
Whether it pays is decided by their number and by the sizes, never by timing. What is not finite
goes the dense way, so that no zero hides it. sparse_product_kernels.h has the loops and a picture.
"""

import numpy as np

from cython.parallel cimport prange
from scipy.linalg.cython_blas cimport dgemm, sgemm

from kernels.machine cimport Work, instruction_set, num_threads, real
from kernels.sparse cimport count_nonzeros, skips_zeros

from kernels.machine import empty

cdef extern from "vector_kernels.h" nogil:
    ctypedef struct Product:
        int M, N, K
        ptrdiff_t a_row, a_col, b_row, out_row
    int BLOCK
    int block_size(int, int itemsize)
    void list_rows_float(int, Product, const float* a, int m0, int m1, int* begins, int* places,
                         float* values, float* row)
    void list_rows_double(int, Product, const double* a, int m0, int m1, int* begins, int* places,
                          double* values, double* row)
    void listed_product_float(int, Product, const int* begins, const int* places,
                              const float* values, const float* b, bint is_transposed, float* out,
                              float* turned)
    void listed_product_double(int, Product, const int* begins, const int* places,
                               const double* values, const double* b, bint is_transposed,
                               double* out, double* turned)
    void fill_place_table()
    void product_float(int, Product, const float* a, const float* b, float* out)
    void product_double(int, Product, const double* a, const double* b, double* out)
    void dots_float(int, Product, const float* a, const float* b, float* out)
    void dots_double(int, Product, const double* a, const double* b, double* out)


fill_place_table()

cdef enum:
    FEWEST_ROWS = 8  # of a, and of b: for fewer it is all in the lists


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


cdef int first_column(int N, int block, int t, int threads) noexcept nogil:
    """Where the share of thread t of N columns begins: with a whole vector."""
    return min(N, block * ((N + block - 1) // block * t // threads))


def column_bounds(N, dtype, threads):
    """Where the shares of threads begin when the N columns of a product are shared out, and N."""
    cdef int block = block_size(instruction_set, np.dtype(dtype).itemsize)
    return [first_column(N, block, t, threads) for t in range(threads + 1)]


cdef bint listing_pays(const real[:, ::1] a, const real[:, ::1] b, bint is_transposed, int M, int N,
                       int K):
    """Whether a is finite and has zeros enough, and b, of which they leave rows out, is finite."""
    cdef int block = block_size(instruction_set, sizeof(real)) if instruction_set else 1
    cdef Py_ssize_t count
    # in tenths of a multiply-add of the dense way, measured with 50 x 1568 @ 1568 x 512 and alike:
    # one of the dense and of the sparse way, and what it costs to check and turn an element of b
    cdef double dense = 15 if is_transposed else 10
    cdef double sparse = 16
    cdef double once = 110 if is_transposed else 50
    if skips_zeros == 0 or instruction_set == 0 or N % block:
        return False
    if skips_zeros == 1 and (min(M, K) < FEWEST_ROWS or M * dense < once):
        return False
    count = count_nonzeros[real](&a[0, 0], a.size)
    if count < 0 or skips_zeros == 1 and count * sparse + K * once > dense * M * K:
        return False
    return count_nonzeros[real](&b[0, 0], b.size) >= 0


cdef void listed_product(const real[:, ::1] a, char trans_a, const real[:, ::1] b,
                         bint is_transposed, real[:, ::1] out, int K):
    """out = a @ b without the zeros of a. The lists of its rows are made on all threads, then the
    columns of out are shared out, so that all have as much to do."""
    cdef int M = <int> out.shape[0], N = <int> out.shape[1]
    cdef int block = block_size(instruction_set, sizeof(real))
    cdef int threads = num_threads
    cdef int t
    cdef Product p
    p.M, p.N, p.K, p.b_row, p.out_row = M, N, K, b.shape[1], N
    p.a_row = a.shape[1] if trans_a == c"N" else 1
    p.a_col = 1 if trans_a == c"N" else a.shape[1]
    cdef Work begins = Work(1, <size_t> M * (K // BLOCK + 2) * sizeof(int))
    cdef Work places = Work(1, <size_t> M * (K + 8) * sizeof(int))
    cdef Work values = Work(1, <size_t> M * (K + 8) * sizeof(real))
    cdef Work rows = Work(threads, K * sizeof(real))
    cdef Work turned = Work(threads, BLOCK * 512)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        list_rows_part(p, &a[0, 0], M * t // threads, M * (t + 1) // threads, <int*> begins.at(0),
                       <int*> places.at(0), <real*> values.at(0), <real*> rows.at(t))
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        listed_columns(p, <int*> begins.at(0), <int*> places.at(0), <real*> values.at(0), &b[0, 0],
                       is_transposed, &out[0, 0], first_column(N, block, t, threads),
                       first_column(N, block, t + 1, threads), <real*> turned.at(t))


cdef void list_rows_part(Product p, const real* a, int m0, int m1, int* begins, int* places,
                         real* values, real* row) noexcept nogil:
    if real is float:
        list_rows_float(instruction_set, p, a, m0, m1, begins, places, values, row)
    else:
        list_rows_double(instruction_set, p, a, m0, m1, begins, places, values, row)


cdef void listed_columns(Product p, const int* begins, const int* places, const real* values,
                         const real* b, bint is_transposed, real* out, int n0, int n1,
                         real* turned) noexcept nogil:
    p.N = n1 - n0
    b += n0 * (p.b_row if is_transposed else 1)
    if real is float:
        listed_product_float(instruction_set, p, begins, places, values, b, is_transposed, out + n0,
                             turned)
    else:
        listed_product_double(instruction_set, p, begins, places, values, b, is_transposed,
                              out + n0, turned)


cdef void share_product(const real[:, ::1] a, char trans_a, const real[:, ::1] b, char trans_b,
                        real[:, ::1] out, int K):
    cdef int M = <int> out.shape[0]
    cdef int N = <int> out.shape[1]
    if listing_pays[real](a, b, trans_b == c"T", M, N, K):
        listed_product(a, trans_a, b, trans_b == c"T", out, K)
        return
    cdef int lda = <int> a.shape[1]
    cdef int ldb = <int> b.shape[1]
    cdef int threads = num_threads
    cdef bint by_rows = M >= min(N, 64 * threads)
    cdef int block = block_size(instruction_set, sizeof(real))
    cdef int t
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        if not by_rows:
            product_part(<real*> &a[0, 0], trans_a, lda, <real*> &b[0, 0], trans_b, ldb,
                         &out[0, 0], N, K, 0, M, first_column(N, block, t, threads),
                         first_column(N, block, t + 1, threads))
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
