// GPT-1, GPT-2 and GPT-3's small sizes on a CPU: tokens in, scores of the next token out.
//
// simd.h has the instructions, matrix.h how weights lie in memory, product.h the matrix products, threads.h the
// team. Here is the model: the same steps as in model/gpt.py, each shared among the team, a barrier after each.
// Axes as there: C channels, H heads, D head width, T tokens of one call (of all its sequences), V vocabulary.
#include <algorithm>
#include <mutex>
#include "product.h"
#include "threads.h"

enum Activation { GELU_TANH = 0, GELU_ERF = 1, RELU = 2, SILU = 3 };

struct Shape {  // as generation/cpu_library.py has it
    int32_t vocab_size, context_length, n_layer, n_head, n_embd, n_inner;
    int32_t post_norm, activation, tied;
    float epsilon;
};

// Keys and values in bfloat16, as the panels of two matrices a head: scores are K q, the output is V^T p. 32 slots
// of a head lie together, so that a few tokens' worth is one stretch of memory:
//
//     [2][key_width / 2][16 slots][2 channels]  [value_width / 16][16][16 channels][2 slots]
struct Cache {
    int n_rows, n_blocks, key_width, value_width, n_layer, n_head;
    size_t block_numbers, row_numbers;
    Memory memory;
    Cache(const Shape& s, int rows, int slots) : n_rows(rows), n_layer(s.n_layer), n_head(s.n_head) {
        const int D = s.n_embd / s.n_head;
        n_blocks = round_up(slots, 32) / 32, key_width = round_up(D, 32), value_width = round_up(D, PANEL);
        block_numbers = (size_t)32 * (key_width + value_width), row_numbers = block_numbers * n_blocks;
        memory.allocate(2 * row_numbers * n_layer * n_rows * n_head);
    }
    bf16* row(int layer, int r, int head) {
        return (bf16*)memory.data + (((size_t)layer * n_rows + r) * n_head + head) * row_numbers;
    }
    Panels keys(int layer, int r, int head) {
        return {(uint8_t*)row(layer, r, head), (size_t)key_width * 32, block_numbers * 2, PIECE};
    }
    Panels values(int layer, int r, int head) {
        return {(uint8_t*)(row(layer, r, head) + 32 * key_width), PIECE, 2 * PIECE, block_numbers * 2};
    }
    size_t key_at(int slot, int d) const {
        return slot / 32 * block_numbers + (size_t)(slot % 32 / 16) * key_width * 16 + d / 2 * 32 + slot % 16 * 2 + d % 2;
    }
    size_t value_at(int slot, int d) const {
        return slot / 32 * block_numbers + 32 * key_width + (size_t)(d / 16) * 512 + slot % 32 / 2 * 32 + d % 16 * 2 + slot % 2;
    }
    void copy(int source, int target, int start, int stop) {
        const int first = std::min(round_up(start, 32), stop), last = std::max(first, stop / 32 * 32);  // whole blocks
        for (int l = 0; l < n_layer; l++)
            for (int h = 0; h < n_head; h++) {
                const bf16* from = row(l, source, h);
                bf16* to = row(l, target, h);
                memcpy(to + first / 32 * block_numbers, from + first / 32 * block_numbers, (last - first) / 32 * block_numbers * 2);
                auto one_by_one = [&](int begin, int end) {
                    for (int slot = begin; slot < end; slot++) {
                        for (int d = 0; d < key_width; d++) to[key_at(slot, d)] = from[key_at(slot, d)];
                        for (int d = 0; d < value_width; d++) to[value_at(slot, d)] = from[value_at(slot, d)];
                    }
                };
                one_by_one(start, first);
                one_by_one(last, stop);
            }
    }
};

struct Layer {
    Vector<float> norm_1_gain, norm_1_bias, norm_2_gain, norm_2_bias;
    Vector<float> attn_bias, attn_proj_bias, fc_bias, mlp_proj_bias;
    Matrix attn, attn_proj, fc, mlp_proj;
    float attn_scale = 1;
};

