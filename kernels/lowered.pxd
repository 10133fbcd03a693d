from kernels.machine cimport real
from kernels.windows cimport Geometry

cdef void lowered_forward(const real[:, :, :, ::1] x, const real[:, ::1] weights,
                          const real[::1] bias, real[:, :, :, ::1] out, Geometry g)
cdef void lowered_backward_inputs(const real[:, :, :, ::1] grad_out, const real[:, ::1] weights,
                                  real[:, :, :, ::1] grad_x, Geometry g)
cdef lowered_backward_params(const real[:, :, :, ::1] grad_out, const real[:, :, :, ::1] x,
                             Geometry g)
