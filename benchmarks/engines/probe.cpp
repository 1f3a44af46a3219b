// How fast can this machine read memory right now? A number of bytes a line in, bytes a second out.
//
// Two threads (or as many as the argument says) each read their half of the first so many bytes of a buffer in
// huge pages, 16 numbers at a time with a prefetch ahead: as an engine reads its weights. The median of five
// passes after one that is not counted.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>
#include <sys/mman.h>

typedef uint64_t Eight __attribute__((vector_size(64)));
static const size_t PAGE = 2 << 20, MOST = 4096ull << 20, AHEAD = 2048;
static std::atomic<uint64_t> sink;

static void read(const char* from, size_t bytes) {
    Eight total[4] = {};
    for (size_t i = 0; i < bytes; i += 256)
        for (int j = 0; j < 4; j++) {
            __builtin_prefetch(from + i + AHEAD + j * 64);
            total[j] += *(const Eight*)(from + i + j * 64);
        }
    Eight all = total[0] + total[1] + total[2] + total[3];
    for (int j = 0; j < 8; j++) sink += all[j];
}

static double pass(const char* buffer, size_t bytes, int n_threads) {
    std::atomic<int> ready{0};
    std::vector<std::thread> others;
    const size_t part = bytes / n_threads / 256 * 256;
    for (int t = 1; t < n_threads; t++)
        others.emplace_back([&, t] {
            ready++;
            while (ready < n_threads) {}
            read(buffer + t * part, part);
        });
    while (ready < n_threads - 1) {}
    const auto began = std::chrono::steady_clock::now();
    ready++;
    read(buffer, part);
    for (auto& other : others) other.join();
    return part * n_threads / std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

int main(int, char** arguments) {
    const int n_threads = atoi(arguments[1]);
    char* buffer = (char*)mmap(nullptr, MOST + PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffer == MAP_FAILED) return 1;
    buffer += PAGE - (uintptr_t)buffer % PAGE;
    madvise(buffer, MOST, MADV_HUGEPAGE);
    size_t filled = 0;
    for (double wanted; scanf("%lf", &wanted) == 1; fflush(stdout)) {
        const size_t bytes = std::min((size_t)wanted, MOST - 2 * AHEAD);
        if (bytes > filled) memset(buffer + filled, 1, bytes - filled);
        filled = std::max(filled, bytes);
        std::vector<double> speeds;
        for (int i = 0; i < 6; i++) speeds.push_back(pass(buffer, bytes, n_threads));
        std::sort(speeds.begin() + 1, speeds.end());
        printf("%.0f\n", speeds[3]);
    }
}