struct Feed {
    int32_t n_tokens, n_sequences;
    const int32_t *tokens, *rows, *starts, *counts;  // tokens of all sequences in a line; the rest a sequence
    int32_t n_wanted;
    const int32_t* wanted;  // indices into tokens
    float* hidden;          // [n_wanted][C] after the last LayerNorm
    int32_t wide;           // a prompt: see product.h
};

class Engine {
public:
    Engine(const Shape& shape, Format format, Format head_format, bool screened, int n_threads)
        : s(shape), D(shape.n_embd / shape.n_head), format(format), head_format(head_format), screened(screened),
          team(n_threads), layers(shape.n_layer) {
        C64 = round_up(s.n_embd, BLOCK), inner64 = round_up(s.n_inner, BLOCK), key_width = round_up(D, 32);
        const int qkv = 3 * s.n_head * round_up(D, PANEL);
        const auto bytes = [](Format format, int n_out, int n_in) { return matrix_of(format, n_out, n_in).bytes(); };
        const size_t head_bytes = bytes(head_format, s.vocab_size, s.n_embd);
        const size_t screen_bytes = screened ? bytes(INT4, s.vocab_size, s.n_embd) : 0;
        const size_t block_bytes = s.n_layer * (bytes(format, qkv, s.n_embd) + bytes(format, s.n_embd, s.n_embd) +
                                                bytes(format, s.n_inner, s.n_embd) + bytes(format, s.n_embd, s.n_inner));
        memory.allocate((s.tied ? 1 : 2) * head_bytes + screen_bytes + block_bytes);
        token_bytes = block_bytes + (screened ? screen_bytes : head_bytes);
        weights_used = memory.data;
    }

    // Weights arrive as float32, matrices as (out, in) rows. False if one is not finite: once quantised it would be.
    bool set_matrix(Matrix& m, Format format, const float* weights, int n_out, int n_in, int n_heads) {
        const int D16 = round_up(D, PANEL);
        // Queries, keys and values of a head follow each other, so that one thread computes all of a head.
        auto place = [&](int row) {
            if (!n_heads) return row;
            const int part = row / s.n_embd, head = row % s.n_embd / D;
            return (head * 3 + part) * D16 + row % D;
        };
        m = matrix_of(format, n_heads ? n_heads * 3 * D16 : n_out, n_in);
        m.data = weights_used;
        weights_used += m.bytes();
        std::vector<const float*> row_at(m.n_panels * PANEL);
        for (int row = 0; row < n_out; row++) row_at[place(row)] = weights + (size_t)row * n_in;
        std::atomic<bool> finite{true};
        team.run([&](int me) {
            for (int p = share(m.n_panels, me); p < share(m.n_panels, me + 1); p++)
                if (!pack_panel(m, p, &row_at[p * PANEL])) finite = false;
        });
        return finite;
    }
    bool set_vector(Vector<float>& v, const float* from, int n, int n_heads) {
        const int D16 = round_up(D, PANEL);
        float not_a_number = 0;
        v.assign(n_heads ? n_heads * 3 * D16 : round_up(n, BLOCK), 0.0f);
        for (int i = 0; i < n; i++) {
            v[n_heads ? (i % s.n_embd / D * 3 + i / s.n_embd) * D16 + i % D : i] = from[i];
            not_a_number += from[i] * 0.0f;
        }
        return not_a_number == 0;
    }

