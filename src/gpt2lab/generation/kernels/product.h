// Matrix products: y = W x for some of W's panels and any number of tokens.
//
// A token's outputs are the same bits whatever other tokens are computed with it: the order of additions
// depends on the inputs' number alone. So a request's text does not depend on its neighbours.
//
// Where there is AMX, bfloat16 products go through its tiles, which are 16 tokens x 16 outputs and read the
// panels as they lie. Otherwise a few tokens share each weight that is loaded.
#pragma once
#include "matrix.h"
// What products read: rows of numbers, one a token, padded with zeros to whole blocks. `bf` is for bfloat16 panels;
// `q` and `scales` are the same numbers in 8 bits, a scale for each group of 32, and `starts` what a
// product of the group begins with: weights are stored as w + bias, so it is -bias times the sum of q. Tokens
// lie there in tiles of 16, group by group, as AMX reads them.
static const int TILE = 16;
struct Inputs {
    int width = 0, bf_stride = 0, n_groups = 0;  // numbers in a row; from one row of bf to the next; groups in a row
    Vector<bf16> bf;          // [tokens][bf_stride]
    Vector<int8_t> q;         // [tiles][groups][16][32]
    Vector<float> scales;     // [tiles][groups][16]
    Vector<int32_t> starts;   // [tiles][groups][16]
    void allocate(int n_tokens, int n_in) {
        width = round_up(n_in, BLOCK), n_groups = width / GROUP;
        bf_stride = width + 32;  // rows whose distance is a power of two share too few lines of the cache
        const size_t tiled = (size_t)round_up(n_tokens, TILE) * n_groups;
        bf.assign((size_t)n_tokens * bf_stride, 0);
        q.assign(tiled * GROUP, 0), scales.assign(tiled, 0), starts.assign(tiled, 0);
    }
    size_t place(int t, int group) const { return ((size_t)(t / TILE) * n_groups + group) * TILE + t % TILE; }
    bf16* bf_row(int t) { return bf.data() + (size_t)t * bf_stride; }
    // Numbers begin..end of a row, from a row padded with zeros to `width`; both multiples of 32.
    void set_bf16(int t, const float* from, int begin, int end) {
        for (int i = begin; i < end; i += 16) store_bf16(bf_row(t) + i, load<f32x16>(from + i));
    }
    void set_int8(int t, const float* from, int begin, int end, int bias) {
        for (int g = begin / GROUP; g < end / GROUP; g++) {
            const f32x16 a = load<f32x16>(from + g * GROUP), b = load<f32x16>(from + g * GROUP + 16);
            const float largest = max_of(max(max(a, -a), max(b, -b)));
            const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
            const f32x16 magic = splat(12582912.0f);  // 1.5 x 2^23: adding it rounds to a whole number
            const i32x16 qa = (i32x16)(a * inverse + magic) - (i32x16)magic;
            const i32x16 qb = (i32x16)(b * inverse + magic) - (i32x16)magic;
            const size_t at = place(t, g);
            store(&q[at * GROUP], __builtin_convertvector(qa, i8x16));
            store(&q[at * GROUP + 16], __builtin_convertvector(qb, i8x16));
            scales[at] = largest / 127.0f, starts[at] = -bias * sum_of(qa + qb);
        }
    }
};

// What `dot_u8` and `dot_u4` leave in a weight.
INLINE int bias_of(Format format) { return format == INT8 ? U8_BIAS : 8; }

static const int PREFETCH = 2560;  // bytes ahead of the reader: the hardware's own prefetcher stops at pages

// ---- quantised weights, 8-bit inputs -----------------------------------------------------------------------

