// Causal self-attention and its gradient, one head at a time, in bfloat16 with sums in float32 (Vaswani et al. 2017,
// section 3.2.1): S = scale Q K^T, W = softmax of S's rows up to the diagonal, Y = W V.
//
// Queries go 32 at a time, and see only the keys up to theirs. Nothing is kept for the backward pass but Q, K and V:
// it makes W anew, and with dW = dY V^T, dS = scale W (dW - rows' sums of W dW), gives dQ = dS K, dK = dS^T Q and
// dV = W^T dY (Dao et al. 2022, appendix B.2). A head is one thread's, so its bits do not depend on how many there are.
#pragma once
#include "product.h"

// Memory for one thread, kept from call to call: the backward pass needs 4 bytes a pair of tokens (W and dS of a
// head), and 10 a token and channel of a head.
struct Arena {
    Buffer<char> memory;
    int64_t size = 0, used = 0;
    void begin(int64_t bytes) {
        if (bytes > size) memory = buffer<char>(size = bytes);
        used = 0;
    }
    template <class T>
    T* take(int64_t count) {
        T* taken = (T*)(memory.get() + used);
        used += round_up(count * sizeof(T), 64);
        return taken;
    }
};

constexpr int64_t BLOCK = 32;  // queries at a time, and keys of a panel

struct Attention {
    int64_t n_batch, n_tokens, n_head, width;
    float scale;

    int64_t channels() const { return n_head * width; }
    int64_t tokens() const { return round_up(n_tokens, BLOCK); }
    int64_t columns() const { return round_up(width, BLOCK); }

    // Q, K or V (part 0, 1 or 2) of a head in (batch, tokens, 3 x channels), as it lies or turned.
    Operand rows(const bf16* qkv, int64_t b, int64_t h, int part) const {
        const int64_t row = 3 * channels();
        return {qkv + b * n_tokens * row + part * channels() + h * width, false, row, 1};
    }
    static Operand turned(const Operand& rows) { return {rows.data, false, rows.column, rows.row}; }

    bf16* panels(Arena& arena) const { return arena.take<bf16>(tokens() * columns()); }
    // A head's (tokens, width) as B's tiles: all tokens as inputs, or all of its width.
    void pack_tokens(const Operand& rows, bf16* to) const {
        pack_panels(rows, width, 0, columns() / BLOCK, 0, n_tokens, to);
    }
    void pack_width(const Operand& rows, bf16* to) const {
        pack_panels(turned(rows), n_tokens, 0, tokens() / BLOCK, 0, width, to);
    }
    // 32 rows from `first` as A's tiles.
    Left block(const Operand& rows, int64_t first, bf16* to) const {
        const int64_t steps = columns() / PAIR_TILE;
        for (int64_t half = 0; half < 2; half++)
            for (int64_t s = 0; s < steps; s++) {
                const int64_t m = first + half * TILE, k = s * PAIR_TILE;
                pack_left(rows, m, k, n_tokens - m, width - k, to + (half * steps + s) * TILE_SIZE);
            }
        return {to, steps * TILE_SIZE, TILE_SIZE, PAIR_TILE};
    }
};

// 32 rows of A, times `n` of B's panels, which lie `panel_step` apart, over `steps` x 32 inputs.
inline void multiply(const Left& a, const bf16* b, int64_t panel_step, int64_t n, int64_t steps, float* to,
                     int64_t to_step) {
    for (int64_t p = 0; p < n; p++)
        tiles(a, 0, 0, true, b + p * panel_step, steps, to + p * BLOCK, to_step, true, to + p * BLOCK, to_step);
}

inline float sum_of(f32x16 x) {
    float sum = 0;
    for (int lane = 0; lane < 16; lane++) sum += x[lane];
    return sum;
}

// Scores of `seen` keys become e^(scale (score - the highest)), 0 from key `visible` on; returns their sum.
inline float weigh(float* scores, int64_t visible, int64_t seen, float scale) {
    for (int64_t j = visible; j < seen; j++) scores[j] = -1e30f;
    f32x16 highest = f32x16{} - 1e30f;
    for (int64_t j = 0; j < seen; j += 16) {
        const f32x16 x = load(scores + j);
        highest = x > highest ? x : highest;
    }
    float top = highest[0];
    for (int lane = 1; lane < 16; lane++) top = highest[lane] > top ? highest[lane] : top;
    f32x16 sums = {};
    for (int64_t j = 0; j < seen; j += 16) {
        const f32x16 weight = exponential((load(scores + j) - top) * scale);
        store(scores + j, weight);
        sums += weight;
    }
    return sum_of(sums);
}

