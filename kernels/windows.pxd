# A window of k x k pixels on images (C, H, W), F filters of that size, and OH x OW positions.
cdef struct Geometry:
    Py_ssize_t C, H, W, F, k, padding, stride, OH, OW  # products of them outgrow an int

cdef Geometry geometry(int C, int H, int W, int F, int k, int padding, int stride) except *
