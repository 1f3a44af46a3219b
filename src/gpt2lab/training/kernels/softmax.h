// The loss of rows of logits, and in their place its gradient: softmax(logits) minus one at the target.
//
// Two passes over a row after the one that finds its largest logit; a row of 50,257 in bfloat16 stays in a core's
// second cache meanwhile. Written with the compiler's vectors of 16, so that it runs on every processor.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

using bf16 = uint16_t;
typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef bf16 bf16x16 __attribute__((vector_size(32)));

inline f32x16 load(const float* from) {
    f32x16 x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline f32x16 load(const bf16* from) {
    bf16x16 x;
    std::memcpy(&x, from, sizeof x);
    return (f32x16)(__builtin_convertvector(x, u32x16) << 16);
}
inline void store(float* to, f32x16 x) { std::memcpy(to, &x, sizeof x); }
inline void store(bf16* to, f32x16 x) {  // to nearest, ties to even
    u32x16 bits = (u32x16)x;
    bf16x16 rounded = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, bf16x16);
    std::memcpy(to, &rounded, sizeof rounded);
}

// e^x for x <= 0, to 2e-7 relative; 0 below -87; no number stays none.
inline f32x16 exponential(f32x16 x) {
    const f32x16 zero = {}, magic = zero + 12582912.0f;  // adding it rounds to a whole number
    f32x16 powers = x * 1.44269504f;
    powers = powers < -126.0f ? zero - 126.0f : powers;
    const f32x16 whole = powers + magic - magic, rest = powers - whole;
    f32x16 y = zero + 1.54035304e-4f;
    y = y * rest + 1.33335581e-3f;
    y = y * rest + 9.61812911e-3f;
    y = y * rest + 5.55041087e-2f;
    y = y * rest + 2.40226507e-1f;
    y = y * rest + 6.93147181e-1f;
    y = y * rest + 1.0f;
    const f32x16 scale = (f32x16)((__builtin_convertvector(whole, i32x16) + 127) << 23);
    return x < -87.0f ? zero : y * scale;
}

// Calls `visit` with every 16 of `n` numbers, to read and to change; the last ones are filled up with `outside`.
template <class Number, class Visit>
inline void each(Number* row, int64_t n, float outside, Visit visit) {
    for (int64_t i = 0; i + 16 <= n; i += 16) visit(row + i);
    if (const int64_t left = n % 16) {
        Number last[16];
        store(last, f32x16{} + outside);
        std::memcpy(last, row + n - left, left * sizeof(Number));
        visit(last);
        std::memcpy(row + n - left, last, left * sizeof(Number));
    }
}

// Returns the loss; turns the row into its gradient if asked to.
template <class Number>
double row_loss(Number* row, int64_t n, int64_t target, bool gradient) {
    const float far = -3e38f;  // what pads the last 16: it counts for nothing
    f32x16 highest = f32x16{} + far;
    each(row, n, far, [&](Number* at) {
        const f32x16 x = load(at);
        highest = x > highest ? x : highest;
    });
    float top = far;
    for (int lane = 0; lane < 16; lane++) top = highest[lane] > top ? highest[lane] : top;
    const float of_target = load(row + target - target % 16)[target % 16];
    f32x16 sums = {};
    double sum = 0;
    each(row, n, far, [&](Number* at) { sums += exponential(load(at) - top); });
    for (int lane = 0; lane < 16; lane++) sum += sums[lane];
    if (gradient) {
        const float share = float(1 / sum);
        each(row, n, far, [&](Number* at) { store(at, exponential(load(at) - top) * share); });
        const float p = float(std::exp(double(of_target) - top) / sum);
        f32x16 wrong = f32x16{} + (p - 1);
        Number rounded[16];
        store(rounded, wrong);
        row[target] = rounded[0];
    }
    return std::log(sum) + top - of_target;
}

// `stride` is a multiple of 16; what lies between two rows is read at most. A negative target does not count.
template <class Number>
void softmax_losses(int64_t rows, int64_t n, int64_t stride, Number* logits, const int64_t* targets, double* losses,
                    bool gradient, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < rows; r++) {
        Number* row = logits + r * stride;
        if (targets[r] >= 0) {
            losses[r] = row_loss(row, n, targets[r], gradient);
        } else {
            losses[r] = 0;
            if (gradient) std::memset(row, 0, n * sizeof(Number));
        }
    }
}
