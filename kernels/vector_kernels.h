/* The innermost loops of convolution, matrix products, pooling and ReLU, in C for what Cython cannot say:
   vectors of a chosen length, and one version of a function for each instruction set.

   Direct convolution, at stride 1 and without a matrix of columns.

   Forward: a tile of the output is T neighbouring pixels of a row times a block of VL filters, and
   stays in T registers until it is finished. One weight of each filter of the block makes a vector;
   with it, T neighbouring pixels of the input are multiplied, one for each register. Where there are
   filters enough, a tile is two blocks wide: every pixel that is loaded is then used twice.

       padded image, channel c, row y + i           packed weights, row (c*k + i)*k + j
       . . . p[0] p[1] ... p[T-1] . . .             [ filter 0 | filter 1 | ... | filter VL-1 ]
             |
             at x + j                               tile[t] += p[t] * that row

   The grad of the input is the same convolution: of the grad of the output, with every filter
   turned by 180 degrees, and with the roles of filters and channels exchanged.

   For the grad of the weights, those of I x J filter positions stay in registers while all pixels
   pass by: taps[i][j] += x[y + i, x + j] * [ grad of filter 0 | ... | grad of filter VL-1 ].

   Matrix products, of a (M, K) and b. Again a tile of the result stays in registers, ROWS rows times
   COLUMNS vectors. Where the rows of b are k's, a vector runs along such a row; where b is
   transposed, a vector runs along k in both, and its elements are added up at the end:

       product: tile[m][n..n+VL-1] += a[m, k] * b[k, n..n+VL-1]              b (K, N)
       dots:    tile[m][n]         += a[m, k..k+VL-1] * b[n, k..k+VL-1]      b (N, K)

   The vectors are those of GCC and Clang. This file includes itself once for each instruction set
   and type; which of the sets is used is decided at run time, see instruction_sets.h. Another compiler
   must do with BLAS.
   Source: Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD
   Architectures, 2018; Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication,
   2008. */

#ifndef REAL /* --- read once ---------------------------------------------------------------------- */

#include <stddef.h>
#include <string.h>

#include "instruction_sets.h"

/* A convolution of padded images; row and plane: elements from a row or channel to the next. */
typedef struct {
    int C, k, F, OH, OW;
    ptrdiff_t row, plane;
} Direct;

/* out (M, N) = a (M, K) @ b. a[m, k] is at a[m*a_row + k*a_col]; out's rows are contiguous, and
   those of b, which are k's for product and columns of out for dots. */
typedef struct {
    int M, N, K;
    ptrdiff_t a_row, a_col, b_row, out_row;
} Product;

/* A convolution of images whose channels lie side by side. row: elements from a row of the padded image
   to the next; run: k*C, rounded up to whole vectors; place_of: where in the padded image the window of
   each output, (OH, OW), begins. */
typedef struct {
    int C, H, W, F, k, padding, OH, OW, run;
    ptrdiff_t row;
    const int *place_of;
} Sparse;

/* A convolution of 5x5; Cp and Fp: C and F rounded up to whole vectors. */
typedef struct {
    int C, Cp, F, Fp, H, W, padding, OH, OW;
} Winograd;

#define BLOCK 64 /* rows of the right factor that a product without zeros keeps at hand */

/* Filters in a block: elements in a vector of 16, 32 or 64 bytes. */
static inline int block_size(int instruction_set, int itemsize) { return (8 << instruction_set) / itemsize; }

#ifdef VECTORS
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define SHUFFLE(u, v, ...) __builtin_shufflevector(u, v, __VA_ARGS__)
#define RELOAD
#else
#define UNROLL _Pragma("GCC unroll 16")
#define SHUFFLE(u, v, ...) __builtin_shuffle(u, v, (NAME(mask)){__VA_ARGS__})
/* GCC keeps pixels in registers for the next turn of a loop, and then must spread them over a vector
   in the unit that also multiplies; loading them again is free. */
