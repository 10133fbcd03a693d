/* Convolution with 5x5 filters by fewer products; vector_kernels.h reads this file for each SET and
   REAL.

   Four outputs, 2x2, come from a tile of 6x6 pixels, directly with 4 * 25 = 100 products for each
   channel and filter. As polynomials multiply, so do their values at points: at 0, 1, -1, 2, -2 and
   infinity, in both directions, that takes 36.

       tile d, 6x6          filter g, 5x5         outputs, 2x2
          |                    |                     ^
       B' d B               G g G'                A' m A
          |                    |                     |
       6x6 values  times    6x6 values  added up over the channels: 6x6 sums m

   The values of one place of all tiles make a matrix (tiles, C), those of the filters one (C, F): 36
   matrix products in all. Values and filters are reckoned for VL channels or filters at once, so the
   channels of a pixel lie side by side. Tiles overlap by four pixels, hence B' d is shared.

   The values of B' are up to 100 times the pixels: what cancels then costs digits, see winograd.pyx.
   Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016. */

/* to[0..5] = B' from[0..5]; strides in elements. */
INLINE TARGET void NAME(tile_values)(const REAL *from, ptrdiff_t from_stride, REAL *to,
                                     ptrdiff_t to_stride)
{
    NAME(vec) d[6];
    UNROLL for (int e = 0; e < 6; e++) d[e] = VECTOR(from + e * from_stride);
    NAME(vec) even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
    NAME(vec) even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);
    VECTOR(to) = 4 * d[0] - 5 * d[2] + d[4];
    VECTOR(to + to_stride) = even + odd;
    VECTOR(to + 2 * to_stride) = even - odd;
    VECTOR(to + 3 * to_stride) = even2 + odd2;
    VECTOR(to + 4 * to_stride) = even2 - odd2;
    VECTOR(to + 5 * to_stride) = 4 * d[1] - 5 * d[3] + d[5];
}

/* sums[0..1] = A' m[0..5] */
#define OUTPUTS(m, sums) \
    do { \
        sums[0] = m[0] + (m[1] + m[2]) + (m[3] + m[4]); \
        sums[1] = (m[1] - m[2]) + 2 * (m[3] - m[4]) + m[5]; \
    } while (0)

/* An image (C, H, W), padded, and with its channels last. */
TARGET static void NAME(winograd_pad)(Winograd w, const REAL *image, REAL *padded)
{
    ptrdiff_t columns = 2 * ((w.OW + 1) / 2) + 4;
    for (int y = 0; y < w.H; y++)
        NAME(transpose)(image + y * w.W, (ptrdiff_t)w.H * w.W, w.C,
                        padded + ((y + w.padding) * columns + w.padding) * w.Cp, w.Cp, w.W);
}

/* Rows 2*t0 to 2*t1 of the outputs (F, OH, OW) of an image x that winograd_pad has made.
   filters: values (36, C, Fp); bias: (Fp,). tiles: (t1 - t0) * TW; values, products: memory for 36 of
   (tiles, Cp) and of (tiles, Fp); rows: for the larger of 6 * (2*TW + 4) * VL and 4 * TW * Fp. */
TARGET static void NAME(winograd)(Winograd w, const REAL *x, const REAL *filters, const REAL *bias,
                                  REAL *out, int t0, int t1, REAL *values, REAL *products, REAL *rows)
{
    int TW = (w.OW + 1) / 2, tiles = (t1 - t0) * TW;
    ptrdiff_t columns = 2 * TW + 4, place = (ptrdiff_t)tiles * w.Cp;
    for (int t = t0; t < t1; t++)
        for (int c = 0; c < w.Cp; c += VL) {
            const REAL *from = x + 2 * t * columns * w.Cp + c;
            for (int column = 0; column < columns; column++)
                NAME(tile_values)(from + column * w.Cp, columns * w.Cp, rows + column * VL,
                                  columns * VL);
            REAL *to = values + (ptrdiff_t)(t - t0) * TW * w.Cp + c;
            for (int tile = 0; tile < TW; tile++, to += w.Cp)
                for (int i = 0; i < 6; i++)
                    NAME(tile_values)(rows + (i * columns + 2 * tile) * VL, VL,
                                      to + 6 * i * place, place);
        }
    Product p = {tiles, w.Fp, w.C, w.Cp, 1, w.Fp, w.Fp};
    for (int i = 0; i < 36; i++)
        NAME(product)(p, values + i * place, filters + (ptrdiff_t)i * w.C * w.Fp,
                      products + (ptrdiff_t)i * tiles * w.Fp);
    place = (ptrdiff_t)tiles * w.Fp;
    for (int t = t0; t < t1; t++) {
        const REAL *from = products + (ptrdiff_t)(t - t0) * TW * w.Fp;
        for (int tile = 0; tile < TW; tile++, from += w.Fp)
            for (int f = 0; f < w.Fp; f += VL) {
                NAME(vec) m[6], half[2][6], pair[2], column[2];
                UNROLL for (int j = 0; j < 6; j++) {
                    UNROLL for (int i = 0; i < 6; i++) m[i] = VECTOR(from + (6 * i + j) * place + f);
                    OUTPUTS(m, column);
                    half[0][j] = column[0], half[1][j] = column[1];
                }
                UNROLL for (int i = 0; i < 2; i++) {
                    OUTPUTS(half[i], pair);
                    REAL *to = rows + ((ptrdiff_t)i * 2 * TW + 2 * tile) * w.Fp + f;
                    VECTOR(to) = pair[0] + VECTOR(bias + f);
                    VECTOR(to + w.Fp) = pair[1] + VECTOR(bias + f);
                }
            }
        for (int y = 2 * t; y < 2 * t + 2 && y < w.OH; y++)
            NAME(transpose)(rows + (ptrdiff_t)(y - 2 * t) * 2 * TW * w.Fp, w.Fp, w.OW,
                            out + (ptrdiff_t)y * w.OW, (ptrdiff_t)w.OH * w.OW, w.F);
    }
}
#undef OUTPUTS
