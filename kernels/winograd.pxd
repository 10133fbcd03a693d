from kernels.windows cimport Geometry

cdef bint winograd_pays(Geometry g, Py_ssize_t N)
cdef void winograd_forward(const float[:, :, :, ::1] x, const float[:, ::1] weights,
                           const float[::1] bias, float[:, :, :, ::1] out, Geometry g)