#define RELOAD __attribute__((optimize("no-predictive-commoning")))
#endif
/* Lets the compiler take constant distances from a pointer, which are free, not an index for each. */
#define ONE_ADDRESS(pointer) __asm__("" : "+r"(pointer))
/* The places of the bits of a byte that are set, in order; filled when a module is loaded. */
static unsigned char place_table[256][8];
static inline void fill_place_table(void)
{
    for (int bits = 0; bits < 256; bits++)
        for (int place = 0, found = 0; place < 8; place++)
            if (bits >> place & 1) place_table[bits][found++] = (unsigned char)place;
}
typedef unsigned char four_places __attribute__((vector_size(4), aligned(1), may_alias));
#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define NAME(function) JOIN(function, REAL, SET) /* tile_float_3 for example */

#define SET 1
#define TARGET
#define REAL float
#include "vector_kernels.h"
#undef REAL
#define REAL double
#include "vector_kernels.h"
#undef REAL
#undef SET
#undef TARGET

#ifdef __x86_64__
#define SET 2
#define TARGET __attribute__((target("avx2,fma,bmi,popcnt"))) RELOAD
#define REAL float
#include "vector_kernels.h"
#undef REAL
#define REAL double
#include "vector_kernels.h"
#undef REAL
#undef SET
#undef TARGET

#define SET 3
#define TARGET __attribute__((target("avx512f,avx512vl,fma,bmi,popcnt"))) RELOAD
#define REAL float
#include "vector_kernels.h"
#undef REAL
#define REAL double
#include "vector_kernels.h"
#undef REAL
#undef SET
#undef TARGET
#endif

#else
static inline void fill_place_table(void) {}
#endif /* VECTORS */

#if defined(VECTORS) && defined(__x86_64__)
#define CALL(function, real, set, ...) \
    if (set == 3) function##_##real##_3(__VA_ARGS__); \
    else if (set == 2) function##_##real##_2(__VA_ARGS__); \
    else function##_##real##_1(__VA_ARGS__)
#elif defined(VECTORS)
#define CALL(function, real, set, ...) function##_##real##_1(__VA_ARGS__)
#else
#define CALL(function, real, set, ...) (void)0
#define restrict __restrict
#endif

/* Each calls the function of the given instruction set, see below; direct_rows is rows there, and
   direct_grads grads.
   relu_*: plain loops, which every compiler turns into vectors if the arrays do not overlap. */
