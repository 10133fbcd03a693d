ctypedef fused real:
    float
    double

cdef int num_threads
cdef int instruction_set


cdef class Work:
    cdef char* memory
    cdef char* first
    cdef size_t stride
    cdef void* at(self, int part) noexcept nogil
