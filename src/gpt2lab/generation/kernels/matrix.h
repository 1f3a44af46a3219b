// Weight matrices as the products want to read them: one straight line through memory.
//
// 16 outputs (rows) make a panel; inside it blocks of 64 inputs follow each other, so that an instruction takes
// the same few inputs of all 16 outputs at once. Rows and inputs that are missing at the ends are zeros.
//
//     BF16   a block is 32 pairs of inputs:  [32][16 outputs][2] bfloat16             16   bits a weight
//     INT8   2 groups of 32 inputs:          [2][8][16 outputs][4] bytes, scales       8.5
//     INT4   2 groups of 32 inputs:          [2][4][16 outputs][4] bytes, scales       4.5
//
// Scales are [16 outputs][2 groups] bfloat16. A byte of INT8 holds weight / scale + 128; one of INT4 holds two
// of weight / scale + 8, the low half for inputs 0..15 of the group and the high half for 16..31.
#pragma once
#include <cstdlib>
#include <new>
#include <vector>
#include <sys/mman.h>
#include "simd.h"

enum Format { BF16 = 0, INT8 = 1, INT4 = 2 };
static const int PANEL = 16, BLOCK = 64, GROUP = 32;

INLINE int round_up(int n, int to) { return (n + to - 1) / to * to; }

// A vector that begins at a cache line: what straddles two is read at half the speed.
template <class T> struct Aligned {
    typedef T value_type;
    Aligned() = default;
    template <class U> Aligned(const Aligned<U>&) {}
    T* allocate(size_t n) { return (T*)::operator new(n * sizeof(T), std::align_val_t(64)); }
    void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    bool operator==(const Aligned&) const { return true; }
};
template <class T> using Vector = std::vector<T, Aligned<T>>;

// Memory in huge pages where the system has them: a token reads all of it, and small pages cost a lookup each.
struct Memory {
    uint8_t* data = nullptr;
    size_t size = 0;
    Memory() = default;
    Memory(const Memory&) = delete;
    ~Memory() { if (data) munmap(data, size); }
    void allocate(size_t bytes) {  // zeros
        const size_t page = 2 << 20;
        size = (bytes + page - 1) / page * page;
        void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
        data = (uint8_t*)at;
#if defined(MADV_HUGEPAGE)
        madvise(data, size, MADV_HUGEPAGE);
#endif
    }
};

struct Matrix {
    Format format = BF16;
    int n_out = 0, n_in = 0;       // as in the model
    int n_panels = 0, n_blocks = 0;
    size_t block_bytes = 0, panel_bytes = 0;
    uint8_t* data = nullptr;
    uint8_t* panel(int p) const { return data + p * panel_bytes; }
    size_t bytes() const { return n_panels * panel_bytes; }
};

static const size_t BLOCK_BYTES[] = {PANEL * BLOCK * 2, PANEL * BLOCK + 2 * PANEL * 2, PANEL * BLOCK / 2 + 2 * PANEL * 2};

static Matrix matrix_of(Format format, int n_out, int n_in) {  // without memory yet
    Matrix m;
    m.format = format;
    m.n_out = n_out, m.n_in = n_in;
    m.n_panels = round_up(n_out, PANEL) / PANEL, m.n_blocks = round_up(n_in, BLOCK) / BLOCK;
    m.block_bytes = BLOCK_BYTES[format], m.panel_bytes = m.n_blocks * m.block_bytes;
    return m;
}

INLINE int quantised(float w, float inverse, Format format) {  // inverse of the scale
    const int bias = format == INT8 ? 128 : 8, most = 2 * bias - 1, q = (int)std::lrint(w * inverse) + bias;
    return q < 0 ? 0 : q > most ? most : q;
}
INLINE float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

// What a unit of a group stands for. INT8: the largest weight is 127. INT4: of some scales around the one that
// makes the largest weight -8 (its own sign, so that -8..7 is used whole) the one with the least squared error:
// a group's largest weight may be cut a little where that serves the other 31.
static float group_scale(const float* w, Format format) {
    float largest = 0;
    for (int i = 0; i < GROUP; i++) largest = std::fabs(w[i]) > std::fabs(largest) ? w[i] : largest;
    if (format == INT8) return from_bf16(to_bf16(std::fabs(largest) / 127.0f));
    float best = 0, least = INFINITY;
    for (const float unit : {-8.0f, -8.4f, -8.8f, -9.3f, -7.5f, 7.0f, 7.4f, 7.8f}) {
        const float scale = from_bf16(to_bf16(largest / unit)), inverse = inverse_of(scale);
        float error = 0;
        for (int i = 0; i < GROUP; i++) {
            const float off = w[i] - scale * (quantised(w[i], inverse, format) - 8);
            error += off * off;
        }
        if (error < least) least = error, best = scale;
    }
    return best;
}

