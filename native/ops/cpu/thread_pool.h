// A persistent pool of threads for data-parallel loops.
//
// A loop [begin, end) is cut into chunks of `grain`; threads claim chunks until none is left, the calling thread among
// them. Which thread runs which chunk is left to chance, so a kernel must give the same bits however the loop is cut:
// every output element is computed wholly inside one chunk.
//
// Work may throw. What a chunk throws is kept until every chunk has been run, and thrown on the calling thread; the pool is then
// as it was.
//
// The whole hand-out is one 64-bit word, (loop number, chunks not yet claimed). Claiming a chunk is one compare-and-swap on
// it: a thread that wakes late sees nothing left, or the next loop, and nobody ever waits for it. Idle threads spin for
// some microseconds (kernels of one model follow each other closely) and then sleep.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace longlive::cpu {

// Memory aligned for vectors and cache lines. Grows, never shrinks; contents are lost when it grows.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) { reserve(bytes); }
  ~AlignedBuffer() { release(); }
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;

  void reserve(size_t bytes);     // throws std::bad_alloc; the memory is zeroed
  void reserveRaw(size_t bytes);  // the same, with whatever was in the memory
  template <class T> T* as() const { return static_cast<T*>(data_); }
  size_t bytes() const { return bytes_; }
  static constexpr size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }  // what it takes for so many

 private:
  void release() noexcept;

  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Processors this process may keep busy: those it may run on, and no more than its container's quota of time pays for.
int availableProcessors();

class ThreadPool {
 public:
  // threads counts the caller; 0 means availableProcessors(). Throws Error{OutOfMemory} where so many cannot be started.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls fn(b, e, thread) for chunks that cover [begin, end), and returns when all are done. `thread` is in
  // [0, threads()) and no two calls that run at the same time share it: it picks per-thread scratch, of which every thread has
  // `scratch` bytes before the loop begins. Called from inside fn of the same pool, the loop runs at once on that thread. When fn
  // throws, the other chunks are run all the same; then the first exception is thrown here.
  template <class Fn>
  void parallelFor(int64_t begin, int64_t end, int64_t grain, Fn&& fn, size_t scratch = 0) {
    using F = std::remove_reference_t<Fn>;
    run(begin, end, grain, const_cast<void*>(static_cast<const void*>(std::addressof(fn))),
        [](void* f, int64_t b, int64_t e, int thread) { (*static_cast<F*>(f))(b, e, thread); }, scratch);
  }

  // A thread's scratch memory, 64-byte aligned, as much as its loop asked for, contents undefined. It belongs to the kernel that
  // runs on that thread until the kernel returns. It grows to the largest request, alike for all threads, and then stays: a model
  // that has run once (or reserved at preparation) allocates nothing more.
  void* scratch(int thread) const { return scratch_[static_cast<size_t>(thread)].as<void>(); }
  void reserveScratch(size_t bytes);
  size_t scratchBytes() const;  // of all threads

 private:
  using Body = void (*)(void* fn, int64_t begin, int64_t end, int thread);

  void run(int64_t begin, int64_t end, int64_t grain, void* fn, Body body, size_t scratch);
  void grow(size_t bytes);     // everybody's scratch; with caller_ held
  void work(int thread);       // claims and runs chunks until none is left
  void runChunk(int64_t begin, int64_t end, int thread) noexcept;
  void serve(int thread);      // life of a worker
  void endWorkers() noexcept;

  struct Job {
    void* fn = nullptr;
    Body body = nullptr;
    int64_t begin = 0, end = 0, grain = 1;
    uint32_t chunks = 0;
  };

  int threads_ = 1;
  mutable std::mutex caller_;  // one loop at a time; uncontended in normal use
  Job job_;            // written before ticket_ is published, read only by holders of a claimed chunk
  alignas(64) std::atomic<uint64_t> ticket_{0};    // loop number << 32 | chunks not yet claimed
  alignas(64) std::atomic<int32_t> unfinished_{0};  // chunks of the loop that are not yet done
  alignas(64) std::atomic<uint32_t> wake_{0};       // changes with every loop and at the end
  std::atomic<bool> stop_{false}, failed_{false};
  std::exception_ptr failure_;  // of the first chunk that failed; read when all are done
  std::vector<AlignedBuffer> scratch_;
  std::vector<std::thread> workers_;
};

}  // namespace longlive::cpu
