/* The grads of a convolution without multiplying by zero; vector_kernels.h reads this file for each
   SET and REAL.

   Behind max pooling of 2x2 at least three of four grads are zero, with ReLU seven of eight. Those
   that are not are listed once, and each is multiplied with what its window covers. The channels of
   a pixel lie side by side, so a row of the window is one run of k*C elements, many vectors wide:

       padded image, row y + i    . . . [ pixel x | pixel x + 1 | ... | pixel x + k-1 ] . . .
       grad g of filter f at y, x       [ - - - - - - - - - run of k*C - - - - - - - - ]

   Grad of the weights: row i of filter f's sums stays in registers while all grads of the filter
   pass by, and each adds g * the run under it. Order and bits are those of the dense loops.

   Grad of the inputs: the run of the target stays in registers while all grads at y, x, of whatever
   filter, pass by, and each adds g * row i of its filter. So here the list is sorted by pixels:

       begins   [ 0 | 2 | 2 | 3 ...       pixel 0 has entries 0 and 1, pixel 1 none, pixel 2 entry 2
       entries  [ f g | f g | f g ...

   If there are registers enough, several rows are worked on at once. Where k*C is no multiple of VL,
   the last vector of a run reaches beyond it: what it finds there is never read (weights), or it
   adds zero (inputs). Source: Gong et al., SparseTrain, 2020. */

/* Those of n elements that are not zero: their places and values; returns how many. No branch depends on
   them, for one that cannot be foretold would take longer. Eight floats make a byte of bits, for which
   place_table knows the order that brings those to the front:

       0 u 0 0 v w 0 0   bits 00110010   order 1 4 5 . . . . .   u v w . . . . .

   What is written behind them is overwritten by the next ones. places, values: memory for n + 8. */
INLINE TARGET int NAME(nonzeros)(const REAL *from, int n, int *places, REAL *values)
{
    int found = 0, p = 0;
#if SET >= 2
    for (; sizeof(REAL) == sizeof(float) && p + 8 <= n; p += 8) {
        __m256 eight = _mm256_loadu_ps((const float *)from + p);
        int bits = _mm256_movemask_ps(_mm256_cmp_ps(eight, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)place_table[bits]));
        _mm256_storeu_si256((__m256i *)(places + found), _mm256_add_epi32(order, _mm256_set1_epi32(p)));
        _mm256_storeu_ps((float *)values + found, _mm256_permutevar8x32_ps(eight, order));
        found += __builtin_popcount(bits);
    }
#endif
    for (; p < n; p++) {
        places[found] = p, values[found] = from[p];
        found += from[p] != 0;
    }
    return found;
}

typedef NAME(word) NAME(bools) __attribute__((vector_size(8 << SET))); /* -1: true, 0: false */

/* How many of n elements are not zero; -1 if one is not finite. */
TARGET static void NAME(count_nonzeros)(const REAL *from, ptrdiff_t n, ptrdiff_t *count)
{
    ptrdiff_t found = 0, p = 0;
    int finite = 1;
    for (; p + 64 * VL <= n; p += 64 * VL) {
        NAME(bools) zeros = {0}, ordinary = zeros - 1;
        for (int v = 0; v < 64; v++) {
            NAME(vec) vector = VECTOR(from + p + v * VL);
            zeros -= vector == 0;
            ordinary &= vector - vector == 0; /* a NaN where it is not finite */
        }
        found += 64 * VL;
        for (int e = 0; e < VL; e++) found -= (ptrdiff_t)zeros[e], finite &= ordinary[e] != 0;
    }
    for (; p < n; p++) found += from[p] != 0, finite &= from[p] - from[p] == 0;
    *count = finite ? found : -1;
}

/* An image (C, H, W) into the middle of a padded one (H, W, C). */
TARGET static void NAME(channels_last)(Sparse s, const REAL *image, REAL *padded)
{
    for (int y = 0; y < s.H; y++)
        NAME(transpose)(image + y * s.W, (ptrdiff_t)s.H * s.W, s.C,
                        padded + (y + s.padding) * s.row + s.padding * s.C, s.C, s.W);
}

