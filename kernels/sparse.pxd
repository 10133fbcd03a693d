from kernels.machine cimport real
from kernels.windows cimport Geometry

cdef int skips_zeros

cdef Py_ssize_t count_nonzeros(const real* values, Py_ssize_t n)
cdef bint sparse_params_pay(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                            Geometry g)
cdef bint sparse_inputs_pay(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                            Geometry g)
cdef sparse_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                            Geometry g)
cdef void sparse_backward_inputs(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                                 real[:, :, :, ::1] grad_x, Geometry g)
