/* The innermost loops of convolution, matrix products and ReLU, in C for what Cython cannot say:
   vectors of a chosen length, and one version of a function for each instruction set.

   Direct convolution, at stride 1 and without a matrix of columns.

   Forward: a tile of the output is T neighbouring pixels of a row times a block of VL filters, and
   stays in T registers until it is finished. One weight of each filter of the block makes a vector;
   with it, T neighbouring pixels of the input are multiplied, one for each register.

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
   and type; which of the sets is used is decided at run time. Another compiler gets 0 from
   best_instruction_set(), and must do with BLAS.
   Source: Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD
   Architectures, 2018; Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication,
   2008. */

#ifndef REAL /* --- read once ---------------------------------------------------------------------- */

#include <stddef.h>

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

#if defined(__GNUC__) && defined(__x86_64__)
static const char *const instruction_set_names[] = {"none", "sse2", "avx2", "avx512"};
static int best_instruction_set(void)
{
    if (__builtin_cpu_supports("avx512f")) return 3;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 2 : 1;
}
#elif defined(__GNUC__) && defined(__aarch64__)
static const char *const instruction_set_names[] = {"none", "neon"};
static int best_instruction_set(void) { return 1; }
#else
static const char *const instruction_set_names[] = {"none"};
static int best_instruction_set(void) { return 0; }
#endif

/* Filters in a block: elements in a vector of 16, 32 or 64 bytes. */
static int block_size(int instruction_set, int itemsize) { return (8 << instruction_set) / itemsize; }

#ifdef __GNUC__

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
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
#define TARGET __attribute__((target("avx2,fma")))
#define REAL float
#include "vector_kernels.h"
#undef REAL
#define REAL double
#include "vector_kernels.h"
#undef REAL
#undef SET
#undef TARGET

#define SET 3
#define TARGET __attribute__((target("avx512f,fma")))
#define REAL float
#include "vector_kernels.h"
#undef REAL
#define REAL double
#include "vector_kernels.h"
#undef REAL
#undef SET
#undef TARGET
#endif

#endif /* __GNUC__ */

#if defined(__GNUC__) && defined(__x86_64__)
#define CALL(function, real, set, ...) \
    if (set == 3) function##_##real##_3(__VA_ARGS__); \
    else if (set == 2) function##_##real##_2(__VA_ARGS__); \
    else function##_##real##_1(__VA_ARGS__)
#elif defined(__GNUC__)
#define CALL(function, real, set, ...) function##_##real##_1(__VA_ARGS__)
#else
#define CALL(function, real, set, ...) (void)0
#define restrict __restrict
#endif

/* direct_rows, direct_grads, product and dots: rows, grads, product and dots of the given instruction
   set, see below.
   relu_*: plain loops, which every compiler turns into vectors if the arrays do not overlap. */
#define FUNCTIONS(real) \
    static void direct_rows_##real(int set, Direct d, const real *x, const real *packed, \
                                   const real *bias, real *out, int y0, int y1) \
    { \
        CALL(rows, real, set, d, x, packed, bias, out, y0, y1); \
    } \
    static void direct_grads_##real(int set, Direct d, const real *x, const real *grad_out, \
                                    real *blocked, real *grad_weights, real *grad_bias) \
    { \
        CALL(grads, real, set, d, x, grad_out, blocked, grad_weights, grad_bias); \
    } \
    static void product_##real(int set, Product p, const real *a, const real *b, real *out) \
    { \
        CALL(product, real, set, p, a, b, out); \
    } \
    static void dots_##real(int set, Product p, const real *a, const real *b, real *out) \
    { \
        CALL(dots, real, set, p, a, b, out); \
    } \
    static void relu_forward_##real(const real *restrict x, real *restrict out, \
                                    unsigned char *restrict positive, ptrdiff_t n) \
    { \
        for (ptrdiff_t i = 0; i < n; i++) { \
            real value = x[i]; \
            out[i] = value <= 0 ? 0 : value; \
            positive[i] = value > 0; \
        } \
    } \
    static void relu_backward_##real(const real *restrict grad_out, \
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
#define MAX_T 14 /* the tile, the weights and a pixel fit into 16 registers */