/* Rows y0 to y1 of the way back. */
TARGET static void NAME(channels_first)(Sparse s, const REAL *padded, REAL *image, int y0, int y1)
{
    for (int y = y0; y < y1; y++)
        NAME(transpose)(padded + (y + s.padding) * s.row + s.padding * s.C, s.C, s.W,
                        image + y * s.W, (ptrdiff_t)s.H * s.W, s.C);
}

#define MOST_SUMS (SET == 3 ? 25 : 12) /* vectors that stay in registers, of several rows */
#define MOST_VECTORS 12                /* of a row */

/* Calls PART(i, v, I, V), I rows from row i on and of each V vectors from vector v on, for all k rows
   of run / VL vectors. The compiler sees I and V as constants. */
#define EACH_PART(PART, s) \
    for (int i = 0, I, vectors = s.run / VL; i < s.k; i += I) { \
        I = s.k - i >= 5 && 5 * vectors <= MOST_SUMS   ? 5 \
            : s.k - i >= 3 && 3 * vectors <= MOST_SUMS ? 3 \
                                                       : 1; \
        int parts = (vectors + MOST_VECTORS - 1) / MOST_VECTORS; \
        for (int part = 0; part < parts; part++) { \
            int v = vectors * part / parts, V = vectors * (part + 1) / parts - v; \
            switch (16 * I + V) { \
                CASE(PART, 1, 1) CASE(PART, 1, 2) CASE(PART, 1, 3) CASE(PART, 1, 4) \
                CASE(PART, 1, 5) CASE(PART, 1, 6) CASE(PART, 1, 7) CASE(PART, 1, 8) \
                CASE(PART, 1, 9) CASE(PART, 1, 10) CASE(PART, 1, 11) CASE(PART, 1, 12) \
                CASE(PART, 3, 1) CASE(PART, 3, 2) CASE(PART, 3, 3) CASE(PART, 3, 4) \
                CASE(PART, 3, 5) CASE(PART, 3, 6) CASE(PART, 3, 7) CASE(PART, 3, 8) \
                CASE(PART, 5, 1) CASE(PART, 5, 2) CASE(PART, 5, 3) CASE(PART, 5, 4) \
                CASE(PART, 5, 5) \
            } \
        } \
    }
#define CASE(PART, I, V) \
    case 16 * I + V: \
        if (I * V <= MOST_SUMS) PART(i, v, I, V); \
        break;

/* sums[i] += g * x[y + i, x...] for each of n grads g, and grad_bias += g; places: where in x their
   windows begin. */
INLINE TARGET void NAME(sparse_sums)(Sparse s, const REAL *x, const int *places, const REAL *grads,
                                     int n, REAL *grad_weights, REAL *grad_bias, const int I,
                                     const int V)
{
    REAL sum = *grad_bias;
    NAME(vec) sums[5][MOST_VECTORS];
    UNROLL for (int i = 0; i < I; i++)
        UNROLL for (int v = 0; v < V; v++) sums[i][v] = VECTOR(grad_weights + i * s.run + v * VL);
    for (int e = 0; e < n; e++) {
        const REAL *under = x + places[e];
        ONE_ADDRESS(under);
        sum += grads[e];
        UNROLL for (int i = 0; i < I; i++)
            UNROLL for (int v = 0; v < V; v++)
                sums[i][v] += grads[e] * VECTOR(under + i * s.row + v * VL);
    }
    UNROLL for (int i = 0; i < I; i++)
        UNROLL for (int v = 0; v < V; v++) VECTOR(grad_weights + i * s.run + v * VL) = sums[i][v];
    *grad_bias = sum;
}

/* What filters f0 to f1 of a padded image x, channels last, add to the grads of weights, (F, k, run),
   and bias, (F,). places, grads: memory for OH*OW + 8. */
