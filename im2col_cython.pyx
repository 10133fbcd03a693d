# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""im2col: a convolution becomes one matrix product.

A filter of fh x fw pixels looks at one window of the image at a time. im2col copies every window
into a column of its own, so that one product applies all filters to all windows:

    one image (C, H, W), C = 1           its columns (C*fh*fw, OH*OW), for windows of 3 x 3

      0  0  0  0  0                        window   (0,0) (0,1) (0,2) (1,0) ...
      0  a  b  c  0                        pixel
      0  d  e  f  0    with padding 1      (0,0)      0     0     0     0
      0  g  h  i  0    ------------->      (0,1)      0     0     0     a
      0  0  0  0  0                        (0,2)      0     0     0     b
                                           (1,0)      0     a     b     0
      window (0,0) is  0 0 0               (1,1)      a     b     c     d
                       0 a b               (1,2)      b     c     0     e
                       0 d e               (2,0)      0     d     e     0
                                           (2,1)      d     e     f     g
                                           (2,2)      e     f     0     h

    forward:       output (F, OH*OW) = weights (F, C*fh*fw) @ columns
    backward:      grad_weights      = grad_output @ columns.T
                   grad_columns      = weights.T @ grad_output, and col2im adds each column back to
                                       the pixels that it was copied from

Every pixel is copied up to fh*fw times. That is the price for letting a matrix product do the work,
which libraries run near a processor's peak; fast_layers.py gets there without the copies. For N
images, a window has N columns, side by side.

Axes: N images, C channels, H, W rows and columns; fh, fw rows and columns of the window (the
field); OH, OW rows and columns of window positions.
Source: Chellapilla et al., High Performance Convolutional Neural Networks for Document Processing,
2006.
"""

import numpy as np

# Line 1 leaves out the checks of indices: a wrong one is no IndexError, it reads other memory.

ctypedef fused real:  # copy_windows and add_windows are compiled for each of these types
    float
    double


def im2col_cython(x, int field_height, int field_width, int padding, int stride):
    """Every window of every image as a column; outside of the image there are zeros.

    Shapes: x (N, C, H, W) -> (C*fh*fw, OH*OW*N). Row (c*fh + i)*fw + j holds the pixel at place
    (i, j) of the windows on channel c, column (y*OW + x)*N + n window (y, x) of image n.
    float32 and float64 stay, all else becomes float64.
    Raises: ValueError if x has another rank or no window fits.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"expected x of shape (N, C, H, W), got {x.shape}")
    N, C, H, W = x.shape
    OH = num_positions(H, field_height, padding, stride)
    OW = num_positions(W, field_width, padding, stride)
    # With the images as the last axis, what is copied at once lies side by side in memory.
    padded = np.zeros((C, H + 2 * padding, W + 2 * padding, N), x.dtype)
    padded[:, padding : padding + H, padding : padding + W] = x.transpose(1, 2, 3, 0)
    cols = np.empty((C * field_height * field_width, OH * OW * N), x.dtype)
    if x.dtype == np.float32:
        copy_windows[float](padded, cols, field_height, field_width, stride, OH, OW)
    else:
        copy_windows[double](padded, cols, field_height, field_width, stride, OH, OW)
    return cols


# real[:, ::1]: an array of two axes, without gaps along the last one; nogil: no Python objects here
cdef void copy_windows(const real[:, :, :, ::1] padded, real[:, ::1] cols,
                       int fh, int fw, int stride, int OH, int OW) noexcept nogil:
    cdef Py_ssize_t C = padded.shape[0], N = padded.shape[3]
    cdef Py_ssize_t c, i, j, y, x, n, row, column
    for c in range(C):
        for i in range(fh):
            for j in range(fw):
                row = (c * fh + i) * fw + j
                for y in range(OH):
                    for x in range(OW):
                        column = (y * OW + x) * N
                        for n in range(N):
                            cols[row, column + n] = padded[c, y * stride + i, x * stride + j, n]


def col2im_cython(cols, int N, int C, int H, int W,
                  int field_height, int field_width, int padding, int stride):
    """The adjoint (transpose) of im2col_cython, not its inverse: every column is added to the
    pixels that it was copied from.

    Where windows overlap a pixel gets the sum: it had a part in all of these outputs.
    Shapes: cols (C*fh*fw, OH*OW*N) -> (N, C, H, W). The type is treated as by im2col_cython.
    Raises: ValueError if cols has another shape or no window fits.
    """
    cols = np.ascontiguousarray(as_float(cols))
    OH = num_positions(H, field_height, padding, stride)
    OW = num_positions(W, field_width, padding, stride)
    expected = (C * field_height * field_width, OH * OW * N)
    if cols.shape != expected:
        raise ValueError(f"expected cols of shape {expected}, got {cols.shape}")
    padded = np.zeros((C, H + 2 * padding, W + 2 * padding, N), cols.dtype)
    if cols.dtype == np.float32:
        add_windows[float](cols, padded, field_height, field_width, stride, OH, OW)
    else:
        add_windows[double](cols, padded, field_height, field_width, stride, OH, OW)
    images = padded[:, padding : padding + H, padding : padding + W]  # what fell outside is dropped
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2))


cdef void add_windows(const real[:, ::1] cols, real[:, :, :, ::1] padded,
                      int fh, int fw, int stride, int OH, int OW) noexcept nogil:
    cdef Py_ssize_t C = padded.shape[0], N = padded.shape[3]
    cdef Py_ssize_t c, i, j, y, x, n, row, column
    for c in range(C):
        for i in range(fh):
            for j in range(fw):
                row = (c * fh + i) * fw + j
                for y in range(OH):
                    for x in range(OW):
                        column = (y * OW + x) * N
                        for n in range(N):
                            padded[c, y * stride + i, x * stride + j, n] += cols[row, column + n]


cdef as_float(array):
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


cdef num_positions(size, field, padding, stride):
    """How many windows of `field` pixels there are on `size` pixels: OH or OW."""
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
