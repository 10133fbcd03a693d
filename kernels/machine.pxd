ctypedef fused real:
    float
    double

cdef int num_threads
cdef int instruction_set
