# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Convolution, lowered to a matrix product or done directly, and the other loops of the layers.

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
copies of every pixel then, far more than the cache holds. The convolution below therefore lowers
one image at a time, straight before the product that needs it. At stride 1, which is nearly always,
it does better still, and does not lower at all: it keeps a few outputs in the processor's registers
while pixels and weights stream by. vector_kernels.h has those loops and a picture of them.

Threads: the batch is cut into as many parts as there are threads, part t of T from t*N//T up to
(t+1)*N//T, whatever the timing. So the same number of threads gives the same bits.

Axes: N images, C channels, H, W rows and columns; F filters; OH, OW output rows and columns.
"""

import operator
import os

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, sgemm

ctypedef fused real:
    float
    double

ctypedef unsigned char uchar

ctypedef fused offset:
    uchar
    int

cdef enum:
    CACHE_LINE = 64  # bytes
    MANY = 16384  # elements: for fewer, waking up the other threads takes longer than it saves


# --- threads ------------------------------------------------------------------------------------

cdef extern from *:
    """
    #ifdef _OPENMP
    #define HAS_OPENMP 1
    #else
    #define HAS_OPENMP 0
    #endif
    """
    const bint HAS_OPENMP  # else prange is a plain loop, and there is one thread

# GNU's OpenMP runs out of stack, or ends the process, where it cannot start that many
MAX_THREADS = max(256, os.cpu_count() or 1)

cdef bint has_one_thread = not HAS_OPENMP
# all the processors this process may use, until set_num_threads says otherwise
cdef int num_threads = 1
if HAS_OPENMP:
    num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1
    )


def _after_fork():
    """One thread from now on: a forked process does not have the others, but OpenMP would wait for
    them for ever.
    """
    global num_threads, has_one_thread
    num_threads, has_one_thread = 1, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads():
    """Number of threads the kernels share a batch among."""
    return num_threads


def set_num_threads(threads):
    """Share every batch among `threads` threads from now on.

    Built without OpenMP, or forked, as multiprocessing may do, a process has one thread whatever is
    asked for.
    Raises: ValueError unless threads is from 1 to MAX_THREADS.
    """
    global num_threads
    threads = operator.index(threads)
    if threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads}")
    if threads > MAX_THREADS:
        raise ValueError(f"expected at most {MAX_THREADS} threads, got {threads}")
    num_threads = 1 if has_one_thread else threads


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


def empty(shape, dtype):
    """np.empty that begins with a line of the cache: a vector that straddles two takes longer."""
    dtype = np.dtype(dtype)
    cdef Py_ssize_t size = dtype.itemsize
    for length in shape:
        size *= length
    memory = np.empty(size + CACHE_LINE, np.uint8)
    cdef unsigned char[::1] view = memory
    cdef Py_ssize_t start = (-(<Py_ssize_t> &view[0])) & (CACHE_LINE - 1)
    return memory[start : start + size].view(dtype).reshape(shape)


def zeros(shape, dtype):
    """np.zeros, as empty."""
    out = empty(shape, dtype)
    out[...] = 0
    return out


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


# --- vector kernels -----------------------------------------------------------------------------

cdef extern from "vector_kernels.h" nogil:
    ctypedef struct Direct:
        int C, k, F, OH, OW
        ptrdiff_t row, plane
    ctypedef struct Product:
        int M, N, K
        ptrdiff_t a_row, a_col, b_row, out_row
    const char* instruction_set_names[4]
    int best_instruction_set()
    int block_size(int, int itemsize)
    void direct_rows_float(int, Direct, const float* x, const float* packed, const float* bias,
                           float* out, int y0, int y1)
    void direct_rows_double(int, Direct, const double* x, const double* packed, const double* bias,
                            double* out, int y0, int y1)
    void direct_grads_float(int, Direct, const float* x, const float* grad_out, float* blocked,
                            float* grad_weights, float* grad_bias)
    void direct_grads_double(int, Direct, const double* x, const double* grad_out, double* blocked,
                             double* grad_weights, double* grad_bias)
    void product_float(int, Product, const float* a, const float* b, float* out)
    void product_double(int, Product, const double* a, const double* b, double* out)
    void dots_float(int, Product, const float* a, const float* b, float* out)
    void dots_double(int, Product, const double* a, const double* b, double* out)
    void pool_pairs_float(int, const float* high, const float* low, float* out,
                          unsigned char* winner, int n)
    void pool_pairs_double(int, const double* high, const double* low, double* out,
                           unsigned char* winner, int n)
    void unpool_pairs_float(int, const float* grad_out, const unsigned char* winner, float* high,
                            float* low, int n)
    void unpool_pairs_double(int, const double* grad_out, const unsigned char* winner,
                             double* high, double* low, int n)

cdef int instruction_set = best_instruction_set()


def instruction_sets():
    """Names of the instruction sets that this processor has vector kernels for.

    'none' comes first: every product is left to BLAS, every image is lowered. The last one is the
    best.
    """
    return [instruction_set_names[i].decode() for i in range(best_instruction_set() + 1)]


def get_instruction_set():
    """Name of the instruction set in use; the best one, until set_instruction_set says otherwise."""
    return instruction_sets()[instruction_set]


def set_instruction_set(name):
    """Use another one of instruction_sets() from now on.

    Raises: ValueError if this processor does not have it.
    """
    global instruction_set
    if name not in instruction_sets():
        raise ValueError(f"expected one of {', '.join(instruction_sets())}, got {name!r}")
    instruction_set = instruction_sets().index(name)


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


# --- convolution --------------------------------------------------------------------------------

cdef struct Geometry:
    int C, H, W, F, k, padding, stride, OH, OW


cdef Geometry geometry(int C, int H, int W, int F, int k, int padding, int stride):
    cdef Geometry g
    g.C, g.H, g.W, g.F = C, H, W, F
    g.k, g.padding, g.stride = k, padding, stride
    g.OH = output_size(H, k, padding, stride)
    g.OW = output_size(W, k, padding, stride)
    return g


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
    if is_direct(g):
        packed = new_blocks(g.F, g.C * k * k, out.dtype)
        pack[real](weights, False, packed, g.F, k)
        packed_bias = new_blocks(g.F, 1, out.dtype)
        pack[real](np.asarray(bias).reshape(-1, 1), False, packed_bias, g.F, 1)
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
    if is_direct(g):
        return direct_backward_params(grad_out, x, g)
    return lowered_backward_params(grad_out, x, g)


# --- convolution, directly ----------------------------------------------------------------------


cdef void pack(const real[:, ::1] weights, bint turned, real[:, :, ::1] packed, int F, int k):
    """Weights as the kernels want them: (blocks of filters, C*k*k, filters of the block).

    turned: every filter by 180 degrees, and filters and channels exchanged.
    """
    cdef Py_ssize_t taps = k * k, block = packed.shape[2]
    cdef Py_ssize_t C = packed.shape[1] // taps
    cdef Py_ssize_t f, c, t
    cdef real* target
    for f in range(F):
        target = &packed[f // block, 0, f % block]
        for c in range(C):
            for t in range(taps):
                if turned:
                    target[(c * taps + taps - 1 - t) * block] = weights[c, f * taps + t]
                else:
                    target[(c * taps + t) * block] = weights[f, c * taps + t]


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
    cdef real[:, ::1] padded = zeros((threads, g.C * direct(g).plane), np.asarray(x).dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        correlate_rows(&x[0, 0, 0, 0], &packed[0, 0, 0], &bias[0, 0, 0], &out[0, 0, 0, 0], g,
                       num_rows * t // threads, num_rows * (t + 1) // threads, &padded[t, 0])


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
    cdef real[:, ::1] padded = zeros((threads, g.C * direct(g).plane), dtype)
    cdef real[:, ::1] blocked = empty((threads, 2 * g.OH * g.OW * block), dtype)
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        grads_of_images(&grad_out[0, 0, 0, 0], &x[0, 0, 0, 0], g, N * t // threads,
                        N * (t + 1) // threads, &padded[t, 0], &blocked[t, 0],
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


# --- convolution, lowered: any stride and padding, any compiler ---------------------------------


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


# --- max pooling --------------------------------------------------------------------------------


cdef inline void pool_window(const real* window, Py_ssize_t W, int size,
                             real* best, offset* winner) noexcept nogil:
    """The maximum of a window of an image W wide, and the first place i*size + j that has it."""
    cdef Py_ssize_t i, j
    cdef real value
    best[0] = window[0]
    winner[0] = 0
    for i in range(size):
        for j in range(size):
            value = window[i * W + j]
            if value > best[0] or value != value:  # a NaN wins and stays
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


# --- rectified linear units ---------------------------------------------------------------------

cdef extern from "vector_kernels.h" nogil:
    void relu_forward_float(const float* x, float* out, unsigned char* positive, ptrdiff_t n)
    void relu_forward_double(const double* x, double* out, unsigned char* positive, ptrdiff_t n)
    void relu_backward_float(const float* grad_out, const unsigned char* positive, float* grad_x,
                             ptrdiff_t n)
    void relu_backward_double(const double* grad_out, const unsigned char* positive,
                              double* grad_x, ptrdiff_t n)


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
