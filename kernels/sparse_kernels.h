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

/* Bit e: whether element e of a vector is not zero. */
INLINE TARGET unsigned long long NAME(nonzero_bits)(const REAL *from)
{
#if SET == 3
    return _Generic((REAL)0,
        float: _mm512_cmp_ps_mask(_mm512_loadu_ps(from), _mm512_setzero_ps(), _CMP_NEQ_UQ),
        double: _mm512_cmp_pd_mask(_mm512_loadu_pd(from), _mm512_setzero_pd(), _CMP_NEQ_UQ));
#elif SET == 2
    return (unsigned)_Generic((REAL)0, float: _mm256_movemask_ps((__m256)(VECTOR(from) != 0)),
                              double: _mm256_movemask_pd((__m256d)(VECTOR(from) != 0)));
#elif defined(__x86_64__)
    return (unsigned)_Generic((REAL)0, float: _mm_movemask_ps((__m128)(VECTOR(from) != 0)),
                              double: _mm_movemask_pd((__m128d)(VECTOR(from) != 0)));
#else
    unsigned long long bits = 0;
    UNROLL for (int e = 0; e < VL; e++) bits |= (unsigned long long)(from[e] != 0) << e;
    return bits;
#endif
}

/* The indices of those of n elements that are not zero; returns how many. 64 elements make a word
   of bits, and of its set bits eight at a time are looked for, even if fewer are left: a branch that
   cannot be foretold would take longer. indices: memory for n + 8. */
INLINE TARGET int NAME(nonzeros)(const REAL *from, int n, int *indices)
{
    int found = 0;
    for (int first = 0; first < n; first += 64) {
        int end = n - first < 64 ? n - first : 64, e = 0;
        unsigned long long bits = 0;
        for (; e + VL <= end; e += VL) bits |= NAME(nonzero_bits)(from + first + e) << e;
        for (; e < end; e++) bits |= (unsigned long long)(from[first + e] != 0) << e;
        int *to = indices + found;
        found += __builtin_popcountll(bits);
        for (; to < indices + found; to += 8)
            UNROLL for (int b = 0; b < 8; b++, bits &= bits - 1)
                to[b] = first + __builtin_ctzll(bits | 1ull << 63);
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
        int n = NAME(nonzeros)(from, s.OH * s.OW, places);
        for (int e = 0; e < n; e++) {
            grads[e] = from[places[e]];
            places[e] = s.place_of[places[e]];
        }
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
   weights: (F, k, run), zero beyond k*C. counts: memory for F, begins for P + 2, indices, rows and
   grads for F*P + 8 elements each; P is (y1 - y0)*OW. */
TARGET static void NAME(sparse_inputs)(Sparse s, const REAL *grad_out, const REAL *weights, int y0,
                                       int y1, int *counts, int *begins, int *indices, int *rows,
                                       REAL *grads, REAL *x)
{
    int P = (y1 - y0) * s.OW, *list = indices;
    grad_out += y0 * s.OW;
    memset(begins, 0, (P + 2) * sizeof *begins);
    for (int f = 0; f < s.F; f++) {
        int n = NAME(nonzeros)(grad_out + (ptrdiff_t)f * s.OH * s.OW, P, list);
        for (int e = 0; e < n; e++) begins[list[e] + 2]++;
        counts[f] = n;
        list += n;
    }
    for (int p = 2; p < P + 2; p++) begins[p] += begins[p - 1];
    for (int f = 0; f < s.F; f++) {
        const REAL *from = grad_out + (ptrdiff_t)f * s.OH * s.OW;
        for (int e = 0; e < counts[f]; e++, indices++) {
            int at = begins[*indices + 1]++; /* in the end, where the next pixel begins */
            rows[at] = f * s.k * s.run;
            grads[at] = from[*indices];
        }
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
