// The CPU engine as a program, for processors that are only emulated: a model and tokens in, hidden states and
// scores out. The file is written by test_cpu_engine.py: int32 shape (9), float epsilon, int32 format, head format,
// screened, threads, then a line for each weight (int32 kind, layer, name, count; float32 numbers), closed by kind -1; then
// int32 wide, n_tokens and the tokens of one row.
#include <cstdio>
#include "engine.cpp"

static int32_t number(FILE* file) {
    int32_t n;
    if (fread(&n, 4, 1, file) != 1) exit(2);
    return n;
}

int main(int, char** argv) {
    FILE* in = fopen(argv[1], "rb");
    Shape shape;
    if (fread(&shape, sizeof shape, 1, in) != 1) return 2;
    const int format = number(in), head_format = number(in), screened = number(in), threads = number(in);
    Engine* engine = engine_new(&shape, format, head_format, screened, threads);
    for (int kind; (kind = number(in)) >= 0;) {
        const int layer = number(in), name = number(in), count = number(in);
        std::vector<float> numbers(count);
        if (fread(numbers.data(), 4, count, in) != (size_t)count) return 2;
        if (kind == 0) engine_set_matrix(engine, layer, name, numbers.data());
        if (kind == 1) engine_set_vector(engine, layer, name, numbers.data(), count);
        if (kind == 2) engine_set_attention_scale(engine, layer, numbers[0]);
    }
    const int wide = number(in), n = number(in);
    std::vector<int32_t> tokens(n), wanted(n);
    for (int i = 0; i < n; i++) tokens[i] = number(in), wanted[i] = i;
    Cache* cache = cache_new(engine, 1, n);
    const int32_t row = 0, start = 0, count = n;
    std::vector<float> hidden((size_t)n * shape.n_embd), logits((size_t)n * shape.vocab_size);
    const Feed feed = {n, 1, tokens.data(), &row, &start, &count, n, wanted.data(), hidden.data(), wide};
    if (engine_feed(engine, cache, &feed) || engine_score(engine, hidden.data(), n, logits.data())) return 3;
    FILE* out = fopen(argv[2], "wb");
    fwrite(logits.data(), 4, logits.size(), out);
    fclose(out);
    return 0;
}