template <Format F, int N>
INLINE void dot_panel(const Matrix& w, int panel, const Inputs& x, int first, f32x16* y) {
    const uint8_t* block = w.panel(panel);
    const size_t start = x.place(first, 0);
    const int8_t* q = x.q.data() + start * GROUP;
    const float* sx = x.scales.data() + start;
    const int32_t* starts = x.starts.data() + start;
    for (int n = 0; n < N; n++) y[n] = f32x16{};
    for (int b = 0; b < w.n_blocks; b++, block += BLOCK_BYTES[F]) {
        for (size_t line = 0; line < BLOCK_BYTES[F]; line += 64) __builtin_prefetch(block + PREFETCH + line);
        const u32x16 scales = load<u32x16>(block + 2 * group_bytes<F>());
        for (int g = 0; g < 2; g++, q += TILE * GROUP, sx += TILE, starts += TILE) {
            const uint8_t* group = block + g * group_bytes<F>();
            const f32x16 scale = g ? high_bf16(scales) : low_bf16(scales);
            i32x16 acc[N];
            for (int n = 0; n < N; n++) acc[n] = splat(starts[n]);
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                const u8x64 part = group_part<F>(group, j);
                for (int n = 0; n < N; n++) {
                    const int8_t* four = q + n * GROUP + j * 4;
                    acc[n] = F == INT8 ? dot_u8(acc[n], part, four) : dot_u4(acc[n], part, four);
                }
            }
            for (int n = 0; n < N; n++) y[n] += to_float(acc[n]) * (scale * sx[n]);
        }
    }
}

#if defined(__AMX_INT8__)

struct alignas(64) TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
    void set(int tile, int n_rows, int n_bytes) { rows[tile] = (uint8_t)n_rows, row_bytes[tile] = n_rows ? n_bytes : 0; }
};

// Shapes are set when they change; `release_tiles` ends their use.
static thread_local int tile_setting = 0;
INLINE void release_tiles() {
    if (tile_setting) _tile_release();
    tile_setting = 0;
}
INLINE void use_byte_tiles() {  // 0 and 1 are sums, 2 and 3 inputs, 4 and 5 weights
    if (tile_setting == -1) return;
    tile_setting = -1;
    TileShapes s;
    for (int i = 0; i < 6; i++) s.set(i, i < 4 ? TILE : 8, i == 2 || i == 3 ? GROUP : 64);
    _tile_loadconfig(&s);
}
INLINE void use_bf16_tiles(int n_tokens) {  // 0..3 are sums, 4 and 5 inputs of 16 tokens, 6 and 7 weights of a panel
    if (tile_setting == n_tokens) return;
    tile_setting = n_tokens;
    const int first = n_tokens < 16 ? n_tokens : 16, second = n_tokens - first;
    const int rows[8] = {first, first, second, second, first, second, 16, 16};
    TileShapes s;
    for (int i = 0; i < 8; i++) s.set(i, rows[i], 64);
    _tile_loadconfig(&s);
}

static const int ENOUGH_FOR_TILES = 5;  // tokens; fewer are faster one by one

