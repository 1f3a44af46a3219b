// A team of threads that stay awake: a token is made of some hundred small steps, each shorter than a sleeping
// thread takes to wake. They spin for a while; then they sleep, so that where others use the machine too nobody
// spins away the time that the one they wait for needs.
#pragma once
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

class Team {
public:
    explicit Team(int size) : size(size) {
        for (int i = 1; i < size; i++) workers.emplace_back([this, i] { work(i); });
    }
    ~Team() {
        stopping = true;
        job_number.fetch_add(1);
        job_number.notify_all();
        for (auto& worker : workers) worker.join();
    }
    // Run `job(member)` on every member, the caller being member 0.
    void run(const std::function<void(int)>& job) {
        current = &job;
        job_number.fetch_add(1);
        job_number.notify_all();
        job(0);
        barrier();
    }
    // Wait until every member is here.
    void barrier() {
        if (size == 1) return;
        int generation = passed.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            arrived.store(0, std::memory_order_relaxed);
            passed.store(generation + 1, std::memory_order_release);
            passed.notify_all();
        } else {
            wait_for_change(passed, generation, 4000);
        }
    }
    const int size;

private:
    static void wait_for_change(const std::atomic<int>& number, int from, int spins) {
        for (int i = 0; i < spins; i++) {
            if (number.load(std::memory_order_acquire) != from) return;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("yield");
#endif
        }
        number.wait(from, std::memory_order_acquire);
    }
    void work(int member) {
        for (int seen = 0;; seen++) {
            wait_for_change(job_number, seen, 30000);  // about a millisecond: the time between two tokens
            if (stopping) return;
            (*current)(member);
            barrier();
        }
    }
    std::vector<std::thread> workers;
    const std::function<void(int)>* current = nullptr;
    std::atomic<int> job_number{0};
    std::atomic<bool> stopping{false};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<int> passed{0};
};