inline void store_block(const float* sums, int64_t step, bf16* to, int64_t row, int64_t rows, int64_t width) {
    const Target target{to, false, false, row};
    for (int64_t n = 0; n < width; n += BLOCK) target.store(sums + n, step, 0, n, rows, width - n);
}

inline void attend_head(const Attention& shape, const bf16* qkv, int64_t b, int64_t h, bf16* y, Arena& arena) {
    const int64_t T = shape.tokens(), D = shape.columns(), panel = D * BLOCK, tall_panel = T * BLOCK;
    arena.begin((2 * T * D + BLOCK * D + BLOCK * T) * sizeof(bf16) + (BLOCK * T + BLOCK * D) * sizeof(float) + 4096);
    bf16 *keys = shape.panels(arena), *values = shape.panels(arena);
    bf16 *block = arena.take<bf16>(BLOCK * D), *weights = arena.take<bf16>(BLOCK * T);
    float *scores = arena.take<float>(BLOCK * T), *sums = arena.take<float>(BLOCK * D);
    shape.pack_width(shape.rows(qkv, b, h, 1), keys);
    shape.pack_tokens(shape.rows(qkv, b, h, 2), values);
    for (int64_t first = 0; first < shape.n_tokens; first += BLOCK) {
        const int64_t seen = first + BLOCK, rows = std::min(BLOCK, shape.n_tokens - first);
        const Left queries = shape.block(shape.rows(qkv, b, h, 0), first, block);
        multiply(queries, keys, panel, seen / BLOCK, D / PAIR_TILE, scores, T);
        float totals[BLOCK];
        for (int64_t r = 0; r < BLOCK; r++) {
            totals[r] = weigh(scores + r * T, first + r + 1, seen, shape.scale);
            for (int64_t j = 0; j < seen; j += 16) store(weights + r * T + j, load(scores + r * T + j));
        }
        multiply({weights, TILE * T, PAIR_TILE, T}, values, tall_panel, D / BLOCK, seen / PAIR_TILE, sums, D);
        for (int64_t r = 0; r < BLOCK; r++)
            for (int64_t d = 0; d < D; d += 16) store(sums + r * D + d, load(sums + r * D + d) / totals[r]);
        bf16* to = y + (b * shape.n_tokens + first) * shape.channels() + h * shape.width;
        store_block(sums, D, to, shape.channels(), rows, shape.width);
    }
}

// dQ, dK and dV of a head, into (batch, tokens, 3 x channels).
struct BackwardHead {
    const Attention& shape;
    const int64_t row = 3 * shape.channels(), T = shape.tokens(), D = shape.columns(), steps = D / PAIR_TILE;
    const Operand q, k, v, dy;
    bf16* const to;
    bf16 *keys, *values;                           // as B's tiles: their widths are inputs
    bf16 *tall_keys, *tall_queries, *tall_slopes;  // their tokens are inputs
    bf16 *weights, *score_slopes;                  // (tokens, tokens): W, dS
    bf16 *block, *turned;                          // as A's tiles: 32 rows of Q or dY, 32 columns of W or dS
    float *scores, *weight_slopes, *sums;          // of 32 rows

    BackwardHead(const Attention& shape, const bf16* qkv, const bf16* y_slopes, int64_t b, int64_t h, bf16* slopes,
                 Arena& arena)
        : shape(shape), q(shape.rows(qkv, b, h, 0)), k(shape.rows(qkv, b, h, 1)), v(shape.rows(qkv, b, h, 2)),
          dy{y_slopes + b * shape.n_tokens * shape.channels() + h * shape.width, false, shape.channels(), 1},
          to(slopes + b * shape.n_tokens * row + h * shape.width) {
        arena.begin((5 * T * D + BLOCK * D + BLOCK * T + 2 * T * T) * sizeof(bf16) +
                    (2 * BLOCK * T + BLOCK * D) * sizeof(float) + 8192);
        for (bf16** panels : {&keys, &values, &tall_keys, &tall_queries, &tall_slopes}) *panels = shape.panels(arena);
        block = arena.take<bf16>(BLOCK * D), turned = arena.take<bf16>(BLOCK * T);
        weights = arena.take<bf16>(T * T), score_slopes = arena.take<bf16>(T * T);
        scores = arena.take<float>(BLOCK * T), weight_slopes = arena.take<float>(BLOCK * T);
        sums = arena.take<float>(BLOCK * D);
        shape.pack_width(k, keys);
        shape.pack_width(v, values);
        shape.pack_tokens(k, tall_keys);
        shape.pack_tokens(q, tall_queries);
        shape.pack_tokens(dy, tall_slopes);
    }