#define FUNCTIONS(real) \
    static inline void direct_rows_##real(int set, Direct d, const real *x, const real *packed, \
                                   const real *bias, real *out, int y0, int y1) \
    { \
        CALL(rows, real, set, d, x, packed, bias, out, y0, y1); \
    } \
    static inline void turn_##real(int set, const real *from, ptrdiff_t from_stride, int rows, \
                                   real *to, ptrdiff_t to_stride, int columns) \
    { \
        CALL(turn, real, set, from, from_stride, rows, to, to_stride, columns); \
    } \
    static inline void direct_grads_##real(int set, Direct d, const real *x, const real *grad_out, \
                                    real *blocked, real *grad_weights, real *grad_bias) \
    { \
        CALL(grads, real, set, d, x, grad_out, blocked, grad_weights, grad_bias); \
    } \
    static inline void count_nonzeros_##real(int set, const real *from, ptrdiff_t n, ptrdiff_t *count) \
    { \
        CALL(count_nonzeros, real, set, from, n, count); \
    } \
    static inline void channels_last_##real(int set, Sparse s, const real *image, real *padded) \
    { \
        CALL(channels_last, real, set, s, image, padded); \
    } \
    static inline void channels_first_##real(int set, Sparse s, const real *padded, real *image, \
                                      int y0, int y1) \
    { \
        CALL(channels_first, real, set, s, padded, image, y0, y1); \
    } \
    static inline void sparse_params_##real(int set, Sparse s, const real *x, const real *grad_out, \
                                     int f0, int f1, int *places, real *grads, \
                                     real *grad_weights, real *grad_bias) \
    { \
        CALL(sparse_params, real, set, s, x, grad_out, f0, f1, places, grads, grad_weights, grad_bias); \
    } \
    static inline void sparse_inputs_##real(int set, Sparse s, const real *grad_out, \
                                     const real *weights, int y0, int y1, int *counts, int *begins, \
                                     int *places, real *values, int *rows, real *grads, real *x) \
    { \
        CALL(sparse_inputs, real, set, s, grad_out, weights, y0, y1, counts, begins, places, values, \
             rows, grads, x); \
    } \
    static inline void product_##real(int set, Product p, const real *a, const real *b, real *out) \
    { \
        CALL(product, real, set, p, a, b, out); \
    } \
    static inline void dots_##real(int set, Product p, const real *a, const real *b, real *out) \
    { \
        CALL(dots, real, set, p, a, b, out); \
    } \
    static inline void list_rows_##real(int set, Product p, const real *a, int m0, int m1, \
                                        int *begins, int *places, real *values, real *row) \
    { \
        CALL(list_rows, real, set, p, a, m0, m1, begins, places, values, row); \
    } \
    static inline void listed_product_##real(int set, Product p, const int *begins, \
                                             const int *places, const real *values, const real *b, \
                                             int is_transposed, real *out, real *turned) \
    { \
        CALL(listed_product, real, set, p, begins, places, values, b, is_transposed, out, turned); \
    } \
    static inline void winograd_pad_##real(int set, Winograd w, const real *image, real *padded) \
    { \
        CALL(winograd_pad, real, set, w, image, padded); \
    } \
    static inline void winograd_##real(int set, Winograd w, const real *x, const real *filters, \
                                const real *bias, real *out, int t0, int t1, real *values, \
                                real *products, real *rows) \
    { \
        CALL(winograd, real, set, w, x, filters, bias, out, t0, t1, values, products, rows); \
    } \
    static inline void pool_pairs_##real(int set, const real *high, const real *low, real *out, \
                                  unsigned char *winner, int n) \
    { \
        CALL(pool_pairs, real, set, high, low, out, winner, n); \
    } \
    static inline void unpool_pairs_##real(int set, const real *grad_out, const unsigned char *winner, \
                                    real *high, real *low, int n) \
    { \
        CALL(unpool_pairs, real, set, grad_out, winner, high, low, n); \
    } \
    static inline void relu_forward_##real(const real *restrict x, real *restrict out, \
                                    unsigned char *restrict positive, ptrdiff_t n) \
    { \
        for (ptrdiff_t i = 0; i < n; i++) { \
            real value = x[i]; \
            out[i] = value <= 0 ? 0 : value; \
            positive[i] = value > 0; \
        } \
    } \
    static inline void relu_backward_##real(const real *restrict grad_out, \
                                     const unsigned char *restrict positive, \
                                     real *restrict grad_x, ptrdiff_t n) \
    { \
        for (ptrdiff_t i = 0; i < n; i++) { \
            real value = grad_out[i]; \
            grad_x[i] = positive[i] ? value : 0; \
        } \
    }
FUNCTIONS(float)
FUNCTIONS(double)

#else /* --- read for each SET and REAL ------------------------------------------------------------- */

#define VL ((int)((8 << SET) / sizeof(REAL)))
typedef REAL NAME(vec) __attribute__((vector_size(8 << SET), aligned(sizeof(REAL)), may_alias));
#define VECTOR(address) (*(NAME(vec) *)(address))
/* Four elements: for what is too short, or too irregular, for whole vectors. */
typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef __typeof__(_Generic((REAL)0, float: 0, double: 0LL)) NAME(word);
typedef NAME(word) NAME(mask) __attribute__((vector_size(4 * sizeof(REAL)))); /* -1: true, 0: false */
#define FOUR(address) (*(NAME(four) *)(address))

