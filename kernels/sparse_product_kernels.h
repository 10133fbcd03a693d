/* A matrix product that leaves out the zeros of its left factor; vector_kernels.h reads this file for
   each SET and REAL.

   What has passed a ReLU, forward or backward, is zero by half. out (M, N) = a (M, K) @ b (K, N):
   each element of a that is not zero multiplies a row of b, so those of a row of a are listed, and
   a run of its outputs stays in registers while they pass by:

       a, row m       [ 0  u  0  0  v  0 ... ]     listed: (1, u), (4, v), ...
       out[m, n...] += u * b[1, n...], += v * b[4, n...], ...

   Of b, BLOCK rows of a run stay in the nearest cache while all rows of a pass by. Where b comes
   transposed, these are turned round first. The additions are in the order of the dense loops. */

#define WIDTH (SET == 3 ? 8 : 12) /* vectors of a row of b: 512 bytes at most */

/* Lists rows m0 to m1 of a: for block i of row m, entries begins[m, i] to begins[m, i + 1] of places
   and values, (M, K + 8) each. begins: (M, blocks + 1). row: memory for K elements. */
TARGET static void NAME(list_rows)(Product p, const REAL *a, int m0, int m1, int *begins, int *places,
                                   REAL *values, REAL *row)
{
    int blocks = (p.K + BLOCK - 1) / BLOCK;
    for (int m = m0; m < m1; m++) {
        const REAL *from = a + m * p.a_row;
        int *begin = begins + (ptrdiff_t)m * (blocks + 1), *place = places + (ptrdiff_t)m * (p.K + 8);
        REAL *value = values + (ptrdiff_t)m * (p.K + 8);
        if (p.a_col != 1) {
            for (int k = 0; k < p.K; k++) row[k] = from[k * p.a_col];
            from = row;
        }
        int found = 0;
        for (int i = 0; i < blocks; i++) {
            int k = i * BLOCK, size = p.K - k < BLOCK ? p.K - k : BLOCK;
            begin[i] = found;
            found += NAME(nonzeros)(from + k, size, place + found, value + found);
        }
        begin[blocks] = found;
    }
}

/* V vectors of a row of out: += each of n values times its row of b. */
INLINE TARGET void NAME(add_rows)(const int *places, const REAL *values, int n, const REAL *b,
                                  ptrdiff_t b_row, REAL *out, int is_first, const int V)
{
    NAME(vec) sums[WIDTH] = {0};
    if (!is_first)
        UNROLL for (int v = 0; v < V; v++) sums[v] = VECTOR(out + v * VL);
    for (int e = 0; e < n; e++) {
        const REAL *row = b + places[e] * b_row;
        ONE_ADDRESS(row);
        UNROLL for (int v = 0; v < V; v++) sums[v] += values[e] * VECTOR(row + v * VL);
    }
    UNROLL for (int v = 0; v < V; v++) VECTOR(out + v * VL) = sums[v];
}

/* Columns of out, p.N of them, a multiple of VL, from lists for all its p.M rows. b: (K, N), or (N, K)
   if is_transposed; turned: memory for BLOCK rows of 512 bytes. */
TARGET static void NAME(listed_product)(Product p, const int *begins, const int *places,
                                        const REAL *values, const REAL *b, int is_transposed,
                                        REAL *out, REAL *turned)
{
    int blocks = (p.K + BLOCK - 1) / BLOCK, vectors = p.N / VL, parts = (vectors + WIDTH - 1) / WIDTH;
    for (int part = 0; part < parts; part++) {
        int v = vectors * part / parts, V = vectors * (part + 1) / parts - v;
        for (int i = 0; i < blocks; i++) {
            int k = i * BLOCK, size = p.K - k < BLOCK ? p.K - k : BLOCK;
            const REAL *rows = b + k * p.b_row + v * VL;
            ptrdiff_t b_row = p.b_row;
            if (is_transposed) {
                NAME(transpose)(b + v * VL * b_row + k, b_row, V * VL, turned, V * VL, size);
                rows = turned, b_row = V * VL;
            }
            for (int m = 0; m < p.M; m++) {
                const int *begin = begins + (ptrdiff_t)m * (blocks + 1) + i;
                ptrdiff_t e = (ptrdiff_t)m * (p.K + 8) + begin[0];
                REAL *to = out + m * p.out_row + v * VL;
#define CASE(V) \
    case V: \
        if (V <= WIDTH) \
            NAME(add_rows)(places + e, values + e, begin[1] - begin[0], rows, b_row, to, i == 0, V); \
        break;
                switch (V) {
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
                    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
                }
#undef CASE
            }
        }
    }
}
#undef WIDTH
