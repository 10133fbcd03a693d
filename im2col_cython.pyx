# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Convolution as matrix products, and the few other loops that NumPy has no fast form for.

Lowering (im2col) copies every window of an image into a column, so that one matrix product
applies all filters to all windows:

      one image (C, H, W)                 columns (C*fh*fw, OH*OW)
      . . . . .                           window (y, x) becomes column y*OW + x
      . a b c .    window (0, 0)  ---->   | 0 |   row (c*fh + i)*fw + j holds the pixel at
      . d e f .    with padding 1         | 0 |   filter position (i, j) of channel c
      . . . . .                           | a |
                                          | : |

    output (F, OH*OW)     = weights (F, C*fh*fw) @ columns
    grad_columns          = weights.T @ grad_output       raised (col2im) to the grad of the image
    grad_weights          = grad_output @ columns.T       summed over the images

im2col_cython and col2im_cython do this for a whole batch, as the exercise does. A batch has k*k
copies of every pixel then, far more than the cache holds. The convolution below lowers one image
at a time instead, straight before the product that needs it, and shares the images out among the
threads: thread t of T takes images t*N//T up to (t+1)*N//T, whatever the timing. So the same
number of threads gives the same bits.

Axes: N images, C channels, H, W rows and columns; F filters; OH, OW output rows and columns.
"""

import os

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, sgemm

ctypedef fused real:
    float
    double

ctypedef fused offset:
    unsigned char
    int


# --- threads ------------------------------------------------------------------------------------

# all the processors this process may use, until set_num_threads says otherwise
cdef int num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
    os.cpu_count() or 1
)


def get_num_threads():
    """Number of threads the kernels share a batch among."""
    return num_threads


def set_num_threads(int threads):
    """Share every batch among `threads` threads from now on.

    Raises: ValueError if threads < 1.
    """
    global num_threads
    if threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads}")
    num_threads = threads


# --- whole batches, the exercise's own layout ---------------------------------------------------


def output_size(size, field, padding, stride):
    """Number of positions of a window of `field` pixels on `size` pixels: one axis of the output.

    Raises: ValueError if no window fits, or an argument is out of range.
    """
    if field < 1 or stride < 1 or padding < 0:
        raise ValueError(
            "expected a window and a stride of at least 1 and a padding of at least 0, "
            f"got window {field}, stride {stride}, padding {padding}"
        )
    if size + 2 * padding < field:
        raise ValueError(
            f"expected an input of at least {field} pixels for a window of {field}, "
            f"got {size} + 2*{padding} of padding: the output would have size zero"
        )
    return (size + 2 * padding - field) // stride + 1


def as_float(x):
    """x as an array of float32 or float64: those two stay as they are, all else becomes float64."""
    x = np.asarray(x)
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def im2col_cython(x, int field_height, int field_width, int padding, int stride):
    """Every window of every image as a column.

    Shapes: x (N, C, H, W) -> (C*field_height*field_width, OH*OW*N); row (c*fh + i)*fw + j,
    column (y*OW + x)*N + n. The dtype of x stays.
    Raises: ValueError if x has another rank or no window fits.
    Source: Chellapilla et al., High Performance Convolutional Neural Networks for Document
    Processing, 2006.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"expected x of shape (N, C, H, W), got {x.shape}")
    N, C, H, W = x.shape
    OH = output_size(H, field_height, padding, stride)
    OW = output_size(W, field_width, padding, stride)
    # With the images as the last axis, neighbouring columns are neighbours in memory.
    padded = np.zeros((C, H + 2 * padding, W + 2 * padding, N), x.dtype)
    padded[:, padding : padding + H, padding : padding + W] = x.transpose(1, 2, 3, 0)
    cols = np.empty((C * field_height * field_width, OH * OW * N), x.dtype)
    if x.dtype == np.float32:
        batch_im2col[float](padded, cols, field_height, field_width, stride, OH, OW)
    else:
        batch_im2col[double](padded, cols, field_height, field_width, stride, OH, OW)
    return cols


def col2im_cython(cols, int N, int C, int H, int W,
                  int field_height, int field_width, int padding, int stride):
    """The adjoint of im2col_cython: every column is added back to the pixels it was copied from.

    Shapes: cols (C*field_height*field_width, OH*OW*N) -> (N, C, H, W). The dtype of cols stays.
    Raises: ValueError if cols has another shape or no window fits.
    """
    cols = np.ascontiguousarray(as_float(cols))
    OH = output_size(H, field_height, padding, stride)
    OW = output_size(W, field_width, padding, stride)
    expected = (C * field_height * field_width, OH * OW * N)
    if cols.shape != expected:
        raise ValueError(f"expected cols of shape {expected}, got {cols.shape}")
    padded = np.zeros((C, H + 2 * padding, W + 2 * padding, N), cols.dtype)
    if cols.dtype == np.float32:
        batch_col2im[float](cols, padded, field_height, field_width, stride, OH, OW)
    else:
        batch_col2im[double](cols, padded, field_height, field_width, stride, OH, OW)
    image = padded[:, padding : padding + H, padding : padding + W]
    return np.ascontiguousarray(image.transpose(3, 0, 1, 2))