/* to[j, i] = from[i, j] for i < rows and j < columns; strides: elements from a row to the next. */
INLINE TARGET void NAME(transpose)(const REAL *from, ptrdiff_t from_stride, int rows, REAL *to,
                                   ptrdiff_t to_stride, int columns)
{
    if (rows < 4 || columns < 4) {
        for (int j = 0; j < columns; j++)
            for (int i = 0; i < rows; i++) to[j * to_stride + i] = from[i * from_stride + j];
        return;
    }
    /* blocks of 4x4, of which the last ones overlap with those before */
    for (int j4 = 0; j4 < columns; j4 += 4)
        for (int i4 = 0; i4 < rows; i4 += 4) {
            int i = i4 < rows - 4 ? i4 : rows - 4, j = j4 < columns - 4 ? j4 : columns - 4;
            const REAL *p = from + i * from_stride + j;
            REAL *q = to + j * to_stride + i;
            NAME(four) a = FOUR(p), b = FOUR(p + from_stride), c = FOUR(p + 2 * from_stride),
                       d = FOUR(p + 3 * from_stride);
            NAME(four) ac = SHUFFLE(a, c, 0, 4, 1, 5), bd = SHUFFLE(b, d, 0, 4, 1, 5);
            FOUR(q) = SHUFFLE(ac, bd, 0, 4, 1, 5);
            FOUR(q + to_stride) = SHUFFLE(ac, bd, 2, 6, 3, 7);
            ac = SHUFFLE(a, c, 2, 6, 3, 7), bd = SHUFFLE(b, d, 2, 6, 3, 7);
            FOUR(q + 2 * to_stride) = SHUFFLE(ac, bd, 0, 4, 1, 5);
            FOUR(q + 3 * to_stride) = SHUFFLE(ac, bd, 2, 6, 3, 7);
        }
}

/* The same as a function that can be called from outside. */
TARGET static void NAME(turn)(const REAL *from, ptrdiff_t from_stride, int rows, REAL *to,
                              ptrdiff_t to_stride, int columns)
{
    NAME(transpose)(from, from_stride, rows, to, to_stride, columns);
}

#define MAX_T 14 /* the tile, the weights and a pixel fit into 16 registers */
#define PAIR_T (SET == 3 ? 14 : 6) /* the same for two blocks of filters; AVX-512 has 32 registers */

/* T pixels of an output row times the filters of B blocks, num_filters in all. */
INLINE TARGET void NAME(tile)(Direct d, const REAL *x, const REAL *packed, const REAL *bias,
                              REAL *out, int num_filters, const int B, const int T)
{
    ptrdiff_t block = (ptrdiff_t)d.C * d.k * d.k * VL;
    NAME(vec) tile[2][MAX_T], weights[2];
    UNROLL for (int b = 0; b < B; b++)
        UNROLL for (int t = 0; t < T; t++) tile[b][t] = VECTOR(bias + b * VL);
    for (int c = 0; c < d.C; c++)
        for (int i = 0; i < d.k; i++) {
            const REAL *p = x + c * d.plane + i * d.row;
            for (int j = 0; j < d.k; j++, p++, packed += VL) {
                UNROLL for (int b = 0; b < B; b++) weights[b] = VECTOR(packed + b * block);
                UNROLL for (int t = 0; t < T; t++)
                    UNROLL for (int b = 0; b < B; b++) tile[b][t] += weights[b] * p[t];
            }
        }
    REAL flat[MAX_T][2 * VL];
    UNROLL for (int t = 0; t < T; t++)
        UNROLL for (int b = 0; b < B; b++) VECTOR(flat[t] + b * VL) = tile[b][t];
    NAME(transpose)(flat[0], 2 * VL, T, out, (ptrdiff_t)d.OH * d.OW, num_filters);
}

/* Rows y0 to y1 of the output (F, OH, OW) of one padded image x.
   packed: (blocks, C*k*k, VL) weights, zero beyond filter F; bias: (blocks, VL). */
