// GELU by its approximation with tanh, and its slope (Hendrycks and Gimpel 2016, section 2), written with a sigmoid:
// (1 + tanh u) / 2 = sigmoid(2u), so GELU(x) = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3).
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "softmax.h"

constexpr float TWICE_ROOT = 1.5957691216057308f, CUBE = 0.044715f;  // 2 sqrt(2/pi)
constexpr int64_t PIECE = 8192;                                      // numbers a thread takes at a time

inline f32x16 sigmoid(f32x16 x) {
    const f32x16 one = f32x16{} + 1.0f, small = exponential(x < 0.0f ? x : -x);
    return (x < 0.0f ? small : one) / (one + small);
}

inline f32x16 gelu(f32x16 x) { return x * sigmoid(TWICE_ROOT * (x + CUBE * x * x * x)); }

// d/dx x s(2u) = s + x s (1 - s) 2u'
inline f32x16 gelu_slope(f32x16 x) {
    const f32x16 square = x * x, s = sigmoid(TWICE_ROOT * (x + CUBE * square * x));
    return s + x * s * (1.0f - s) * (TWICE_ROOT * (1.0f + 3.0f * CUBE * square));
}

// to[i] = compute(16 numbers of x, 16 of `other`) for all `n`; `other` may be x.
template <class Number, class Compute>
void map_pairs(int64_t n, const Number* x, const Number* other, Number* to, int threads, Compute compute) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t start = 0; start < n; start += PIECE) {
        const int64_t end = std::min(start + PIECE, n);
        int64_t i = start;
        for (; i + 16 <= end; i += 16) store(to + i, compute(load(x + i), load(other + i)));
        if (i < end) {
            Number last[3][16] = {};
            const int64_t bytes = (end - i) * sizeof(Number);
            std::memcpy(last[0], x + i, bytes);
            std::memcpy(last[1], other + i, bytes);
            store(last[2], compute(load(last[0]), load(last[1])));
            std::memcpy(to + i, last[2], bytes);
        }
    }
}

template <class Number>
void gelu(int64_t n, const Number* x, Number* y, int threads) {
    map_pairs(n, x, x, y, threads, [](f32x16 x, f32x16) { return gelu(x); });
}

// The loss's slopes in x from those in GELU(x).
template <class Number>
void gelu_backward(int64_t n, const Number* x, const Number* y_slopes, Number* x_slopes, int threads) {
    map_pairs(n, x, y_slopes, x_slopes, threads, [](f32x16 x, f32x16 slope) { return slope * gelu_slope(x); });
}
