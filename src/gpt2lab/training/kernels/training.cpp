// What training on a CPU needs beyond PyTorch's kernels: the loss of logits with its gradient in their place, GELU,
// and where the processor multiplies bfloat16 numbers (AMX, AVX-512), products of matrices and attention.
// `training/cpu_kernels.py` calls it. Threads are OpenMP's, as PyTorch's are.
#include "gelu.h"
#include "softmax.h"

extern "C" void softmax_losses_bfloat16(int64_t rows, int64_t n, int64_t stride, bf16* logits, const int64_t* targets,
                                        double* losses, int gradient, int threads) {
    softmax_losses(rows, n, stride, logits, targets, losses, gradient != 0, threads);
}
extern "C" void softmax_losses_float32(int64_t rows, int64_t n, int64_t stride, float* logits, const int64_t* targets,
                                       double* losses, int gradient, int threads) {
    softmax_losses(rows, n, stride, logits, targets, losses, gradient != 0, threads);
}

extern "C" void gelu_bfloat16(int64_t n, const bf16* x, bf16* y, int threads) { gelu(n, x, y, threads); }
extern "C" void gelu_float32(int64_t n, const float* x, float* y, int threads) { gelu(n, x, y, threads); }
extern "C" void gelu_backward_bfloat16(int64_t n, const bf16* x, const bf16* y_slopes, bf16* x_slopes, int threads) {
    gelu_backward(n, x, y_slopes, x_slopes, threads);
}
extern "C" void gelu_backward_float32(int64_t n, const float* x, const float* y_slopes, float* x_slopes, int threads) {
    gelu_backward(n, x, y_slopes, x_slopes, threads);
}

// Whether those can be had.
#if defined(__AVX512BF16__)
#include "attention.h"
#include "product.h"

extern "C" int has_products() { return 1; }
extern "C" void product_bfloat16(int64_t M, int64_t N, int64_t K, const void* a, int a_float, int64_t a_row,
                                 int64_t a_column, const void* b, int b_float, int64_t b_row, int64_t b_column, void* c,
                                 int c_float, int64_t c_row, int add, int threads) {
    product(M, N, K, {a, a_float != 0, a_row, a_column}, {b, b_float != 0, b_row, b_column},
            {c, c_float != 0, add != 0, c_row}, threads);
}
extern "C" void attention(int64_t n_batch, int64_t n_tokens, int64_t n_head, int64_t width, float scale,
                          const bf16* qkv, bf16* y, int threads) {
    attend({n_batch, n_tokens, n_head, width, scale}, qkv, y, threads);
}
extern "C" void attention_backward(int64_t n_batch, int64_t n_tokens, int64_t n_head, int64_t width, float scale,
                                   const bf16* qkv, const bf16* y_slopes, bf16* slopes, int threads) {
    attend_backward({n_batch, n_tokens, n_head, width, scale}, qkv, y_slopes, slopes, threads);
}
#else
extern "C" int has_products() { return 0; }
#endif
