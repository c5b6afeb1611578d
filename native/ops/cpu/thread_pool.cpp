#include "thread_pool.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "cpu_quota.h"
#include "longlive/error.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif

namespace longlive::cpu {

// -- AlignedBuffer --------------------------------------------------------------------------------------------------------

constexpr size_t kHugePage = 2u << 20;

namespace {

std::align_val_t alignmentOf(size_t bytes) { return std::align_val_t{bytes >= kHugePage ? kHugePage : 64}; }

}  // namespace

void AlignedBuffer::release() noexcept {
  if (data_) ::operator delete(data_, alignmentOf(bytes_));
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void AlignedBuffer::reserve(size_t bytes) {
  if (bytes <= bytes_) return;
  reserveRaw(bytes);
  std::memset(data_, 0, bytes_);
}

void AlignedBuffer::reserveRaw(size_t bytes) {
  if (bytes <= bytes_) return;
  const size_t whole = rounded(bytes);
  void* fresh = ::operator new(whole, alignmentOf(whole));
#if defined(__linux__)
  // Weights are met by hundreds of matrix products: fewer page faults while they are packed, and fewer TLB misses after.
  if (const size_t huge = whole / kHugePage * kHugePage) ::madvise(fresh, huge, MADV_HUGEPAGE);
#endif
  release();
  data_ = fresh;
  bytes_ = whole;
}

// -- ThreadPool -----------------------------------------------------------------------------------------------------------

namespace {

// Which pool the current thread is working for, and as which thread of it.
struct Membership {
  const ThreadPool* pool = nullptr;
  int thread = 0;
};
thread_local Membership membership;

// About 20 microseconds: longer than the gap between two kernels, shorter than anything a person or a neighbour notices.
constexpr int kSpins = 1000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

int permittedProcessors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// The calling thread is a member while it runs a loop.
class Join {
 public:
  Join(Membership& place, const Membership& mine) : place_(place), outer_(std::exchange(place, mine)) {}
  ~Join() { place_ = outer_; }
  Join(const Join&) = delete;

 private:
  Membership& place_;
  Membership outer_;  // a kernel of another backend may be what called us
};

}  // namespace

int availableProcessors() { return std::min(permittedProcessors(), processorQuota().value_or(1 << 20)); }

ThreadPool::ThreadPool(int threads) : threads_(threads > 0 ? threads : availableProcessors()) {
  scratch_.resize(threads_);
  workers_.reserve(threads_ - 1);
  try {
    for (int t = 1; t < threads_; ++t) workers_.emplace_back([this, t] { serve(t); });
  } catch (const std::system_error& error) {
    endWorkers();
    throw Error(ErrorCode::OutOfMemory, "cannot start " + std::to_string(threads_) + " threads (" + error.what() + "): choose fewer with \"threads\"");
  }
}

ThreadPool::~ThreadPool() { endWorkers(); }

void ThreadPool::endWorkers() noexcept {
  stop_.store(true, std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();
  for (auto& w : workers_) w.join();
}

void ThreadPool::grow(size_t bytes) {
  for (auto& s : scratch_) s.reserve(bytes);
}

void ThreadPool::reserveScratch(size_t bytes) {
  std::lock_guard<std::mutex> lock(caller_);
  grow(bytes);
}

size_t ThreadPool::scratchBytes() const {
  std::lock_guard<std::mutex> lock(caller_);
  size_t bytes = 0;
  for (const auto& s : scratch_) bytes += s.bytes();
  return bytes;
}

void ThreadPool::run(int64_t begin, int64_t end, int64_t grain, void* fn, Body body, size_t scratch) {
  if (begin >= end) return;
  if (membership.pool == this) {
    scratch_[static_cast<size_t>(membership.thread)].reserve(scratch);
    return body(fn, begin, end, membership.thread);
  }

  std::lock_guard<std::mutex> lock(caller_);
  grow(scratch);
  const Join member(membership, {this, 0});
  const int64_t total = end - begin;
  // The count must fit the ticket, and more chunks than this would balance nothing better.
  grain = std::max<int64_t>({grain, 1, (total + (1 << 20) - 1) >> 20});
  const auto chunks = static_cast<uint32_t>((total + grain - 1) / grain);
  if (threads_ == 1 || chunks == 1) {
    body(fn, begin, end, 0);
    return;
  }
  job_ = {fn, body, begin, end, grain, chunks};
  unfinished_.store(static_cast<int32_t>(chunks), std::memory_order_relaxed);
  const uint64_t loop = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store(loop << 32 | chunks, std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();

  work(0);
  for (int spin = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      pause();
    } else if (const int32_t left = unfinished_.load(std::memory_order_acquire); left != 0) {
      unfinished_.wait(left, std::memory_order_acquire);
    }
  }
  if (failed_.load(std::memory_order_relaxed)) {
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::work(int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (const auto left = static_cast<uint32_t>(ticket)) {
    if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    // The loop cannot end before this chunk is done, so job_ is ours to read from here to the decrement below.
    const int64_t b = job_.begin + static_cast<int64_t>(job_.chunks - left) * job_.grain;
    runChunk(b, std::min(b + job_.grain, job_.end), thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

// The exception is let go here before the chunk counts as done: the caller may destroy it after that.
void ThreadPool::runChunk(int64_t begin, int64_t end, int thread) noexcept {
  try {
    job_.body(job_.fn, begin, end, thread);
  } catch (...) {
    if (!failed_.exchange(true, std::memory_order_relaxed)) failure_ = std::current_exception();
  }
}

void ThreadPool::serve(int thread) {
  membership = {this, thread};
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < kSpins && wake_.load(std::memory_order_acquire) == seen; ++spin) pause();
    wake_.wait(seen, std::memory_order_acquire);
    seen = wake_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_acquire)) return;
    work(thread);
  }
}

}  // namespace longlive::cpu