// `dot_panel` for the 16 tokens of a tile, with the same bits: the sums of a group are whole numbers.
template <Format F>
INLINE void tile_panel(const Matrix& w, int panel, const Inputs& x, int first, f32x16* y) {
    const uint8_t* block = w.panel(panel);
    const size_t start = x.place(first, 0);
    const int8_t* q = x.q.data() + start * GROUP;
    const float* sx = x.scales.data() + start;
    const int32_t* starts = x.starts.data() + start;
    alignas(64) int32_t dots[2][TILE][PANEL];
    alignas(64) uint8_t opened[2][8][64];
    for (int n = 0; n < TILE; n++) y[n] = f32x16{};
    for (int b = 0; b < w.n_blocks; b++, block += BLOCK_BYTES[F]) {
        for (size_t line = 0; line < BLOCK_BYTES[F]; line += 64) __builtin_prefetch(block + PREFETCH + line);
        const uint8_t* bytes[2] = {block, block + group_bytes<F>()};
        if (F == INT4)
            for (int g = 0; g < 2; g++) {
                for (int j = 0; j < 8; j++) store(opened[g][j], group_part<F>(bytes[g], j));
                bytes[g] = opened[g][0];
            }
        _tile_zero(0);
        _tile_loadd(2, q, GROUP);
        _tile_loadd(4, bytes[0], 64);
        _tile_dpbsud(0, 2, 4);
        _tile_stored(0, dots[0], 64);
        _tile_zero(1);
        _tile_loadd(3, q + TILE * GROUP, GROUP);
        _tile_loadd(5, bytes[1], 64);
        _tile_dpbsud(1, 3, 5);
        _tile_stored(1, dots[1], 64);
        const u32x16 scales = load<u32x16>(block + 2 * group_bytes<F>());
        for (int g = 0; g < 2; g++, q += TILE * GROUP, sx += TILE, starts += TILE) {
            const f32x16 scale = g ? high_bf16(scales) : low_bf16(scales);
            for (int n = 0; n < TILE; n++) {
                const i32x16 acc = load<i32x16>(dots[g][n]) + splat(starts[n]);
                y[n] += to_float(acc) * (scale * sx[n]);
            }
        }
    }
}

#endif

template <Format F, class Done>
static void quantised_product(const Matrix& w, const Inputs& x, int n_tokens, int begin, int end, Done done) {
#if defined(__AMX_INT8__)
    if (n_tokens >= ENOUGH_FOR_TILES) {
        use_byte_tiles();
        for (int p = begin; p < end; p++)
            for (int t = 0; t < n_tokens; t += TILE) {
                f32x16 y[TILE];
                tile_panel<F>(w, p, x, t, y);
                for (int n = 0; n < TILE && t + n < n_tokens; n++) done(t + n, p, y[n]);
            }
        return;
    }
#endif
    for (int p = begin; p < end; p++) {
        int t = 0;
        f32x16 y[8];
        auto step = [&](auto constant) {
            constexpr int N = decltype(constant)::value;
            for (; t + N <= n_tokens; t += N) {
                dot_panel<F, N>(w, p, x, t, y);
                for (int n = 0; n < N; n++) done(t + n, p, y[n]);
            }
        };
        step(std::integral_constant<int, 8>());
        step(std::integral_constant<int, 4>());
        step(std::integral_constant<int, 2>());
        step(std::integral_constant<int, 1>());
    }
}

// ---- bfloat16 panels ---------------------------------------------------------------------------------------
//
// `x` has rows of `x_stride` numbers; K is a multiple of 32. `done(token, panel, y)` takes the result.

// Where panels lie: a piece of a panel is 32 inputs, [16][16 outputs][2].
struct Panels {
    const uint8_t* first;
    size_t panel, pair, piece;  // bytes from the first of a pair of panels to the second; from pair to pair; from piece to piece
    const uint8_t* at(int p) const { return first + p / 2 * pair + p % 2 * panel; }
};
static const size_t PIECE = 32 * PANEL * 2;

#if defined(__AMX_BF16__)