TARGET static void NAME(rows)(Direct d, const REAL *x, const REAL *packed, const REAL *bias,
                              REAL *out, int y0, int y1)
{
    int f = 0;
#define TILES(B, T) \
    for (; end - from >= T; from += T, to += T) \
        NAME(tile)(d, from, packed, bias + f, to, num_filters, B, T)
#define BLOCKS(B, ...) \
    for (; d.F - f > (B - 1) * VL; f += B * VL, packed += (ptrdiff_t)d.C * d.k * d.k * B * VL) \
        for (int y = y0; y < y1; y++) { \
            const REAL *from = x + y * d.row, *end = from + d.OW; \
            REAL *to = out + ((ptrdiff_t)f * d.OH + y) * d.OW; \
            int num_filters = d.F - f < B * VL ? d.F - f : B * VL; \
            __VA_ARGS__ \
        }
    BLOCKS(2, TILES(2, PAIR_T); TILES(2, 4); TILES(2, 2); TILES(2, 1);)
    BLOCKS(1, TILES(1, MAX_T); TILES(1, 4); TILES(1, 2); TILES(1, 1);)
#undef BLOCKS
#undef TILES
}

/* I x J neighbouring positions of B blocks of filters, the first of them at grad_weights, from all
   pixels: grad_weights[b, i*k + j] += sum over y, x of x[y + i, x + j] * blocked[y, x, b]. */
INLINE TARGET void NAME(taps)(Direct d, const REAL *x, const REAL *blocked,
                              REAL *grad_weights, const int B, const int I, const int J)
{
    ptrdiff_t block = (ptrdiff_t)d.C * d.k * d.k * VL;
    NAME(vec) taps[2][2][5], grads[2];
    UNROLL for (int b = 0; b < B; b++)
        UNROLL for (int i = 0; i < I; i++)
            UNROLL for (int j = 0; j < J; j++)
                taps[b][i][j] = VECTOR(grad_weights + b * block + (i * d.k + j) * VL);
    for (int y = 0; y < d.OH; y++, x += d.row)
        for (int at = 0; at < d.OW; at++, blocked += B * VL) {
            UNROLL for (int b = 0; b < B; b++) grads[b] = VECTOR(blocked + b * VL);
            UNROLL for (int i = 0; i < I; i++)
                UNROLL for (int j = 0; j < J; j++)
                    UNROLL for (int b = 0; b < B; b++)
                        taps[b][i][j] += grads[b] * x[i * d.row + at + j];
        }
    UNROLL for (int b = 0; b < B; b++)
        UNROLL for (int i = 0; i < I; i++)
            UNROLL for (int j = 0; j < J; j++)
                VECTOR(grad_weights + b * block + (i * d.k + j) * VL) = taps[b][i][j];
}

/* The grads of B blocks of filters from one padded image x; num_filters: of these blocks. */
INLINE TARGET void NAME(grads_of_blocks)(Direct d, const REAL *x, const REAL *grad_out,
                                         REAL *blocked, REAL *grad_weights, REAL *grad_bias,
                                         int num_filters, const int B)
{
    ptrdiff_t P = (ptrdiff_t)d.OH * d.OW;
    if (num_filters < B * VL) memset(blocked, 0, P * B * VL * sizeof(REAL));
    NAME(transpose)(grad_out, P, num_filters, blocked, B * VL, (int)P);
    UNROLL for (int b = 0; b < B; b++) {
        NAME(vec) sum = VECTOR(grad_bias + b * VL);
        for (ptrdiff_t p = 0; p < P; p++) sum += VECTOR(blocked + (p * B + b) * VL);
        VECTOR(grad_bias + b * VL) = sum;
    }
    for (int c = 0; c < d.C; c++, grad_weights += d.k * d.k * VL)
        for (int i = 0; i < d.k; i += 2) {
            const REAL *from = x + c * d.plane + i * d.row, *end = from + d.k;
            REAL *to = grad_weights + i * d.k * VL;
#define TAPS(J) \
    for (; end - from >= J; from += J, to += J * VL) \
        if (i + 1 < d.k) NAME(taps)(d, from, blocked, to, B, 2, J); \
        else NAME(taps)(d, from, blocked, to, B, 1, J)
            TAPS(5);
            TAPS(3);
            TAPS(2);
            TAPS(1);
#undef TAPS
        }
}

/* What one padded image x and the grads of its output, (F, OH*OW), add to the grads of weights,
   (blocks, C*k*k, VL), and bias, (blocks, VL). blocked: memory for (OH*OW, 2*VL) elements. */
