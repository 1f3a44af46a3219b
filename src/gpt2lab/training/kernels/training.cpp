// What training on a CPU needs beyond PyTorch's kernels: the loss of logits with its gradient in their place, and
// products of matrices where there is AMX. `training/cpu.py` calls it. Threads are OpenMP's, as PyTorch's are.
#include "softmax.h"

extern "C" void softmax_losses_bfloat16(int64_t rows, int64_t n, int64_t stride, bf16* logits, const int64_t* targets,
                                        double* losses, int gradient, int threads) {
    softmax_losses(rows, n, stride, logits, targets, losses, gradient != 0, threads);
}
extern "C" void softmax_losses_float32(int64_t rows, int64_t n, int64_t stride, float* logits, const int64_t* targets,
                                       double* losses, int gradient, int threads) {
    softmax_losses(rows, n, stride, logits, targets, losses, gradient != 0, threads);
}

// Whether products can be had.
#if defined(__AMX_BF16__)
#include "product.h"

extern "C" int has_product() { return 1; }
extern "C" void product_bfloat16(int64_t M, int64_t N, int64_t K, const void* a, int a_float, int64_t a_row,
                                 int64_t a_column, const void* b, int b_float, int64_t b_row, int64_t b_column, void* c,
                                 int c_float, int64_t c_row, int add, int threads) {
    product(M, N, K, {a, a_float != 0, a_row, a_column}, {b, b_float != 0, b_row, b_column},
            {c, c_float != 0, add != 0, c_row}, threads);
}
#else
extern "C" int has_product() { return 0; }
#endif