cdef void batch_im2col(real[:, :, :, ::1] padded, real[:, ::1] cols,
                       int fh, int fw, int stride, int OH, int OW):
    cdef Py_ssize_t N = padded.shape[3]
    cdef Py_ssize_t num_rows = cols.shape[0]
    cdef Py_ssize_t row, c, i, j, y, x
    if cols.shape[1] == 0 or num_rows == 0:
        return
    for row in prange(num_rows, nogil=True, schedule="static", num_threads=num_threads):
        c = row // (fh * fw)
        i = row // fw % fh
        j = row % fw
        for y in range(OH):
            if stride == 1:
                memcpy(&cols[row, y * OW * N], &padded[c, y + i, j, 0], OW * N * sizeof(real))
            else:
                for x in range(OW):
                    memcpy(&cols[row, (y * OW + x) * N],
                           &padded[c, y * stride + i, x * stride + j, 0], N * sizeof(real))


cdef void batch_col2im(real[:, ::1] cols, real[:, :, :, ::1] padded,
                       int fh, int fw, int stride, int OH, int OW):
    # One thread a channel: no two threads add to the same pixel.
    cdef Py_ssize_t N = padded.shape[3]
    cdef Py_ssize_t C = padded.shape[0]
    cdef Py_ssize_t row, c, i, j, y, x, n
    cdef real* target
    cdef real* source
    if cols.shape[1] == 0 or C == 0:
        return
    for c in prange(C, nogil=True, schedule="static", num_threads=num_threads):
        for i in range(fh):
            for j in range(fw):
                row = (c * fh + i) * fw + j
                for y in range(OH):
                    for x in range(OW):
                        target = &padded[c, y * stride + i, x * stride + j, 0]
                        source = &cols[row, (y * OW + x) * N]
                        for n in range(N):
                            target[n] += source[n]


# --- matrix products ----------------------------------------------------------------------------


cdef inline void gemm(char trans_a, char trans_b, int m, int n, int k, real* a, int lda,
                      real* b, int ldb, real beta, real* c, int ldc) noexcept nogil:
    """C = A B + beta C, in BLAS's column-major order: a row-major array arrives transposed."""
    cdef real one = 1
    if real is float:
        sgemm(&trans_a, &trans_b, &m, &n, &k, &one, a, &lda, b, &ldb, &beta, c, &ldc)
    else:
        dgemm(&trans_a, &trans_b, &m, &n, &k, &one, a, &lda, b, &ldb, &beta, c, &ldc)


