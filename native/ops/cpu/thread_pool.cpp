#include "thread_pool.h"

#include <algorithm>

namespace longlive::cpu {

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (auto& t : workers_) t.join();
}

void ThreadPool::run(int64_t count, int64_t grain, Invoke invoke, void* body) {
  if (count <= 0) return;
  const int64_t parts = std::min<int64_t>(size(), std::max<int64_t>(1, count / std::max<int64_t>(1, grain)));
  if (parts == 1) return invoke(body, 0, count);
  const int64_t part = (count + parts - 1) / parts;
  {
    std::lock_guard lock(mutex_);
    invoke_ = invoke, body_ = body, count_ = count, part_ = part;
    pending_ = static_cast<int>(workers_.size());
    ++generation_;
  }
  start_.notify_all();
  invoke(body, 0, std::min(part, count));
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return pending_ == 0; });
}

void ThreadPool::work(int index) {
  uint64_t seen = 0;
  for (;;) {
    std::unique_lock lock(mutex_);
    start_.wait(lock, [&] { return stop_ || generation_ != seen; });
    if (stop_) return;
    seen = generation_;
    const int64_t begin = index * part_, end = std::min(begin + part_, count_);
    const auto invoke = invoke_;
    void* const body = body_;
    lock.unlock();
    if (begin < end) invoke(body, begin, end);
    lock.lock();
    if (--pending_ == 0) done_.notify_one();
  }
}

}  // namespace longlive::cpu