TARGET static void NAME(grads)(Direct d, const REAL *x, const REAL *grad_out, REAL *blocked,
                               REAL *grad_weights, REAL *grad_bias)
{
    ptrdiff_t P = (ptrdiff_t)d.OH * d.OW, block = (ptrdiff_t)d.C * d.k * d.k * VL;
    int f = 0;
#define BLOCKS(B) \
    for (; d.F - f > (B - 1) * VL; f += B * VL, grad_weights += B * block) \
        NAME(grads_of_blocks)(d, x, grad_out + f * P, blocked, grad_weights, grad_bias + f, \
                              d.F - f < B * VL ? d.F - f : B * VL, B)
#if SET == 3
    BLOCKS(2);
#endif
    BLOCKS(1);
#undef BLOCKS
}

#define ROWS 6
#define COLUMNS (SET == 3 ? 4 : 2) /* of 32 registers, or of 16 */

/* R rows of out times V vectors of columns; a, b and out: where the tile begins. */
INLINE TARGET void NAME(product_tile)(Product p, const REAL *a, const REAL *b, REAL *out,
                                      const int R, const int V)
{
    NAME(vec) tile[ROWS][COLUMNS] = {0}, row[COLUMNS];
    for (int k = 0; k < p.K; k++, a += p.a_col, b += p.b_row) {
        UNROLL for (int v = 0; v < V; v++) row[v] = VECTOR(b + v * VL);
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++) tile[r][v] += row[v] * a[r * p.a_row];
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) VECTOR(out + r * p.out_row + v * VL) = tile[r][v];
}

/* Calls TILE for all rows from `first` to `end`, in tiles of ROWS rows, then of fewer. */
#define EACH_TILE(TILE, first, end, n, V) \
    do { \
        int m = first; \
        for (; m + ROWS <= end; m += ROWS) TILE(m, n, ROWS, V); \
        for (; m + 2 <= end; m += 2) TILE(m, n, 2, V); \
        for (; m < end; m++) TILE(m, n, 1, V); \
    } while (0)

TARGET static void NAME(product)(Product p, const REAL *a, const REAL *b, REAL *out)
{
#define TILE(m, n, R, V) NAME(product_tile)(p, a + m * p.a_row, b + n, out + m * p.out_row + n, R, V)
    int n = 0;
    for (; n + COLUMNS * VL <= p.N; n += COLUMNS * VL) EACH_TILE(TILE, 0, p.M, n, COLUMNS);
    for (; n + VL <= p.N; n += VL) EACH_TILE(TILE, 0, p.M, n, 1);
#undef TILE
    for (; n < p.N; n++)
        for (int m = 0; m < p.M; m++) {
            REAL sum = 0;
            for (int k = 0; k < p.K; k++) sum += a[m * p.a_row + k * p.a_col] * b[k * p.b_row + n];
            out[m * p.out_row + n] = sum;
        }
}

/* The sum of a vector's elements. */
INLINE TARGET REAL NAME(sum)(NAME(vec) vector)
{
    typedef REAL part __attribute__((vector_size(16), aligned(sizeof(REAL)), may_alias));
    const int elements = 16 / sizeof(REAL);
    REAL flat[VL], sum = 0;
    VECTOR(flat) = vector;
    part sums = *(part *)flat;
    UNROLL for (int v = elements; v < VL; v += elements) sums += *(part *)(flat + v);
    UNROLL for (int e = 0; e < elements; e++) sum += sums[e];
    return sum;
}

/* R x V elements of out; a, b and out: where the tile begins. */
INLINE TARGET void NAME(dots_tile)(Product p, const REAL *a, const REAL *b, REAL *out,
                                   const int R, const int V)
{
    NAME(vec) tile[ROWS][COLUMNS] = {0};
    int k = 0;
    for (; k + VL <= p.K; k += VL) {
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++)
                tile[r][v] += VECTOR(a + r * p.a_row + k) * VECTOR(b + v * p.b_row + k);
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) {
            REAL sum = NAME(sum)(tile[r][v]);
            for (int rest = k; rest < p.K; rest++)
                sum += a[r * p.a_row + rest] * b[v * p.b_row + rest];
            out[r * p.out_row + v] = sum;
        }
}

