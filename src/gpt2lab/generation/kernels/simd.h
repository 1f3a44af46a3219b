// Vectors of 16 numbers, and the two products that decide the engine's speed.
//
// Everything but these two products is written with the compiler's own vector types, which it turns into one
// 512-bit, two 256-bit or four 128-bit registers. The products are chosen by the flags of the build:
//
//     dot_bf16   acc[i] += w[i][0] x[0] + w[i][1] x[1]          16 outputs, 2 inputs, bfloat16
//     dot_u8     acc[i] += w[i][0] x[0] + ... + w[i][3] x[3]    16 outputs, 4 inputs, w in 0..255, x in -127..127
//     dot_u4     the same with w in 0..15
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x64 __attribute__((vector_size(64)));
typedef uint16_t bf16;

INLINE f32x16 splat(float x) { return x - f32x16{}; }
INLINE i32x16 splat(int32_t x) { return x - i32x16{}; }
template <class V> INLINE V load(const void* from) { V v; memcpy(&v, from, sizeof v); return v; }
template <class V> INLINE void store(void* to, V v) { memcpy(to, &v, sizeof v); }
INLINE f32x16 to_float(i32x16 v) { return __builtin_convertvector(v, f32x16); }
INLINE f32x16 choose(i32x16 which, f32x16 yes, f32x16 no) {
    return (f32x16)((which & (i32x16)yes) | (~which & (i32x16)no));
}
INLINE f32x16 max(f32x16 a, f32x16 b) { return a > b ? a : b; }
INLINE f32x16 min(f32x16 a, f32x16 b) { return a < b ? a : b; }
// All 16 lanes to one number, halving the vector until it is one.
template <class V, class Join> INLINE auto fold(V v, Join join) {
    typedef decltype(v[0] + v[0]) Number;
    Number lanes[16];
    memcpy(lanes, &v, 64);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = join(lanes[i], lanes[i + half]);
    return lanes[0];
}
INLINE float sum_of(f32x16 v) { return fold(v, [](float a, float b) { return a + b; }); }
INLINE int32_t sum_of(i32x16 v) { return fold(v, [](int32_t a, int32_t b) { return a + b; }); }
INLINE float max_of(f32x16 v) { return fold(v, [](float a, float b) { return a > b ? a : b; }); }

