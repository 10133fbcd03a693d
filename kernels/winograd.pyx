# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""Forward through 5x5 filters at stride 1 in float32, by Winograd's way: 36 products, not 100.

winograd_kernels.h has the loops and a picture. What it costs is digits. The error of an output is
at most 50 * eps * (|bias| + sum over c of the largest |pixel| of channel c times sum |weights| on
it), eps = 2^-23; 8 is the most that was met, directly 1. set_winograd("never") goes back to the
direct way.
Infinity and NaN make NaNs of all outputs of the tiles that they touch; so do pixels above 1e36.
"""

import numpy as np

from cython.parallel cimport prange

from kernels.machine cimport instruction_set, num_threads
from kernels.windows cimport Geometry

from kernels.machine import empty, zeros

cdef extern from "vector_kernels.h" nogil:
    ctypedef struct Winograd:
        int C, Cp, F, Fp, H, W, padding, OH, OW
    int block_size(int, int itemsize)
    void winograd_pad_float(int, Winograd, const float* image, float* padded)
    void winograd_float(int, Winograd, const float* x, const float* filters, const float* bias,
                        float* out, int t0, int t1, float* values, float* products, float* rows)

cdef enum:
    # measured: for fewer, or fewer outputs, what is done to tiles and filters takes what it saves
    FEWEST = 8  # channels, and filters
    FEWEST_PAIRS = 128  # of a channel and a filter
    FEWEST_OUTPUTS = 2000  # of a filter
    CACHE = 200_000  # bytes for the values of tiles at work

# taps of a filter to its values at 0, 1, -1, 2, -2 and infinity, scaled
G = np.array([
    [6, 0, 0, 0, 0], [-4, -4, -4, -4, -4], [-4, 4, -4, 4, -4],
    [1, 2, 4, 8, 16], [1, -2, 4, -8, 16], [0, 0, 0, 0, 24],
]) / 24
G_IN_BOTH_DIRECTIONS = np.kron(G, G)  # (36, 25)

WHEN = ("never", "where it pays", "always")
cdef int takes_it = 1  # which of them


def set_winograd(when):
    """When 5x5 filters go Winograd's way: "never", which is exacter, "where it pays" or "always".

    Other filters and strides, float64 and instruction set "none" never do.
    Raises: ValueError for another word.
    """
    global takes_it
    if when not in WHEN:
        raise ValueError(f"expected one of {', '.join(WHEN)}, got {when!r}")
    takes_it = WHEN.index(when)


cdef bint winograd_pays(Geometry g, Py_ssize_t N):
    """Whether to take it: what sizes say, never timing."""
    cdef bint pays = min(g.C, g.F) >= FEWEST and g.C * g.F >= FEWEST_PAIRS and (
        min(g.OH, g.OW) > 1 and N * g.OH * g.OW >= FEWEST_OUTPUTS
    )
    return g.k == 5 and (takes_it == 2 or takes_it == 1 and pays)


cdef void winograd_forward(const float[:, :, :, ::1] x, const float[:, ::1] weights,
                           const float[::1] bias, float[:, :, :, ::1] out, Geometry g):
    """The rows of tiles of all images, one below the other, are shared out among the threads."""
    cdef Winograd w
    cdef int block = block_size(instruction_set, sizeof(float))
    w.C, w.F, w.H, w.W, w.padding, w.OH, w.OW = g.C, g.F, g.H, g.W, g.padding, g.OH, g.OW
    w.Cp = (g.C + block - 1) // block * block
    w.Fp = (g.F + block - 1) // block * block
    cdef Py_ssize_t TH = (g.OH + 1) // 2
    cdef Py_ssize_t TW = (g.OW + 1) // 2
    cdef Py_ssize_t at_once = max(1, CACHE // (36 * 4 * (w.Cp + w.Fp) * TW))  # rows of tiles
    cdef Py_ssize_t num_rows = x.shape[0] * TH
    cdef int threads = <int> min(num_threads, num_rows)
    cdef int t
    filters = zeros((36, g.C, w.Fp), np.float32)
    taps = np.asarray(weights, np.float64).reshape(g.F * g.C, 25)
    with np.errstate(all="ignore"):  # weights that are not finite give a NaN, without a warning
        values = (G_IN_BOTH_DIRECTIONS @ taps.T).reshape(36, g.F, g.C)
        filters[:, :, : g.F] = values.transpose(0, 2, 1)
    padded_bias = zeros((w.Fp,), np.float32)
    padded_bias[: g.F] = bias
    cdef float[:, :, ::1] filters_view = filters
    cdef float[::1] bias_view = padded_bias
    cdef float[:, ::1] padded = zeros((threads, (2 * TH + 4) * (2 * TW + 4) * w.Cp), np.float32)
    cdef float[:, ::1] tiles = empty((threads, 36 * at_once * TW * w.Cp), np.float32)
    cdef float[:, ::1] products = empty((threads, 36 * at_once * TW * w.Fp), np.float32)
    cdef float[:, ::1] rows = empty(
        (threads, max(6 * (2 * TW + 4) * block, 4 * TW * w.Fp)), np.float32
    )
    for t in prange(threads, nogil=True, schedule="static", num_threads=threads):
        rows_of_tiles(&x[0, 0, 0, 0], &filters_view[0, 0, 0], &bias_view[0], &out[0, 0, 0, 0], w,
                      TH, at_once, num_rows * t // threads, num_rows * (t + 1) // threads,
                      &padded[t, 0], &tiles[t, 0], &products[t, 0], &rows[t, 0])


cdef void rows_of_tiles(const float* x, const float* filters, const float* bias, float* out,
                        Winograd w, Py_ssize_t TH, Py_ssize_t at_once, Py_ssize_t first,
                        Py_ssize_t last, float* padded, float* tiles, float* products,
                        float* rows) noexcept nogil:
    cdef Py_ssize_t n
    cdef int t0, t1, end
    for n in range(first // TH, (last - 1) // TH + 1):
        winograd_pad_float(instruction_set, w, x + n * w.C * w.H * w.W, padded)
        t0 = <int> max(0, first - n * TH)
        end = <int> min(TH, last - n * TH)
        while t0 < end:
            t1 = <int> min(t0 + at_once, end)
            winograd_float(instruction_set, w, padded, filters, bias,
                           out + n * w.F * w.OH * w.OW, t0, t1, tiles, products, rows)
            t0 = t1