def matmul(a, b):
    """a @ b, on the threads of this module rather than on those of BLAS.

    The longer side of the result is shared out, never the sum: the number of threads does not
    change the order of the additions.
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
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
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
    cdef int t
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        if N >= M:
            product_part(<real*> &a[0, 0], trans_a, lda, <real*> &b[0, 0], trans_b, ldb,
                         &out[0, 0], N, K, 0, M, N * t // threads, N * (t + 1) // threads)
        else:
            product_part(<real*> &a[0, 0], trans_a, lda, <real*> &b[0, 0], trans_b, ldb,
                         &out[0, 0], N, K, M * t // threads, M * (t + 1) // threads, 0, N)


cdef void product_part(real* a, char trans_a, int lda, real* b, char trans_b, int ldb,
                       real* out, int N, int K, int m0, int m1, int n0, int n1) noexcept nogil:
    """Rows m0 to m1 and columns n0 to n1 of out = a @ b."""
    if m1 <= m0 or n1 <= n0:
        return
    a += <Py_ssize_t> m0 * (lda if trans_a == c"N" else 1)
    b += <Py_ssize_t> n0 * (1 if trans_b == c"N" else ldb)
    # Row-major out = a @ b is column-major out.T = b.T @ a.T.
    gemm(trans_b, trans_a, n1 - n0, m1 - m0, K, b, ldb, a, lda, 0,
         out + <Py_ssize_t> m0 * N + n0, N)


# --- convolution, one image at a time -----------------------------------------------------------

cdef struct Geometry:
    int C, H, W, F, k, padding, stride, OH, OW


cdef Geometry geometry(int C, int H, int W, int F, int k, int padding, int stride):
    cdef Geometry g
    g.C, g.H, g.W, g.F = C, H, W, F
    g.k, g.padding, g.stride = k, padding, stride
    g.OH = output_size(H, k, padding, stride)
    g.OW = output_size(W, k, padding, stride)
    return g


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


def conv_forward(const real[:, :, :, ::1] x, const real[:, ::1] weights, const real[::1] bias,
                 int k, int padding, int stride):
    """Shapes: x (N, C, H, W), weights (F, C*k*k), bias (F,) -> (N, F, OH, OW)."""
    cdef Geometry g = geometry(x.shape[1], x.shape[2], x.shape[3], weights.shape[0], k, padding, stride)
    cdef Py_ssize_t N = x.shape[0]
    cdef int threads = <int> max(1, min(num_threads, N))
    cdef int t
    dtype = np.asarray(x).dtype
    out = np.empty((N, g.F, g.OH, g.OW), dtype)
    if N == 0:
        return out
    cdef real[:, :, :, ::1] out_view = out
    cdef real[:, ::1] columns = np.empty((threads, g.C * k * k * g.OH * g.OW), dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        forward_images(x, weights, bias, out_view, g,
                       N * t // threads, N * (t + 1) // threads, &columns[t, 0])
    return out


def conv_backward_inputs(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights, x_shape,
                         int k, int padding, int stride):
    """Shapes: grad_out (N, F, OH, OW), weights (F, C*k*k) -> x_shape (N, C, H, W)."""
    _, C, H, W = x_shape
    cdef Geometry g = geometry(C, H, W, weights.shape[0], k, padding, stride)
    cdef Py_ssize_t N = grad_out.shape[0]
    cdef int threads = <int> max(1, min(num_threads, N))
    cdef int t
    dtype = np.asarray(grad_out).dtype
    grad_x = np.zeros(x_shape, dtype)
    if N == 0:
        return grad_x
    cdef real[:, :, :, ::1] grad_x_view = grad_x
    cdef real[:, ::1] columns = np.empty((threads, g.C * k * k * g.OH * g.OW), dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        backward_inputs_images(grad_out, weights, grad_x_view, g,
                               N * t // threads, N * (t + 1) // threads, &columns[t, 0])
    return grad_x


def conv_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                         int k, int padding, int stride):
    """Shapes: grad_out (N, F, OH, OW), x (N, C, H, W) -> grads of weights (F, C*k*k), bias (F,)."""
    cdef Geometry g = geometry(x.shape[1], x.shape[2], x.shape[3], grad_out.shape[1], k, padding, stride)
    cdef Py_ssize_t N = x.shape[0]
    cdef int threads = <int> max(1, min(num_threads, N))
    cdef int t
    dtype = np.asarray(x).dtype
    # every thread adds up its own images; the parts are added in the order of the threads
    grad_weights = np.zeros((threads, g.F, g.C * k * k), dtype)
    grad_bias = np.zeros((threads, g.F), dtype)
    if N == 0:
        return grad_weights[0], grad_bias[0]
    cdef real[:, :, ::1] grad_weights_view = grad_weights
    cdef real[:, ::1] grad_bias_view = grad_bias
    cdef real[:, ::1] columns = np.empty((threads, g.C * k * k * g.OH * g.OW), dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        backward_params_images(grad_out, x, grad_weights_view[t], grad_bias_view[t], g,
                               N * t // threads, N * (t + 1) // threads, &columns[t, 0])
    return grad_weights.sum(axis=0), grad_bias.sum(axis=0)


# --- max pooling --------------------------------------------------------------------------------


cdef void pool_plane(const real* plane, int H, int W, int size, int stride, int OH, int OW,
                     real* out, offset* winner) noexcept nogil:
    cdef Py_ssize_t y, x, i, j
    cdef const real* window
    cdef real best, value
    cdef offset at
    for y in range(OH):
        for x in range(OW):
            window = plane + y * stride * W + x * stride
            best = window[0]
            at = 0
            for i in range(size):
                for j in range(size):
                    value = window[i * W + j]
                    if value > best or value != value:  # a NaN wins and stays
                        best = value
                        at = <offset> (i * size + j)
            out[y * OW + x] = best
            winner[y * OW + x] = at


def pool_forward(const real[:, :, :, ::1] x, int size, int stride, offset[:, :, :, ::1] winner):
    """Maximum of each window, and in `winner` its place i*size + j, the first one of a tie.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW), the shape of winner.
    """
    cdef int H = <int> x.shape[2], W = <int> x.shape[3]
    cdef int OH = <int> winner.shape[2], OW = <int> winner.shape[3]
    cdef Py_ssize_t C = x.shape[1]
    cdef Py_ssize_t num_planes = x.shape[0] * C
    cdef Py_ssize_t plane
    out = np.empty((x.shape[0], C, OH, OW), np.asarray(x).dtype)
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
    cdef int W = x_shape[3]
    cdef Py_ssize_t OH = grad_out.shape[2], OW = grad_out.shape[3]
    cdef Py_ssize_t C = grad_out.shape[1]
    cdef Py_ssize_t num_planes = grad_out.shape[0] * C
    cdef Py_ssize_t plane, n, c, y, x
    cdef offset at
    grad_x = np.zeros(x_shape, np.asarray(grad_out).dtype)
    cdef real[:, :, :, ::1] grad_x_view = grad_x
    for plane in prange(num_planes, nogil=True, schedule="static", num_threads=num_threads):
        n = plane // C
        c = plane % C
        for y in range(OH):
            for x in range(OW):
                at = winner[n, c, y, x]
                grad_x_view[n, c, y * stride + at // size, x * stride + at % size] += (
                    grad_out[n, c, y, x]
                )
    return grad_x