// bfloat16 is the upper half of a float; a pair of them in 32 bits is opened by a shift and a mask.
INLINE f32x16 low_bf16(u32x16 pair) { return (f32x16)(pair << 16); }
INLINE f32x16 high_bf16(u32x16 pair) { return (f32x16)(pair & 0xffff0000u); }
INLINE u32x16 rounded(f32x16 v) { u32x16 b = (u32x16)v; return b + 0x7fffu + ((b >> 16) & 1u); }  // to even
INLINE u32x16 pair_bf16(f32x16 low, f32x16 high) {
    return (rounded(low) >> 16) | (rounded(high) & 0xffff0000u);
}
INLINE void store_bf16(bf16* to, f32x16 v) {
#if defined(__AVX512BF16__)
    store(to, _mm512_cvtneps_pbh((__m512)v));
#else
    store(to, __builtin_convertvector(rounded(v) >> 16, u16x16));
#endif
}
INLINE bf16 to_bf16(float x) {
    uint32_t b;
    memcpy(&b, &x, 4);
    return (bf16)((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}
INLINE float from_bf16(bf16 x) {
    uint32_t b = (uint32_t)x << 16;
    float f;
    memcpy(&f, &b, 4);
    return f;
}

INLINE f32x16 dot_bf16(f32x16 acc, u32x16 w, const bf16* x) {
    int32_t pair;
    memcpy(&pair, x, 4);
#if defined(__AVX512BF16__)
    return (f32x16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
#else
    acc += low_bf16(w) * from_bf16(x[0]);
    return acc + high_bf16(w) * from_bf16(x[1]);
#endif
}

#if defined(__AVX512VNNI__)

static const int U8_BIAS = 128;  // to be taken off w by the caller: the products below leave it in
INLINE i32x16 dot_u8(i32x16 acc, u8x64 w, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return (i32x16)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, _mm512_set1_epi32(four));
}
INLINE i32x16 dot_u4(i32x16 acc, u8x64 w, const int8_t* x) { return dot_u8(acc, w, x); }

#elif defined(__AVX2__)

static const int U8_BIAS = 128;
template <class Dot> INLINE i32x16 both_halves(i32x16 acc, u8x64 w, Dot dot) {
    __m256i half[2], sum[2];
    memcpy(half, &w, 64);
    memcpy(sum, &acc, 64);
    for (int i = 0; i < 2; i++) sum[i] = _mm256_add_epi32(sum[i], dot(half[i]));
    memcpy(&acc, sum, 64);
    return acc;
}
INLINE i32x16 dot_u8(i32x16 acc, u8x64 w, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    __m256i xs = _mm256_set1_epi32(four);
    // In 16 bits, since a pair of 8-bit products (vpmaddubsw) would not fit: bytes 0 and 2, then 1 and 3.
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(xs, 8), 8), odd = _mm256_srai_epi16(xs, 8);
    return both_halves(acc, w, [=](__m256i v) {
        __m256i low = _mm256_and_si256(v, _mm256_set1_epi16(255)), high = _mm256_srli_epi16(v, 8);
        return _mm256_add_epi32(_mm256_madd_epi16(low, even), _mm256_madd_epi16(high, odd));
    });
}
INLINE i32x16 dot_u4(i32x16 acc, u8x64 w, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    __m256i xs = _mm256_set1_epi32(four), ones = _mm256_set1_epi16(1);
    return both_halves(acc, w, [=](__m256i v) { return _mm256_madd_epi16(_mm256_maddubs_epi16(v, xs), ones); });
}

#elif defined(__ARM_FEATURE_DOTPROD)

static const int U8_BIAS = 0;  // taken off here: the instruction wants both sides signed
INLINE i32x16 dot_u4(i32x16 acc, u8x64 w, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(four)), ws[4];
    int32x4_t sums[4];
    memcpy(ws, &w, 64);
    memcpy(sums, &acc, 64);
    for (int i = 0; i < 4; i++) sums[i] = vdotq_s32(sums[i], ws[i], xs);
    memcpy(&acc, sums, 64);
    return acc;
}
INLINE i32x16 dot_u8(i32x16 acc, u8x64 w, const int8_t* x) { return dot_u4(acc, w ^ (uint8_t)128, x); }

#else

static const int U8_BIAS = 128;
INLINE i32x16 dot_u8(i32x16 acc, u8x64 w, const int8_t* x) {
    u32x16 four = (u32x16)w;
    for (int j = 0; j < 4; j++) acc += (i32x16)((four >> (8 * j)) & 255u) * (int32_t)x[j];
    return acc;
}
INLINE i32x16 dot_u4(i32x16 acc, u8x64 w, const int8_t* x) { return dot_u8(acc, w, x); }

#endif

// 1 / x to about 1 unit in the last place, x > 0; dividing takes four times as long.
INLINE f32x16 reciprocal(f32x16 x) {
#if defined(__AVX512F__)
    const f32x16 guess = (f32x16)_mm512_maskz_rcp14_ps((__mmask16)-1, (__m512)x);
    return guess * (2.0f - x * guess);  // Newton's step doubles the 14 good bits
#else
    return 1.0f / x;
#endif
}

// 2^x to 3 parts in a million, x <= 126: x = n + f, |f| <= 1/2, 2^n times a polynomial for 2^f (least relative error).
INLINE f32x16 power_of_2(f32x16 x) {
    x = max(x, splat(-126.0f));
    const f32x16 magic = splat(12582912.0f), shifted = x + magic;  // 1.5 x 2^23: rounds to a whole number in the low bits
    const f32x16 f = x - (shifted - magic);
    f32x16 p = splat(9.58285294e-3f);
    p = p * f + 5.590642616e-2f;
    p = p * f + 2.402409911e-1f;
    p = p * f + 6.931241751e-1f;
    p = p * f + 1.0f;
    return (f32x16)((i32x16)p + (((i32x16)shifted) << 23));
}
static const float LOG2_E = 1.44269504f;
INLINE f32x16 exponential(f32x16 x) { return power_of_2(min(x * LOG2_E, splat(126.0f))); }