    void feed(Cache& cache, const Feed& call) {
        const std::lock_guard<std::mutex> one_at_a_time(busy);
        reserve(call.n_tokens);
        run([&](int me) {
            embed(call, me);
            for (int l = 0; l < s.n_layer; l++) block(l, cache, call, me);
            finish(call, me);
        });
    }
    // Scores [n][V] of the token after each of n hidden states [n][C].
    void score(const float* hidden, int n, float* logits) {
        const std::lock_guard<std::mutex> one_at_a_time(busy);
        reserve(n);
        const Matrix& w = s.tied ? embedding : head;
        const auto write = [&](int i, int p, f32x16 y) {
            float* to = logits + (size_t)i * s.vocab_size + p * PANEL;
            const int in_panel = s.vocab_size - p * PANEL;
            if (in_panel >= PANEL) store(to, y);
            else memcpy(to, &y, in_panel * sizeof(float));
        };
        run([&](int me) {
            const int begin = share(w.n_panels, me), end = share(w.n_panels, me + 1);
            for (int i = share(n, me); i < share(n, me + 1); i++) {
                memcpy(&normed[(size_t)i * C64], hidden + (size_t)i * s.n_embd, s.n_embd * sizeof(float));
                set_inputs(narrow_in, i, &normed[(size_t)i * C64], 0, C64, screened ? screen : w, false);
            }
            team.barrier();
            if (screened) screen_panels(w, n, begin, end, me, write);
            else product(w, narrow_in, n, begin, end, false, write);
        });
    }

    // Read as much as a token needs of the weights, each member its part, and do nothing else with them.
    void read_weights() {
        team.run([&](int me) {
            const size_t lines = token_bytes / 64, begin = lines * me / team.size, end = lines * (me + 1) / team.size;
            u8x64 seen[4] = {};
            for (size_t i = begin; i + 4 <= end; i += 4)
                for (int j = 0; j < 4; j++) {
                    __builtin_prefetch(memory.data + (i + j) * 64 + PREFETCH);
                    seen[j] |= load<u8x64>(memory.data + (i + j) * 64);
                }
            seen[0] |= seen[1] | seen[2] | seen[3];
            __asm__ volatile("" : : "m"(seen[0]));  // or the compiler would leave it all out
        });
    }

    const Shape s;
    const int D;
    const Format format, head_format;  // of the blocks' matrices; of the embedding and the output matrix
    const bool screened;               // whether `screen`, the output matrix in 4 bits, is read first
    size_t token_bytes;                // of weights, read for each token
    Memory memory;
    Team team;
    std::vector<Layer> layers;
    Matrix embedding, head, screen;  // head is empty where it is tied to the embedding
    Vector<float> positions, final_gain, final_bias;

private:
    int C64, inner64, key_width;
    uint8_t* weights_used;
    std::mutex busy;
    Vector<float> x, attended, inner, normed;  // [T][C64] or [T][inner64], the rest of a row 0
    Vector<bf16> queries;                      // [T][H][key width]
    Vector<float> panel_best, rescored_from;   // [T][panels of the output matrix], [T]
    Inputs wide_in, narrow_in;
    int reserved = 0;