/* In strips of at most 64 rows of a: they stay in the cache while all of b passes by. */
TARGET static void NAME(dots)(Product p, const REAL *a, const REAL *b, REAL *out)
{
#define TILE(m, n, R, V) \
    NAME(dots_tile)(p, a + m * p.a_row, b + n * p.b_row, out + m * p.out_row + n, R, V)
    ptrdiff_t num_strips = (p.M + 63) / 64;
    for (ptrdiff_t s = 0; s < num_strips; s++) {
        int first = (int)(p.M * s / num_strips), end = (int)(p.M * (s + 1) / num_strips), n = 0;
        for (; n + COLUMNS <= p.N; n += COLUMNS) EACH_TILE(TILE, first, end, n, COLUMNS);
        for (; n < p.N; n++) EACH_TILE(TILE, first, end, n, 1);
    }
#undef TILE
}

/* Max pooling of 2x2 pixels, four windows at a time: a and b are their upper pixels, c and d the lower
   ones. Where n is no multiple of four, the last four overlap with those before. */

#define SELECT(test, yes, no) ((NAME(four))(((test) & (NAME(mask))(yes)) | (~(test) & (NAME(mask))(no))))

/* n windows of the rows `high` and `low`; winner: 0 to 3 for a to d, the first one of a tie. */
TARGET static void NAME(pool_pairs)(const REAL *high, const REAL *low, REAL *out,
                                    unsigned char *winner, int n)
{
    for (int x = 0; x < n; x += 4) {
        int at = x < n - 4 ? x : n - 4;
        NAME(four) left = FOUR(high + 2 * at), right = FOUR(high + 2 * at + 4);
        NAME(four) a = SHUFFLE(left, right, 0, 2, 4, 6), b = SHUFFLE(left, right, 1, 3, 5, 7);
        left = FOUR(low + 2 * at), right = FOUR(low + 2 * at + 4);
        NAME(four) c = SHUFFLE(left, right, 0, 2, 4, 6), d = SHUFFLE(left, right, 1, 3, 5, 7);
        NAME(mask) is_b = (b > a) | (b != b), is_d = (d > c) | (d != d); /* a NaN wins and stays */
        NAME(four) upper = SELECT(is_b, b, a), lower = SELECT(is_d, d, c);
        NAME(mask) is_low = (lower > upper) | (lower != lower);
        FOUR(out + at) = SELECT(is_low, lower, upper);
        NAME(mask) place = (is_low & (2 - is_d)) | (~is_low & -is_b);
        *(four_places *)(winner + at) = __builtin_convertvector(place, four_places);
    }
}

/* The adjoint: every grad to the pixel that won, 0 to the others. */
TARGET static void NAME(unpool_pairs)(const REAL *grad_out, const unsigned char *winner, REAL *high,
                                      REAL *low, int n)
{
    for (int x = 0; x < n; x += 4) {
        int at = x < n - 4 ? x : n - 4;
        NAME(mask) place = __builtin_convertvector(*(four_places *)(winner + at), NAME(mask));
        NAME(mask) grad = (NAME(mask))FOUR(grad_out + at);
        NAME(four) a = (NAME(four))(grad & (place == 0)), b = (NAME(four))(grad & (place == 1));
        NAME(four) c = (NAME(four))(grad & (place == 2)), d = (NAME(four))(grad & (place == 3));
        FOUR(high + 2 * at) = SHUFFLE(a, b, 0, 4, 1, 5);
        FOUR(high + 2 * at + 4) = SHUFFLE(a, b, 2, 6, 3, 7);
        FOUR(low + 2 * at) = SHUFFLE(c, d, 0, 4, 1, 5);
        FOUR(low + 2 * at + 4) = SHUFFLE(c, d, 2, 6, 3, 7);
    }
}

#include "sparse_kernels.h"
#include "sparse_product_kernels.h"
#include "winograd_kernels.h"

#undef VL
#undef VECTOR
#undef MAX_T
#undef PAIR_T
#undef ROWS
#undef COLUMNS
#undef EACH_TILE
#endif
