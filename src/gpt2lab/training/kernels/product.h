// Products of matrices: C = A B, or C += A B, in bfloat16 with sums in float32; `tiles.h` multiplies.
//
// B is packed a few panels of 32 columns and `DEPTH` inputs at a time, which then lie in a core's second cache while
// all rows of A pass; 32 rows of A lie in its first. Operands may be float32, and may lie transposed: packing rounds
// and turns them. So weights need no copy in bfloat16, nor their gradients one in float32.
//
// Every sum is made by one thread, over the inputs in their order: the bits do not depend on how many there are.
#pragma once
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tiles.h"

constexpr int64_t DEPTH = 512, ROWS = 1024, TALL = 4096;
constexpr int64_t MOST_PANELS = 8;

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
template <class T>
using Buffer = std::unique_ptr<T[], Free>;
template <class T>
Buffer<T> buffer(int64_t count) {
    void* memory = std::aligned_alloc(64, round_up(count * sizeof(T), 64));
    if (!memory) throw std::bad_alloc();
    return Buffer<T>((T*)memory);
}

// One operand: element (i, j) is data[i * row + j * column]; one of the two steps is 1.
struct Operand {
    const void* data;
    bool is_float;
    int64_t row, column;
    const float* floats(int64_t i, int64_t j) const { return (const float*)data + i * row + j * column; }
    const bf16* halves(int64_t i, int64_t j) const { return (const bf16*)data + i * row + j * column; }
};

inline __mmask16 first(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1; }

// 16 numbers at `j`, ... along the contiguous axis, as float32's or bfloat16's bits in 32.
inline __m256i sixteen(const Operand& from, int64_t i, int64_t j, int64_t n) {
    if (from.is_float) return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(first(n), from.floats(i, j)));
    return _mm256_maskz_loadu_epi16(first(n), from.halves(i, j));
}

inline __m512i thirty_two(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Rows i and i + 1 of 16 numbers each, taken in turns: pairs.
inline __m512i pairs(const Operand& from, int64_t i, int64_t j, int64_t rows, int64_t columns) {
    __m256i zero = _mm256_setzero_si256();
    __m256i even = rows > 0 ? sixteen(from, i, j, columns) : zero;
    __m256i odd = rows > 1 ? sixteen(from, i + 1, j, columns) : zero;
    const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                           6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(turns, thirty_two(even, odd));
}

// 16 x 16 numbers of 32 bits, turned over.
inline void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

// A 16 x 32 piece (rows along the axis with the step `row`) as it lies: 32 numbers a row.
inline void straight(const Operand& from, int64_t i, int64_t j, int64_t rows, int64_t columns, __m512i out[16]) {
    for (int64_t r = 0; r < 16; r++) {
        __m256i zero = _mm256_setzero_si256();
        out[r] = r >= rows ? _mm512_setzero_si512()
                           : thirty_two(sixteen(from, i + r, j, columns),
                                        columns > 16 ? sixteen(from, i + r, j + 16, columns - 16) : zero);
    }
}

// A 32 x 16 piece as 16 rows of 16 pairs.
inline void paired(const Operand& from, int64_t i, int64_t j, int64_t rows, int64_t columns, __m512i out[16]) {
    for (int64_t r = 0; r < 16; r++) out[r] = pairs(from, i + 2 * r, j, rows - 2 * r, columns);
}

inline void store_tile(const __m512i tile[16], bf16* to) {
    for (int r = 0; r < 16; r++) _mm512_store_si512(to + r * PAIR_TILE, tile[r]);
}

// A's tile of rows m, ... and inputs k, ...; what lies outside of the matrix is 0.
inline void pack_left(const Operand& a, int64_t m, int64_t k, int64_t rows, int64_t inputs, bf16* to) {
    __m512i tile[16];
    if (a.column == 1) {
        straight(a, m, k, rows, inputs, tile);
    } else {
        paired({a.data, a.is_float, a.column, 1}, k, m, inputs, rows, tile);
        transpose(tile);
    }
    store_tile(tile, to);
}

// B's tile of inputs k, ... and columns n, ...
inline void pack_right(const Operand& b, int64_t k, int64_t n, int64_t inputs, int64_t columns, bf16* to) {
    __m512i tile[16];
    if (b.column == 1) {
        paired(b, k, n, inputs, columns, tile);
    } else {
        straight({b.data, b.is_float, b.column, 1}, n, k, columns, inputs, tile);
        transpose(tile);
    }
    store_tile(tile, to);
}

// B's panels [p, p_end) of inputs k, ...: each one's tiles, two abreast, one after the other. They are made in the
// order in which B lies in memory.
inline void pack_panels(const Operand& b, int64_t N, int64_t p, int64_t p_end, int64_t k, int64_t inputs, bf16* to) {
    const int64_t steps = (inputs + PAIR_TILE - 1) / PAIR_TILE, columns = (p_end - p) * WIDTH / TILE;
    const auto pack = [&](int64_t s, int64_t t) {
        const int64_t at = s * PAIR_TILE, n = p * WIDTH + t * TILE;
        pack_right(b, k + at, n, inputs - at, N - n, to + ((t / 2 * steps + s) * 2 + t % 2) * TILE_SIZE);
    };
    if (b.column == 1) {
        for (int64_t s = 0; s < steps; s++)
            for (int64_t t = 0; t < columns; t++) pack(s, t);
    } else {
        for (int64_t t = 0; t < columns; t++)
            for (int64_t s = 0; s < steps; s++) pack(s, t);
    }
}

// What becomes of the sums: into C, as float32 or bfloat16, or added to what is there.
struct Target {
    void* data;
    bool is_float, add;
    int64_t row;

    void store(const float* sums, int64_t step, int64_t m, int64_t n, int64_t rows, int64_t columns) const {
        for (int64_t part = 0; part < 2; part++) {
            __mmask16 mask = first(columns - 16 * part);
            if (!mask) return;
            int64_t at = n + 16 * part;
            for (int64_t r = 0; r < rows; r++) {
                __m512 sum = _mm512_loadu_ps(sums + r * step + 16 * part);
                if (is_float) {
                    float* to = (float*)data + (m + r) * row + at;
                    if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, to));
                    _mm512_mask_storeu_ps(to, mask, sum);
                } else {
                    bf16* to = (bf16*)data + (m + r) * row + at;
                    _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(sum));
                }
            }
        }
    }
};

