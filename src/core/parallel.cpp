// A pool of our own rather than OpenMP's: its threads wait actively for long, so on a busy machine (a browser, a second run) they take the
// processor from the very work that they wait for. Measured with one other busy process on two cores: steps took 5 times as long as
// on one thread. Here a thread spins for a short while, which covers the gaps between two loops of a training step, and then sleeps.
#include "glassformer/core/parallel.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

namespace glassformer {
namespace {

constexpr auto kSpin = std::chrono::microseconds(100);

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` is no longer `old`.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto start = std::chrono::steady_clock::now();
  while (value.load(std::memory_order_acquire) == old) {
    for (int i = 0; i < 64; ++i) relax();
    if (std::chrono::steady_clock::now() - start > kSpin) {
      value.wait(old, std::memory_order_acquire);
      return;
    }
  }
}

thread_local bool inside_loop = false;  // a loop within a loop runs on the thread that meets it

class Pool {
 public:
  ~Pool() {
    stop_ = true;
    for (const auto& w : workers_) w->call();
    for (const auto& w : workers_) w->thread.join();
  }

  void run(int threads, Index tasks, void* context, void (*call)(void*, Index)) {
    const std::scoped_lock one_loop_at_a_time(guard_);
    const auto helpers = static_cast<std::size_t>(threads - 1);
    while (workers_.size() < helpers) {
      workers_.push_back(std::make_unique<Worker>());
      workers_.back()->thread = std::thread([this, &own = *workers_.back()] { work(own); });
    }
    context_ = context, call_ = call, tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    failure_ = nullptr;
    busy_.store(static_cast<std::uint32_t>(helpers), std::memory_order_relaxed);
    for (std::size_t i = 0; i < helpers; ++i) workers_[i]->call();  // those alone: others sleep on, and nobody waits for them
    take_tasks();
    for (std::uint32_t left = busy_.load(std::memory_order_acquire); left != 0; left = busy_.load(std::memory_order_acquire)) wait_for_change(busy_, left);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct Worker {
    std::atomic<std::uint32_t> calls{0};
    std::thread thread;
    void call() {
      calls.fetch_add(1, std::memory_order_release);
      calls.notify_one();
    }
  };

  void work(Worker& own) {
    inside_loop = true;
    for (std::uint32_t seen = 0;;) {
      wait_for_change(own.calls, seen);
      seen = own.calls.load(std::memory_order_acquire);
      if (stop_) return;
      take_tasks();
      if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_all();
    }
  }

  void take_tasks() {
    for (Index i = next_.fetch_add(1, std::memory_order_relaxed); i < tasks_; i = next_.fetch_add(1, std::memory_order_relaxed)) {
      try {
        call_(context_, i);
      } catch (...) {  // kept until every thread is done with the loop's variables
        const std::scoped_lock lock(failure_guard_);
        if (!failure_) failure_ = std::current_exception();
      }
    }
  }

  std::mutex guard_, failure_guard_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<std::uint32_t> busy_{0};
  std::atomic<Index> next_{0};
  std::atomic<bool> stop_{false};
  void* context_ = nullptr;
  void (*call_)(void*, Index) = nullptr;
  Index tasks_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

int available_threads() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

namespace detail {

void parallel_run(int threads, Index tasks, void* context, void (*call)(void*, Index)) {
  if (inside_loop) {
    for (Index i = 0; i < tasks; ++i) call(context, i);
    return;
  }
  static Pool pool;
  inside_loop = true;
  struct Leave {
    ~Leave() { inside_loop = false; }
  } leave;
  pool.run(static_cast<int>(std::min<Index>(threads, tasks)), tasks, context, call);
}

}  // namespace detail
}  // namespace glassformer
