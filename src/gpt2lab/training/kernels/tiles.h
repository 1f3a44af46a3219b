// 32 x 32 sums of products of bfloat16 numbers, by AMX's tiles or by AVX-512's products of pairs.
//
// A tile of A is 16 rows of 32 inputs; one of B is 32 inputs of 16 columns, in pairs of inputs as both instructions
// want them; their product is added to 16 x 16 sums. Two tiles of A meet two of B at a time, so that each that is
// loaded is used twice.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "softmax.h"

constexpr int64_t TILE = 16, PAIR_TILE = 32, WIDTH = 32;  // rows; inputs; columns of a panel (two tiles)
constexpr int64_t TILE_SIZE = TILE * PAIR_TILE;           // numbers

// Where A's tiles lie: packed one after the other, or in the matrix itself.
struct Left {
    const bf16* data;
    int64_t tile_row, tile_input, step;  // from one tile to the next below, to the next inputs; from row to row
    const bf16* at(int64_t row_tile, int64_t input_tile) const {
        return data + row_tile * tile_row + input_tile * tile_input;
    }
};

#if defined(__AMX_BF16__)
// While it lives, this thread has AMX's tiles.
struct Tiles {
    struct alignas(64) Setting {
        uint8_t palette = 1, start_row = 0, unused[14] = {};
        uint16_t row_bytes[16] = {};
        uint8_t rows[16] = {};
        Setting() {
            for (int tile = 0; tile < 8; tile++) rows[tile] = TILE, row_bytes[tile] = 64;
        }
    };
    Tiles() {
        Setting setting;
        asm volatile("" ::"r"(&setting) : "memory");  // the instruction does not tell how much it reads
        _tile_loadconfig(&setting);
    }
    ~Tiles() { _tile_release(); }
};

// Add `steps` x 32 inputs' products to 32 x 32 sums, which begin at 0 if `fresh`.
inline void tiles(const Left& a, int64_t row_tile, int64_t input_tile, bool second, const bf16* b, int64_t steps,
                  float* sums, int64_t sums_step, bool fresh, float* out, int64_t out_step) {
    const int64_t wide = sums_step * 4, out_wide = out_step * 4, row_bytes = a.step * 2;
    const bf16* top = a.at(row_tile, input_tile);
    const bf16* low = second ? a.at(row_tile + 1, input_tile) : top;
    asm volatile("" ::: "memory");  // these instructions do not tell the compiler that they read memory
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, wide);
        _tile_loadd(1, sums + 16, wide);
        _tile_loadd(2, sums + 16 * sums_step, wide);
        _tile_loadd(3, sums + 16 * sums_step + 16, wide);
    }
    for (int64_t s = 0; s < steps; s++, top += a.tile_input, low += a.tile_input, b += 2 * TILE_SIZE) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, top, row_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + TILE_SIZE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, low, row_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, out_wide);
    _tile_stored(1, out + 16, out_wide);
    _tile_stored(2, out + 16 * out_step, out_wide);
    _tile_stored(3, out + 16 * out_step + 16, out_wide);
    asm volatile("" ::: "memory");  // nor that they write it
}
#else
struct Tiles {
    Tiles() {}  // memory is all that is needed
};

inline __m512bh pairs_at(const bf16* from) {
    __m512bh x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline __m512bh one_pair(const bf16* from) {  // 16 times
    int32_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return (__m512bh)_mm512_set1_epi32(bits);
}

// The same 8 rows at a time, whose sums stay in registers. A core of Zen 5 then multiplies as fast as it can.
inline void tiles(const Left& a, int64_t row_tile, int64_t input_tile, bool second, const bf16* b, int64_t steps,
                  float* sums, int64_t sums_step, bool fresh, float* out, int64_t out_step) {
    constexpr int64_t HEIGHT = 8;
    for (int64_t row = 0; row < (second ? 2 * TILE : TILE); row += HEIGHT) {
        const bf16* left = a.at(row_tile + row / TILE, input_tile) + row % TILE * a.step;
        const bf16* right = b;
        __m512 low[HEIGHT], high[HEIGHT];
        for (int64_t r = 0; r < HEIGHT; r++) {
            const float* from = sums + (row + r) * sums_step;
            low[r] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(from);
            high[r] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(from + TILE);
        }
        for (int64_t s = 0; s < steps; s++, left += a.tile_input, right += 2 * TILE_SIZE) {
            for (int64_t pair = 0; pair < PAIR_TILE; pair += 2) {
                const __m512bh b_low = pairs_at(right + pair * TILE);
                const __m512bh b_high = pairs_at(right + TILE_SIZE + pair * TILE);
#pragma GCC unroll 8
                for (int64_t r = 0; r < HEIGHT; r++) {
                    const __m512bh of_row = one_pair(left + r * a.step + pair);
                    low[r] = _mm512_dpbf16_ps(low[r], of_row, b_low);
                    high[r] = _mm512_dpbf16_ps(high[r], of_row, b_high);
                }
            }
        }
        for (int64_t r = 0; r < HEIGHT; r++) {
            _mm512_storeu_ps(out + (row + r) * out_step, low[r]);
            _mm512_storeu_ps(out + (row + r) * out_step + TILE, high[r]);
        }
    }
}
#endif