    // Numbers below 1e-38 count as 0, as they do in AMX's tiles: they are slow, and nothing depends on them.
    void run(const std::function<void(int)>& job) {
        team.run([&](int me) {
#if defined(__x86_64__)
            const unsigned before = _mm_getcsr();
            _mm_setcsr(before | 0x8040);
            job(me);
            release_tiles();
            _mm_setcsr(before);
#else
            job(me);
#endif
        });
    }
    int share(int n, int me, int unit = 1) const {  // where the part of member `me` begins
        return (int)((int64_t)(n / unit) * me / team.size) * unit + (me == team.size ? n % unit : 0);
    }
    void reserve(int n_tokens) {
        if (n_tokens <= reserved) return;
        reserved = n_tokens;
        x.assign((size_t)reserved * C64, 0), attended.assign((size_t)reserved * C64, 0);
        normed.assign((size_t)reserved * C64, 0), inner.assign((size_t)reserved * inner64, 0);
        queries.assign((size_t)reserved * s.n_head * key_width, 0);
        if (screened) panel_best.assign((size_t)reserved * screen.n_panels, 0), rescored_from.assign(reserved, 0);
        narrow_in.allocate(reserved, s.n_embd), wide_in.allocate(reserved, s.n_inner);
    }
    // Write numbers begin..end of row t of what `w` will be multiplied with.
    void set_inputs(Inputs& in, int t, const float* row, int begin, int end, const Matrix& w, bool wide) {
        if (wide || w.format == BF16) in.set_bf16(t, row, begin, end);
        else in.set_int8(t, row, begin, end, bias_of(w.format));
    }
    void normalise(const float* from, float* to, const Vector<float>& gain, const Vector<float>& bias) const {
        const int C = s.n_embd, whole = C / 16 * 16;
        f32x16 total = {};
        for (int i = 0; i < C64; i += 16) total += load<f32x16>(from + i);
        const float mean = sum_of(total) / C;
        total = f32x16{};
        for (int i = 0; i < whole; i += 16) {
            const f32x16 d = load<f32x16>(from + i) - mean;
            total += d * d;
        }
        float squares = sum_of(total);
        for (int i = whole; i < C; i++) squares += (from[i] - mean) * (from[i] - mean);
        const float inverse = 1.0f / std::sqrt(squares / C + s.epsilon);
        for (int i = 0; i < C64; i += 16)  // gain and bias are 0 beyond C
            store(to + i, (load<f32x16>(from + i) - mean) * inverse * load<f32x16>(&gain[i]) + load<f32x16>(&bias[i]));
    }
    void embed(const Feed& call, int me) {
        for (int q = 0, t = 0; q < call.n_sequences; q++)
            for (int i = 0; i < call.counts[q]; i++, t++) {
                if (t % team.size != me) continue;
                float* row = &x[(size_t)t * C64];
                unpack_row(embedding, call.tokens[t], row);
                const float* position = &positions[(size_t)(call.starts[q] + i) * s.n_embd];
                for (int c = 0; c < s.n_embd; c++) row[c] += position[c];
            }
        team.barrier();
    }
    void block(int l, Cache& cache, const Feed& call, int me) {
        Layer& w = layers[l];
        const int T = call.n_tokens, heads_begin = share(s.n_head, me), heads_end = share(s.n_head, me + 1);
        for (int t = share(T, me); t < share(T, me + 1); t++) {
            float* row = &x[(size_t)t * C64];
            float* to = s.post_norm ? row : &normed[(size_t)t * C64];
            if (!s.post_norm) normalise(row, to, w.norm_1_gain, w.norm_1_bias);
            set_inputs(narrow_in, t, to, 0, C64, w.attn, call.wide);
        }
        team.barrier();
        for (int h = heads_begin; h < heads_end; h++) attend(l, h, cache, call);
        team.barrier();
        for (int t = share(T, me); t < share(T, me + 1); t++)
            set_inputs(narrow_in, t, &attended[(size_t)t * C64], 0, C64, w.attn_proj, call.wide);
        team.barrier();
        add_product(w.attn_proj, w.attn_proj_bias, narrow_in, call, me);
        team.barrier();
        for (int t = share(T, me); t < share(T, me + 1); t++) {
            float* row = &x[(size_t)t * C64];
            float* to = s.post_norm ? row : &normed[(size_t)t * C64];
            if (s.post_norm) normalise(row, to, w.norm_1_gain, w.norm_1_bias);
            else normalise(row, to, w.norm_2_gain, w.norm_2_bias);
            set_inputs(narrow_in, t, to, 0, C64, w.fc, call.wide);
        }
        team.barrier();
        // Four panels are a block of the next product's inputs, so each thread prepares what it computed itself.
        const int begin = share(w.fc.n_panels, me, 4), end = share(w.fc.n_panels, me + 1, 4);
        const bool directly = call.wide || w.mlp_proj.format == BF16;
        product(w.fc, narrow_in, T, begin, end, call.wide, [&](int t, int p, f32x16 y) {
            y = activate(y + load<f32x16>(&w.fc_bias[p * PANEL]));
            if (directly) store_bf16(wide_in.bf_row(t) + p * PANEL, y);
            else store(&inner[(size_t)t * inner64 + p * PANEL], y);
        });
        for (int t = 0; !directly && t < T; t++)
            set_inputs(wide_in, t, &inner[(size_t)t * inner64], begin * PANEL, me + 1 == team.size ? inner64 : end * PANEL, w.mlp_proj, false);
        team.barrier();
        add_product(w.mlp_proj, w.mlp_proj_bias, wide_in, call, me);
        team.barrier();
        if (s.post_norm) {
            for (int t = share(T, me); t < share(T, me + 1); t++) {
                float* row = &x[(size_t)t * C64];
                normalise(row, row, w.norm_2_gain, w.norm_2_bias);
            }
            team.barrier();
        }
    }
    f32x16 activate(f32x16 y) const {
        switch (s.activation) {
            case GELU_TANH:  // 0.5 y (1 + tanh z) = y / (1 + e^-2z)
                return y * reciprocal(1.0f + exponential(-1.5957691216f * (y + 0.044715f * y * y * y)));
            case GELU_ERF:
                for (int i = 0; i < 16; i++) y[i] = 0.5f * y[i] * (1.0f + std::erf(y[i] * 0.70710678f));
                return y;
            case RELU:
                return max(y, f32x16{});
            default:
                return y * reciprocal(1.0f + exponential(-y));
        }
    }
    // x += W in + bias
    void add_product(const Matrix& w, const Vector<float>& bias, const Inputs& in, const Feed& call, int me) {
        product(w, in, call.n_tokens, share(w.n_panels, me), share(w.n_panels, me + 1), call.wide,
                [&](int t, int p, f32x16 y) {
                    float* at = &x[(size_t)t * C64 + p * PANEL];
                    store(at, load<f32x16>(at) + (y + load<f32x16>(&bias[p * PANEL])));
                });
    }
    // One head of every sequence: its queries, keys and values, then what its tokens see of the cache.
    void attend(int l, int h, Cache& cache, const Feed& call) {
        Layer& w = layers[l];
        const int parts = round_up(D, PANEL) / PANEL;
        std::vector<int>& sequence_of = scratch().sequence_of;
        std::vector<int>& slot_of = scratch().slot_of;
        sequence_of.resize(call.n_tokens), slot_of.resize(call.n_tokens);
        for (int q = 0, t = 0; q < call.n_sequences; q++)
            for (int i = 0; i < call.counts[q]; i++, t++) sequence_of[t] = q, slot_of[t] = call.starts[q] + i;
        product(w.attn, narrow_in, call.n_tokens, h * 3 * parts, (h + 1) * 3 * parts, call.wide,
                [&](int t, int p, f32x16 y) {
                    y += load<f32x16>(&w.attn_bias[p * PANEL]);
                    alignas(64) bf16 rounded_y[16];
                    store_bf16(rounded_y, y);
                    const int part = p / parts % 3, d = p % parts * PANEL, slot = slot_of[t];
                    const int row = call.rows[sequence_of[t]];
                    if (part == 0) {
                        memcpy(&queries[((size_t)t * s.n_head + h) * key_width + d], rounded_y, sizeof rounded_y);
                    } else if (part == 1) {  // a pair of channels of a slot lies together
                        bf16* to = cache.row(l, row, h) + cache.key_at(slot, d);
                        for (int i = 0; i < 16; i += 2) memcpy(to + i * 16, &rounded_y[i], 4);
                    } else {  // a pair of slots of a channel lies together
                        bf16* to = cache.row(l, row, h) + cache.value_at(slot, d);
                        for (int i = 0; i < 16; i++) to[i * 2] = rounded_y[i];
                    }
                });
        for (int q = 0, t = 0; q < call.n_sequences; t += call.counts[q++])
            for (int i = 0; i < call.counts[q]; i += 32)
                attend_cache(l, h, cache, call.rows[q], t + i, call.starts[q] + i, std::min(32, call.counts[q] - i));
    }
    // Up to 32 tokens in a row, the first of them in slot `slot`.
    void attend_cache(int l, int h, Cache& cache, int row, int t, int slot, int n) {
        const int n_seen = slot + n, width = round_up(n_seen, 32), stride = width + 32;  // as in Inputs
        const int value_width = cache.value_width;
        Vector<float>&scores = scratch().scores, &sums = scratch().sums;
        Vector<bf16>& weights = scratch().weights;
        scores.resize((size_t)32 * stride), weights.resize((size_t)32 * stride), sums.resize((size_t)32 * value_width);
        bf16_product_to(scores.data(), stride, cache.keys(l, row, h), width / 16, key_width,
                        &queries[((size_t)t * s.n_head + h) * key_width], (size_t)s.n_head * key_width, n);
        float inverse[32];
        for (int i = 0; i < n; i++)
            inverse[i] = 1.0f / softmax(&scores[(size_t)i * stride], slot + i + 1, layers[l].attn_scale, &weights[(size_t)i * stride], width);
        bf16_product_to(sums.data(), value_width, cache.values(l, row, h), value_width / 16, width, weights.data(), stride, n);
        for (int i = 0; i < n; i++) {
            float *to = &attended[(size_t)(t + i) * C64 + h * D], *from = &sums[(size_t)i * value_width];
            for (int d = 0; d < D; d += PANEL) {
                const f32x16 y = load<f32x16>(from + d) * inverse[i];
                if (D - d >= PANEL) store(to + d, y);
                else memcpy(to + d, &y, (D - d) * sizeof(float));
            }
        }
    }
    // e^(scale (score - largest)) of the first n of `width` scores, 0 for the rest; returns their sum. scale > 0.
    static float softmax(const float* scores, int n, float scale, bf16* weights, int width) {
        const i32x16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const int whole = n / 16 * 16;
        const f32x16 last = choose(lanes + whole < n, load<f32x16>(scores + whole), splat(-INFINITY));
        f32x16 largest = last, total = {};
        for (int i = 0; i < whole; i += 16) largest = max(largest, load<f32x16>(scores + i));
        const float unit = scale * LOG2_E, top = max_of(largest) * unit;
        for (int i = 0; i < whole; i += 16) {
            const f32x16 e = power_of_2(load<f32x16>(scores + i) * unit - top);
            store_bf16(weights + i, e);
            total += e;
        }
        for (int i = whole; i < width; i += 16) {
            const f32x16 e = i > whole ? f32x16{} : choose(lanes + i < n, power_of_2(last * unit - top), f32x16{});
            store_bf16(weights + i, e);
            total += e;
        }
        return sum_of(total);
    }
    // Scores by the 4-bit output matrix, then those of the panels with the best of them once more by `w`, in 8 bits.
    template <class Write>
    void screen_panels(const Matrix& w, int n, int begin, int end, int me, Write write) {
        static const int N_RESCORED = 64;
        product(screen, narrow_in, n, begin, end, false, [&](int i, int p, f32x16 y) {
            panel_best[(size_t)i * w.n_panels + p] = max_of(y);
            write(i, p, y);
        });
        team.barrier();
        for (int i = share(n, me); i < share(n, me + 1); i++) {
            const float* best = &panel_best[(size_t)i * w.n_panels];
            std::vector<float> ranked(best, best + w.n_panels);
            const auto last = ranked.begin() + std::min(N_RESCORED, w.n_panels) - 1;
            std::nth_element(ranked.begin(), last, ranked.end(), std::greater<float>());
            rescored_from[i] = *last;
            set_inputs(narrow_in, i, &normed[(size_t)i * C64], 0, C64, w, false);
        }
        team.barrier();
        for (int i = 0; i < n; i++)
            for (int p = begin; p < end; p++)
                if (panel_best[(size_t)i * w.n_panels + p] >= rescored_from[i]) {
                    f32x16 y;
                    dot_panel<INT8, 1>(w, p, narrow_in, i, &y);
                    write(i, p, y);
                }
    }
    void finish(const Feed& call, int me) {
        for (int i = share(call.n_wanted, me); i < share(call.n_wanted, me + 1); i++) {
            const float* row = &x[(size_t)call.wanted[i] * C64];
            float* to = &normed[(size_t)call.wanted[i] * C64];
            if (!s.post_norm) normalise(row, to, final_gain, final_bias);
            memcpy(call.hidden + (size_t)i * s.n_embd, s.post_norm ? row : to, s.n_embd * sizeof(float));
        }
    }
    struct Scratch {
        Vector<float> scores, sums;
        Vector<bf16> weights;
        std::vector<int> sequence_of, slot_of;
    };
    static Scratch& scratch() {
        static thread_local Scratch own;
        return own;
    }
};

