# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""The windows that slide over an image: how many there are."""


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


cdef Geometry geometry(int C, int H, int W, int F, int k, int padding, int stride) except *:
    cdef Geometry g
    g.C, g.H, g.W, g.F = C, H, W, F
    g.k, g.padding, g.stride = k, padding, stride
    g.OH = output_size(H, k, padding, stride)
    g.OW = output_size(W, k, padding, stride)
    return g
