from kernels.machine cimport real

cdef void gemm(char trans_a, char trans_b, int m, int n, int k, real* a, int lda,
               real* b, int ldb, real beta, real* c, int ldc) noexcept nogil