// Write one panel. `rows` are its 16 rows of n_in weights, null where there is none. False if one is not finite.
static bool pack_panel(Matrix& m, int panel, const float* const* rows) {
    uint8_t* block = m.panel(panel);
    float not_a_number = 0;  // 0 times anything finite is 0
    for (int b = 0; b < m.n_blocks; b++, block += m.block_bytes) {
        float part[PANEL][BLOCK] = {};  // zeros where a row has ended, or there is none
        const int rest = m.n_in - b * BLOCK;
        for (int lane = 0; lane < PANEL; lane++) {
            if (rows[lane]) memcpy(part[lane], rows[lane] + b * BLOCK, (rest < BLOCK ? rest : BLOCK) * sizeof(float));
            for (int i = 0; i < BLOCK; i++) not_a_number += part[lane][i] * 0.0f;
        }
        if (m.format == BF16) {
            for (int i = 0; i < BLOCK; i += 2)
                for (int lane = 0; lane < PANEL; lane++)
                    for (int k = 0; k < 2; k++) ((bf16*)block)[i * PANEL + lane * 2 + k] = to_bf16(part[lane][i + k]);
            continue;
        }
        bf16* scales = (bf16*)(block + m.block_bytes - 2 * PANEL * 2);
        for (int lane = 0; lane < PANEL; lane++)
            for (int g = 0; g < 2; g++) {
                const float *group = part[lane] + g * GROUP, scale = group_scale(group, m.format), inverse = inverse_of(scale);
                scales[lane * 2 + g] = to_bf16(scale);
                for (int k = 0; k < GROUP; k++) {
                    const int q = quantised(group[k], inverse, m.format);
                    if (m.format == INT8) {
                        block[(g * 8 + k / 4) * 64 + lane * 4 + k % 4] = (uint8_t)q;
                    } else {
                        uint8_t& both = block[(g * 4 + k % 16 / 4) * 64 + lane * 4 + k % 4];
                        both = k < 16 ? (both & 0xf0) | q : (both & 0x0f) | q << 4;
                    }
                }
            }
    }
    return not_a_number == 0;
}

// One group of 32 inputs of 16 outputs as bytes, 4 inputs of each output at a time: part j = 0..7.
template <Format F> INLINE u8x64 group_part(const uint8_t* group, int j) {
    if (F == INT8) return load<u8x64>(group + j * 64);
    u8x64 both = load<u8x64>(group + j % 4 * 64);
    return j < 4 ? both & (uint8_t)15 : (u8x64)(((u32x16)both >> 4) & 0x0f0f0f0fu);
}
template <Format F> constexpr size_t group_bytes() { return F == INT8 ? PANEL * GROUP : PANEL * GROUP / 2; }

// A row of weights back as floats: what an embedding looks up in the output matrix.
static void unpack_row(const Matrix& m, int row, float* w) {  // w has room for whole blocks
    const uint8_t* block = m.panel(row / PANEL);
    const int lane = row % PANEL;
    for (int b = 0; b < m.n_blocks; b++, block += m.block_bytes) {
        if (m.format == BF16) {
            for (int pair = 0; pair < BLOCK / 2; pair++, w += 2) {
                const bf16* at = (const bf16*)block + pair * 2 * PANEL + lane * 2;
                w[0] = from_bf16(at[0]), w[1] = from_bf16(at[1]);
            }
            continue;
        }
        const size_t group_bytes = (m.block_bytes - 2 * PANEL * 2) / 2;
        const bf16* scales = (const bf16*)(block + 2 * group_bytes);
        for (int g = 0; g < 2; g++)
            for (int j = 0; j < 8; j++, w += 4) {
                const float scale = from_bf16(scales[lane * 2 + g]);
                const uint8_t* at = block + g * group_bytes + (m.format == INT8 ? j : j % 4) * 64 + lane * 4;
                for (int k = 0; k < 4; k++)
                    w[k] = scale * (m.format == INT8 ? at[k] - 128 : (j < 4 ? at[k] & 15 : at[k] >> 4) - 8);
            }
    }
}

// A quantised panel as a BF16 one, `to` being [n_blocks][32][16][2].
template <Format F> static void open_panel(const Matrix& m, int p, bf16* to) {
    const uint8_t* block = m.panel(p);
    for (int b = 0; b < m.n_blocks; b++, block += m.block_bytes) {
        const u32x16 scales = load<u32x16>(block + 2 * group_bytes<F>());
        for (int g = 0; g < 2; g++) {
            const f32x16 scale = g ? high_bf16(scales) : low_bf16(scales);
            const f32x16 offset = scale * (F == INT8 ? -128.0f : -8.0f);
            for (int j = 0; j < 8; j++, to += 4 * PANEL) {
                const u32x16 w = (u32x16)group_part<F>(block + g * group_bytes<F>(), j);
                u32x16 part[4];  // bits of the floats, half a unit of bfloat16 added so that cutting rounds
                for (int k = 0; k < 4; k++)
                    part[k] = (u32x16)(to_float((i32x16)((w >> (8 * k)) & 255u)) * scale + offset) + 0x8000u;
                store(to, (part[0] >> 16) | (part[1] & 0xffff0000u));
                store(to + 2 * PANEL, (part[2] >> 16) | (part[3] & 0xffff0000u));
            }
        }
    }
}