    // A query's scores and dW become its W and dS.
    void slopes_of_scores(int64_t query, float* of_row, const float* slopes_of_row, int64_t seen) const {
        const float share = 1 / weigh(of_row, query + 1, seen, shape.scale);
        f32x16 products = {};
        for (int64_t j = 0; j < seen; j += 16) products += load(of_row + j) * load(slopes_of_row + j);
        const float mean = sum_of(products) * share;
        for (int64_t j = 0; j < seen; j += 16) {
            const f32x16 weight = load(of_row + j) * share;
            store(weights + query * T + j, weight);
            store(score_slopes + query * T + j, weight * (load(slopes_of_row + j) - mean) * shape.scale);
        }
    }

    // dQ = dS K of 32 queries, whose W and dS are kept.
    void of_queries(int64_t first) const {
        const int64_t seen = first + BLOCK;
        multiply(shape.block(q, first, block), keys, D * BLOCK, seen / BLOCK, steps, scores, T);
        multiply(shape.block(dy, first, block), values, D * BLOCK, seen / BLOCK, steps, weight_slopes, T);
        for (int64_t r = 0; r < BLOCK; r++) slopes_of_scores(first + r, scores + r * T, weight_slopes + r * T, seen);
        const Left block_slopes{score_slopes + first * T, TILE * T, PAIR_TILE, T};
        multiply(block_slopes, tall_keys, T * BLOCK, D / BLOCK, seen / PAIR_TILE, sums, D);
        store_part(0, first);
    }

    // dK = dS^T Q and dV = W^T dY of 32 keys, over the queries from theirs on.
    void of_keys(int64_t first) const {
        const int64_t after = (T - first) / PAIR_TILE;
        for (int part = 1; part <= 2; part++) {
            const Operand columns{part == 1 ? score_slopes : weights, false, 1, T};
            for (int64_t half = 0; half < 2; half++)
                for (int64_t s = 0; s < after; s++)
                    pack_left(columns, first + half * TILE, first + s * PAIR_TILE, TILE, PAIR_TILE,
                              turned + (half * after + s) * TILE_SIZE);
            const bf16* right = (part == 1 ? tall_queries : tall_slopes) + first / PAIR_TILE * 2 * TILE_SIZE;
            multiply({turned, after * TILE_SIZE, TILE_SIZE, PAIR_TILE}, right, T * BLOCK, D / BLOCK, after, sums, D);
            store_part(part, first);
        }
    }

    void store_part(int part, int64_t first) const {
        const int64_t rows = std::min(BLOCK, shape.n_tokens - first);
        store_block(sums, D, to + first * row + part * shape.channels(), row, rows, shape.width);
    }
};

inline void attend_head_backward(const Attention& shape, const bf16* qkv, const bf16* y_slopes, int64_t b, int64_t h,
                                 bf16* slopes, Arena& arena) {
    const BackwardHead head(shape, qkv, y_slopes, b, h, slopes, arena);
    for (int64_t first = 0; first < shape.n_tokens; first += BLOCK) head.of_queries(first);
    for (int64_t first = 0; first < shape.n_tokens; first += BLOCK) head.of_keys(first);
}

// Calls `head(batch, head, memory)` for every head, on as many threads.
template <class Head>
void each_head(const Attention& shape, int threads, Head head) {
#pragma omp parallel num_threads(threads)
    {
        thread_local Arena arena;
        Tiles held;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < shape.n_batch * shape.n_head; i++) head(i / shape.n_head, i % shape.n_head, arena);
    }
}

inline void attend(const Attention& shape, const bf16* qkv, bf16* y, int threads) {
    each_head(shape, threads, [&](int64_t b, int64_t h, Arena& arena) { attend_head(shape, qkv, b, h, y, arena); });
}
inline void attend_backward(const Attention& shape, const bf16* qkv, const bf16* y_slopes, bf16* slopes, int threads) {
    each_head(shape, threads, [&](int64_t b, int64_t h, Arena& arena) {
        attend_head_backward(shape, qkv, y_slopes, b, h, slopes, arena);
    });
}