// ---- what Python calls (generation/cpu_library.py) -----------------------------------------------------------

extern "C" {

Engine* engine_new(const Shape* shape, int format, int head_format, int screened, int n_threads) {
    try { return new Engine(*shape, (Format)format, (Format)head_format, screened, n_threads); } catch (const std::bad_alloc&) { return nullptr; }
}
void engine_free(Engine* engine) { delete engine; }

enum MatrixName { EMBEDDING = 0, HEAD = 1, ATTN = 2, ATTN_PROJ = 3, FC = 4, MLP_PROJ = 5 };
// 0, or 1 where a weight is not finite.
int engine_set_matrix(Engine* e, int layer, int name, const float* weights) {
    const int C = e->s.n_embd, inner = e->s.n_inner, V = e->s.vocab_size;
    const auto set = [&](Matrix& m, Format format, int n_out, int n_in, int n_heads) {
        return e->set_matrix(m, format, weights, n_out, n_in, n_heads) ? 0 : 1;
    };
    const bool is_output = name == HEAD || (name == EMBEDDING && e->s.tied);
    if (is_output && e->screened && set(e->screen, INT4, V, C, 0)) return 1;
    switch (name) {
        case EMBEDDING: return set(e->embedding, e->head_format, V, C, 0);
        case HEAD: return set(e->head, e->head_format, V, C, 0);
        case ATTN: return set(e->layers[layer].attn, e->format, 3 * C, C, e->s.n_head);
        case ATTN_PROJ: return set(e->layers[layer].attn_proj, e->format, C, C, 0);
        case FC: return set(e->layers[layer].fc, e->format, inner, C, 0);
        default: return set(e->layers[layer].mlp_proj, e->format, C, inner, 0);
    }
}

enum VectorName { POSITIONS, FINAL_GAIN, FINAL_BIAS, NORM_1_GAIN, NORM_1_BIAS, NORM_2_GAIN, NORM_2_BIAS,
                  ATTN_BIAS, ATTN_PROJ_BIAS, FC_BIAS, MLP_PROJ_BIAS };
int engine_set_vector(Engine* e, int layer, int name, const float* from, int64_t n) {
    Layer& w = e->layers[layer];
    Vector<float>* to[] = {&e->positions, &e->final_gain, &e->final_bias,
                           &w.norm_1_gain, &w.norm_1_bias, &w.norm_2_gain, &w.norm_2_bias,
                           &w.attn_bias, &w.attn_proj_bias, &w.fc_bias, &w.mlp_proj_bias};
    return e->set_vector(*to[name], from, n, name == ATTN_BIAS ? e->s.n_head : 0) ? 0 : 1;
}
void engine_set_attention_scale(Engine* e, int layer, float scale) { e->layers[layer].attn_scale = scale; }

Cache* cache_new(Engine* e, int n_rows, int n_slots) {
    try { return new Cache(e->s, n_rows, n_slots); } catch (const std::bad_alloc&) { return nullptr; }
}
void cache_free(Cache* cache) { delete cache; }
int64_t cache_bytes(const Cache* cache) { return (int64_t)cache->memory.size; }
void cache_copy(Cache* cache, int source, int target, int start, int stop) { cache->copy(source, target, start, stop); }

int engine_feed(Engine* e, Cache* cache, const Feed* call) {  // 0, or 1 where memory ran out
    try { e->feed(*cache, *call); } catch (const std::bad_alloc&) { return 1; }
    return 0;
}
int engine_score(Engine* e, const float* hidden, int n, float* logits) {
    try { e->score(hidden, n, logits); } catch (const std::bad_alloc&) { return 1; }
    return 0;
}
void engine_read_weights(Engine* e) { e->read_weights(); }
int64_t engine_token_bytes(Engine* e) { return (int64_t)e->token_bytes; }

}