// One thread's piece: all of `rows` rows from m, and the panels [p, p_end).
struct Piece {
    const Left& a;
    const Operand& b;
    const Target& c;
    int64_t N, K;
    bf16* packed;  // DEPTH x MOST_PANELS * WIDTH
    float* sums;   // ROWS x MOST_PANELS * WIDTH

    void run(int64_t row_tile, int64_t m, int64_t rows, int64_t p, int64_t p_end) const {
        alignas(64) float done[WIDTH * WIDTH];
        const int64_t step = (p_end - p) * WIDTH;
        for (int64_t k = 0; k < K; k += depth()) {
            const int64_t inputs = std::min(depth(), K - k), steps = (inputs + PAIR_TILE - 1) / PAIR_TILE;
            const bool last = k + inputs == K;
            pack_panels(b, N, p, p_end, k, inputs, packed);
            for (int64_t i = 0; i < rows; i += 32) {
                for (int64_t q = p; q < p_end; q++) {
                    float* at = sums + i * step + (q - p) * WIDTH;
                    const bf16* panel = packed + (q - p) * steps * 2 * TILE_SIZE;
                    tiles(a, row_tile + i / TILE, k / PAIR_TILE, rows - i > TILE, panel, steps, at, step, k == 0,
                          last ? done : at, last ? WIDTH : step);
                    if (last) c.store(done, WIDTH, m + i, q * WIDTH, std::min<int64_t>(32, rows - i), N - q * WIDTH);
                }
            }
        }
    }
    int64_t depth() const { return K <= 768 ? 768 : DEPTH; }  // one pass where it fits nearly as well
};

// How many panels a piece has, so that all threads have about as much to do.
inline int64_t panels_a_piece(int64_t panels, int64_t row_pieces, int64_t threads) {
    int64_t best = 1, least = INT64_MAX;
    for (int64_t size = 1; size <= MOST_PANELS; size++) {
        int64_t pieces = (panels + size - 1) / size * row_pieces;
        int64_t load = (pieces + threads - 1) / threads * (4 * size + 1);  // A's tiles are loaded once a piece
        if (load <= least) best = size, least = load;
    }
    return best;
}

inline void product(int64_t M, int64_t N, int64_t K, const Operand& a, const Operand& b, const Target& target,
                    int n_threads) {
    const bool direct = !a.is_float && a.column == 1 && M % TILE == 0 && K % PAIR_TILE == 0;  // as tiles need it
    const int64_t input_tiles = (K + PAIR_TILE - 1) / PAIR_TILE, panels = (N + WIDTH - 1) / WIDTH;
    Buffer<bf16> turned;
    if (!direct) turned = buffer<bf16>(std::min(round_up(M, TILE), TALL) * input_tiles * PAIR_TILE);
#pragma omp parallel num_threads(n_threads)
    {
        const int64_t threads = omp_get_num_threads();
        // Kept, because memory that is new each time costs more than what is done in it.
        thread_local auto packed = buffer<bf16>(768 * MOST_PANELS * WIDTH);
        thread_local auto sums = buffer<float>(ROWS * MOST_PANELS * WIDTH);
        Tiles held;
        for (int64_t top = 0; top < M; top += TALL) {
            const int64_t height = std::min(TALL, M - top), row_tiles = (height + TILE - 1) / TILE;
            Left left{(const bf16*)a.data + top * a.row, TILE * a.row, PAIR_TILE, a.row};
            if (!direct) {
                left = {turned.get(), input_tiles * TILE_SIZE, TILE_SIZE, PAIR_TILE};
#pragma omp for schedule(static)
                for (int64_t i = 0; i < row_tiles * input_tiles; i++) {  // in the order in which A lies in memory
                    const bool by_rows = a.column == 1;
                    const int64_t t = by_rows ? i / input_tiles : i % row_tiles;
                    const int64_t s = by_rows ? i % input_tiles : i / row_tiles;
                    pack_left(a, top + t * TILE, s * PAIR_TILE, height - t * TILE, K - s * PAIR_TILE,
                              turned.get() + (t * input_tiles + s) * TILE_SIZE);
                }
            }
            const int64_t row_pieces = (height + ROWS - 1) / ROWS;
            const int64_t size = panels_a_piece(panels, row_pieces, threads);
            const int64_t pieces = (panels + size - 1) / size;
            Piece piece{left, b, target, N, K, packed.get(), sums.get()};
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < row_pieces * pieces; i++) {
                const int64_t from = i / pieces * ROWS, p = i % pieces * size;
                piece.run(from / TILE, top + from, std::min(ROWS, height - from), p, std::min(p + size, panels));
            }
        }
    }
}