// `meanwhile()` is called at every step of K: the vector units are idle while the tiles work.
template <int N_TOKENS, int N_PANELS, class Meanwhile>  // in tiles: 1 or 2
INLINE void tile_product(const Panels& w, int p, int K, const bf16* x, size_t x_stride, Meanwhile meanwhile) {
    const uint8_t* at = w.at(p);
    _tile_zero(0);
    if (N_PANELS == 2) _tile_zero(1);
    if (N_TOKENS == 2) _tile_zero(2);
    if (N_TOKENS == 2 && N_PANELS == 2) _tile_zero(3);
    for (int k = 0; k < K; k += 32, at += w.piece) {
        if (N_TOKENS == 1)
            for (size_t line = 0; line < PIECE; line += 64) __builtin_prefetch(at + PREFETCH + line);
        _tile_loadd(6, at, 64);
        _tile_loadd(4, x + k, x_stride * 2);
        _tile_dpbf16ps(0, 4, 6);
        if (N_PANELS == 2) {
            _tile_loadd(7, at + w.panel, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (N_TOKENS == 2) {
            _tile_loadd(5, x + 16 * x_stride + k, x_stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            if (N_PANELS == 2) _tile_dpbf16ps(3, 5, 7);
        }
        meanwhile();
    }
}

template <class Meanwhile>
INLINE void tile_product(bool two_tiles, bool two_panels, const Panels& w, int p, int K, const bf16* x, size_t x_stride, Meanwhile meanwhile) {
    if (two_tiles && two_panels) tile_product<2, 2>(w, p, K, x, x_stride, meanwhile);
    else if (two_tiles) tile_product<2, 1>(w, p, K, x, x_stride, meanwhile);
    else if (two_panels) tile_product<1, 2>(w, p, K, x, x_stride, meanwhile);
    else tile_product<1, 1>(w, p, K, x, x_stride, meanwhile);
}

// The sums of one tile_product, handed on row by row while the next one is computed.
struct Finished {
    alignas(64) float sums[2][2][16][16];  // [tile of tokens][panel]
    int token = 0, panel = 0, n_tokens = 0, n_panels = 0, next = 0;
    void take(int token_, int n_tokens_, int panel_, int n_panels_) {
        token = token_, n_tokens = n_tokens_, panel = panel_, n_panels = n_panels_, next = 0;
        _tile_stored(0, sums[0][0], 64);
        if (n_panels == 2) _tile_stored(1, sums[0][1], 64);
        if (n_tokens > 16) _tile_stored(2, sums[1][0], 64);
        if (n_tokens > 16 && n_panels == 2) _tile_stored(3, sums[1][1], 64);
    }
    template <class Done> void give(int n, Done& done) {
        for (; n > 0 && next < n_tokens; n--, next++)
            for (int p = 0; p < n_panels; p++)
                done(token + next, panel + p, load<f32x16>(sums[next / 16][p][next % 16]));
    }
};

template <class Done>
static void bf16_product(const Panels& w, int n_panels, int K, const bf16* x, size_t x_stride, int n_tokens, Done done) {
    Finished finished;
    const int rows_a_step = (32 + K / 32 - 1) / (K / 32);
    for (int t = 0; t < n_tokens; t += 32) {
        const int n = n_tokens - t < 32 ? n_tokens - t : 32;
        use_bf16_tiles(n);
        const bf16* xt = x + (size_t)t * x_stride;
        auto meanwhile = [&] { finished.give(rows_a_step, done); };
        for (int p = 0; p < n_panels; p += 2) {
            const bool two = p + 1 < n_panels;
            tile_product(n > 16, two, w, p, K, xt, x_stride, meanwhile);
            finished.take(t, n, p, two ? 2 : 1);
        }
    }
    finished.give(32, done);
}

// The same, written as it is to rows of `out`: for products so short that handing sums on would take longer.
static void bf16_product_to(float* out, size_t out_stride, const Panels& w, int n_panels, int K, const bf16* x, size_t x_stride, int n_tokens) {
    auto nothing = [] {};
    for (int t = 0; t < n_tokens; t += 32, x += 32 * x_stride, out += 32 * out_stride) {
        const int n = n_tokens - t < 32 ? n_tokens - t : 32;
        use_bf16_tiles(n);
        for (int p = 0; p < n_panels; p += 2) {
            float* to = out + p * PANEL;
            const bool two = p + 1 < n_panels;
            tile_product(n > 16, two, w, p, K, x, x_stride, nothing);
            _tile_stored(0, to, out_stride * 4);
            if (two) _tile_stored(1, to + PANEL, out_stride * 4);
            if (n > 16) _tile_stored(2, to + 16 * out_stride, out_stride * 4);
            if (n > 16 && two) _tile_stored(3, to + 16 * out_stride + PANEL, out_stride * 4);
        }
    }
}

#else

template <int N>
INLINE void dot_bf16_panel(const uint8_t* piece, size_t to_next, int K, const bf16* x, size_t x_stride, f32x16* y) {
    f32x16 odd[N];  // two chains of additions, so that one need not wait for the other
    for (int n = 0; n < N; n++) y[n] = odd[n] = f32x16{};
    for (int k = 0; k < K; k += 32, piece += to_next)
        for (int i = 0; i < 32; i += 4) {
            const uint8_t* at = piece + i * PANEL * 2;
            __builtin_prefetch(at + PREFETCH);
            __builtin_prefetch(at + PREFETCH + 64);
            const u32x16 w0 = load<u32x16>(at), w1 = load<u32x16>(at + 64);
            for (int n = 0; n < N; n++) {
                y[n] = dot_bf16(y[n], w0, x + n * x_stride + k + i);
                odd[n] = dot_bf16(odd[n], w1, x + n * x_stride + k + i + 2);
            }
        }
    for (int n = 0; n < N; n++) y[n] += odd[n];
}

template <class Done>
static void bf16_product(const Panels& w, int n_panels, int K, const bf16* x, size_t x_stride, int n_tokens, Done done) {
    for (int p = 0; p < n_panels; p++) {
        int t = 0;
        f32x16 y[8];
        auto step = [&](auto constant) {
            constexpr int N = decltype(constant)::value;
            for (; t + N <= n_tokens; t += N) {
                dot_bf16_panel<N>(w.at(p), w.piece, K, x + (size_t)t * x_stride, x_stride, y);
                for (int n = 0; n < N; n++) done(t + n, p, y[n]);
            }
        };
        step(std::integral_constant<int, 8>());
        step(std::integral_constant<int, 1>());
    }
}

static void bf16_product_to(float* out, size_t out_stride, const Panels& w, int n_panels, int K, const bf16* x, size_t x_stride, int n_tokens) {
    bf16_product(w, n_panels, K, x, x_stride, n_tokens, [&](int t, int p, f32x16 y) { store(out + t * out_stride + p * PANEL, y); });
}

INLINE void release_tiles() {}

#endif

// ---- any matrix --------------------------------------------------------------------------------------------

// y = W x for panels begin..end, all tokens. `wide`: many tokens (a prompt), for which quantised panels are opened
// to bfloat16, some at a time so that they stay in the cache, and inputs are bfloat16 as well.
template <class Done>
static void product(const Matrix& w, const Inputs& x, int n_tokens, int begin, int end, bool wide, Done done) {
    static const int AT_ONCE = 8;
    const size_t opened_bytes = (size_t)w.n_blocks * BLOCK_BYTES[BF16];
    if (!wide && w.format == INT8) return quantised_product<INT8>(w, x, n_tokens, begin, end, done);
    if (!wide && w.format == INT4) return quantised_product<INT4>(w, x, n_tokens, begin, end, done);
    static thread_local Vector<bf16> opened;
    for (int p = begin; p < end; p += AT_ONCE) {
        const int n = end - p < AT_ONCE ? end - p : AT_ONCE;
        const uint8_t* panels = w.panel(p);
        if (w.format != BF16) {
            opened.resize(AT_ONCE * opened_bytes / 2);
            for (int i = 0; i < n; i++) {
                bf16* to = opened.data() + i * (opened_bytes / 2);
                if (w.format == INT8) open_panel<INT8>(w, p + i, to);
                else open_panel<INT4>(w, p + i, to);
            }
            panels = (const uint8_t*)opened.data();
        }
        bf16_product(Panels{panels, opened_bytes, 2 * opened_bytes, PIECE}, n, w.n_blocks * BLOCK, x.bf.data(), x.bf_stride, n_tokens,
                     [&](int t, int i, f32x16 y) { done(t, p + i, y); });
    }
}
