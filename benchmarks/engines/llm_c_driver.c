// llm.c's trainer as a process that is told how many steps to take: compiled with -DSOURCE='"train_gpt2.c"' and
// its folder in the include path. Arguments: checkpoint, batch, context length. A number of steps in; seconds out.
#define TESTING
#include SOURCE
#include <sys/resource.h>

int main(int n_arguments, char** arguments) {
    (void)n_arguments;
    freopen("/dev/null", "w", stdout);
    GPT2 model;
    gpt2_build_from_checkpoint(&model, arguments[1]);
    int B = atoi(arguments[2]), T = atoi(arguments[3]), steps, done = 0;
    int* tokens = malloc(sizeof(int) * (B * T + 1));
    srand(1);
    while (scanf("%d", &steps) == 1) {
        for (int s = 0; s < steps; s++) {
            for (int i = 0; i <= B * T; i++) tokens[i] = rand() % (int)model.config.vocab_size;
            struct timespec start, end;
            clock_gettime(CLOCK_MONOTONIC, &start);
            gpt2_forward(&model, tokens, tokens + 1, B, T);
            gpt2_zero_grad(&model);
            gpt2_backward(&model);
            gpt2_update(&model, 6e-6f, 0.9f, 0.95f, 1e-8f, 0.1f, ++done);
            clock_gettime(CLOCK_MONOTONIC, &end);
            struct rusage usage;
            getrusage(RUSAGE_SELF, &usage);
            fprintf(stderr, "%f %ld\n", (end.tv_sec - start.tv_sec) + (end.tv_nsec - start.tv_nsec) / 1e9,
                    usage.ru_maxrss);
        }
    }
    return 0;
}
