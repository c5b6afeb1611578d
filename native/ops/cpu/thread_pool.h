// A fixed set of worker threads that split index ranges; the calling thread works too.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace longlive::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end) on disjoint parts of [0, count), each at least `grain` long (but the last). Returns when all
  // parts are done. Allocates nothing. One caller at a time.
  template <class F>
  void parallelFor(int64_t count, int64_t grain, F&& body) {
    using Body = std::remove_reference_t<F>;
    run(count, grain, [](void* b, int64_t begin, int64_t end) { (*static_cast<Body*>(b))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Invoke = void (*)(void*, int64_t, int64_t);
  void run(int64_t count, int64_t grain, Invoke invoke, void* body);
  void work(int index);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  uint64_t generation_ = 0;
  int pending_ = 0;
  bool stop_ = false;
  Invoke invoke_ = nullptr;
  void* body_ = nullptr;
  int64_t count_ = 0, part_ = 0;
};

}  // namespace longlive::cpu