TARGET static void NAME(sparse_params)(Sparse s, const REAL *x, const REAL *grad_out, int f0,
                                       int f1, int *places, REAL *grads, REAL *grad_weights,
                                       REAL *grad_bias)
{
    REAL ignored = 0;
    for (int f = f0; f < f1; f++) {
        const REAL *from = grad_out + (ptrdiff_t)f * s.OH * s.OW;
        REAL *to = grad_weights + (ptrdiff_t)f * s.k * s.run;
        int n = NAME(nonzeros)(from, s.OH * s.OW, places, grads);
        for (int e = 0; e < n; e++) places[e] = s.place_of[places[e]];
#define PART(i, v, I, V) \
    NAME(sparse_sums)(s, x + i * s.row + v * VL, places, grads, n, to + i * s.run + v * VL, \
                      i + v == 0 ? grad_bias + f : &ignored, I, V)
        EACH_PART(PART, s)
#undef PART
    }
}

/* x[y + i, x...] += g * row i of the weights, for each of the grads at each of P pixels. */
INLINE TARGET void NAME(sparse_runs)(Sparse s, const int *place_of, int P, const int *begins,
                                     const int *rows, const REAL *grads, const REAL *weights,
                                     REAL *x, const int I, const int V)
{
    NAME(vec) sums[5][MOST_VECTORS];
    for (int p = 0; p < P; p++) {
        if (begins[p] == begins[p + 1]) continue;
        REAL *to = x + place_of[p];
        UNROLL for (int i = 0; i < I; i++)
            UNROLL for (int v = 0; v < V; v++) sums[i][v] = VECTOR(to + i * s.row + v * VL);
        for (int e = begins[p]; e < begins[p + 1]; e++) {
            const REAL *row = weights + rows[e];
            ONE_ADDRESS(row);
            UNROLL for (int i = 0; i < I; i++)
                UNROLL for (int v = 0; v < V; v++)
                    sums[i][v] += grads[e] * VECTOR(row + i * s.run + v * VL);
        }
        UNROLL for (int i = 0; i < I; i++)
            UNROLL for (int v = 0; v < V; v++) VECTOR(to + i * s.row + v * VL) = sums[i][v];
    }
}

/* What rows y0 to y1 of the grads of an image add to the padded grad of its input, x, channels last.
   weights: (F, k, run), zero beyond k*C. counts: memory for F, begins for P + 2, places, values, rows
   and grads for F*P + 8 elements each; P is (y1 - y0)*OW. */
TARGET static void NAME(sparse_inputs)(Sparse s, const REAL *grad_out, const REAL *weights, int y0,
                                       int y1, int *counts, int *begins, int *places, REAL *values,
                                       int *rows, REAL *grads, REAL *x)
{
    int P = (y1 - y0) * s.OW, found = 0, e = 0;
    grad_out += y0 * s.OW;
    memset(begins, 0, (P + 2) * sizeof *begins);
    for (int f = 0; f < s.F; f++) {
        found += NAME(nonzeros)(grad_out + (ptrdiff_t)f * s.OH * s.OW, P, places + found, values + found);
        counts[f] = found;
    }
    for (; e < found; e++) begins[places[e] + 2]++;
    for (int p = 2; p < P + 2; p++) begins[p] += begins[p - 1];
    e = 0;
    for (int f = 0; f < s.F; f++)
        for (; e < counts[f]; e++) {
            int at = begins[places[e] + 1]++; /* in the end, where the next pixel begins */
            rows[at] = f * s.k * s.run;
            grads[at] = values[e];
        }
#define PART(i, v, I, V) \
    NAME(sparse_runs)(s, s.place_of + y0 * s.OW, P, begins, rows, grads, \
                      weights + i * s.run + v * VL, x + i * s.row + v * VL, I, V)
    EACH_PART(PART, s)
#undef PART
}
#undef MOST_SUMS
#undef MOST_VECTORS
#undef EACH_PART
#undef CASE