/* T pixels of an output row times the first num_filters filters of a block. */
INLINE TARGET void NAME(tile)(Direct d, const REAL *x, const REAL *packed, const REAL *bias,
                              REAL *out, int num_filters, const int T)
{
    NAME(vec) tile[MAX_T];
    UNROLL for (int t = 0; t < T; t++) tile[t] = VECTOR(bias);
    for (int c = 0; c < d.C; c++)
        for (int i = 0; i < d.k; i++) {
            const REAL *p = x + c * d.plane + i * d.row;
            for (int j = 0; j < d.k; j++, p++, packed += VL) {
                NAME(vec) weights = VECTOR(packed);
                UNROLL for (int t = 0; t < T; t++) tile[t] += weights * p[t];
            }
        }
    REAL flat[MAX_T][VL];
    UNROLL for (int t = 0; t < T; t++) VECTOR(flat[t]) = tile[t];
    for (int f = 0; f < num_filters; f++)
        UNROLL for (int t = 0; t < T; t++) out[f * (ptrdiff_t)d.OH * d.OW + t] = flat[t][f];
}

/* Rows y0 to y1 of the output (F, OH, OW) of one padded image x.
   packed: (blocks, C*k*k, VL) weights, zero beyond filter F; bias: (blocks, VL). */
TARGET static void NAME(rows)(Direct d, const REAL *x, const REAL *packed, const REAL *bias,
                              REAL *out, int y0, int y1)
{
    for (int f = 0; f < d.F; f += VL, packed += (ptrdiff_t)d.C * d.k * d.k * VL)
        for (int y = y0; y < y1; y++) {
            const REAL *from = x + y * d.row, *end = from + d.OW;
            REAL *to = out + ((ptrdiff_t)f * d.OH + y) * d.OW;
            int num_filters = d.F - f < VL ? d.F - f : VL;
#define TILES(T) \
    for (; end - from >= T; from += T, to += T) \
        NAME(tile)(d, from, packed, bias + f, to, num_filters, T)
            TILES(MAX_T);
            TILES(4);
            TILES(2);
            TILES(1);
#undef TILES
        }
}

/* I x J neighbouring positions of a block of filters, the first of them at grad_weights, from all
   pixels: grad_weights[i*k + j] += sum over y, x of x[y + i, x + j] * blocked[y, x]. */
INLINE TARGET void NAME(taps)(Direct d, const REAL *x, const REAL *blocked, REAL *grad_weights,
                              const int I, const int J)
{
    NAME(vec) taps[2][5];
    UNROLL for (int i = 0; i < I; i++)
        UNROLL for (int j = 0; j < J; j++) taps[i][j] = VECTOR(grad_weights + (i * d.k + j) * VL);
    for (int y = 0; y < d.OH; y++, x += d.row)
        for (int at = 0; at < d.OW; at++, blocked += VL) {
            NAME(vec) grad = VECTOR(blocked);
            UNROLL for (int i = 0; i < I; i++)
                UNROLL for (int j = 0; j < J; j++) taps[i][j] += grad * x[i * d.row + at + j];
        }
    UNROLL for (int i = 0; i < I; i++)
        UNROLL for (int j = 0; j < J; j++) VECTOR(grad_weights + (i * d.k + j) * VL) = taps[i][j];
}

/* What one padded image x and the grads of its output, (F, OH*OW), add to the grads of weights,
   (blocks, C*k*k, VL), and bias, (blocks, VL). blocked: memory for (OH*OW, VL) elements. */
TARGET static void NAME(grads)(Direct d, const REAL *x, const REAL *grad_out, REAL *blocked,
                               REAL *grad_weights, REAL *grad_bias)
{
    ptrdiff_t P = (ptrdiff_t)d.OH * d.OW;
    for (int f = 0; f < d.F; f += VL, grad_out += VL * P) {
        NAME(vec) sum = VECTOR(grad_bias + f);
        for (ptrdiff_t p = 0; p < P; p++) {
            if (d.F - f >= VL)
                UNROLL for (int v = 0; v < VL; v++) blocked[p * VL + v] = grad_out[v * P + p];
            else
                for (int v = 0; v < VL; v++)
                    blocked[p * VL + v] = f + v < d.F ? grad_out[v * P + p] : 0;
            sum += VECTOR(blocked + p * VL);
        }
        VECTOR(grad_bias + f) = sum;
        for (int c = 0; c < d.C; c++, grad_weights += d.k * d.k * VL)
            for (int i = 0; i < d.k; i += 2) {
                const REAL *from = x + c * d.plane + i * d.row, *end = from + d.k;
                REAL *to = grad_weights + i * d.k * VL;
#define TAPS(J) \
    for (; end - from >= J; from += J, to += J * VL) \
        if (i + 1 < d.k) NAME(taps)(d, from, blocked, to, 2, J); \
        else NAME(taps)(d, from, blocked, to, 1, J)
                TAPS(5);
                TAPS(3);
                TAPS(2);
                TAPS(1);
#undef TAPS
            }
    }
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

#undef VL
#undef VECTOR
#undef MAX_T
#undef ROWS
#undef COLUMNS
#undef EACH_TILE
#endif
