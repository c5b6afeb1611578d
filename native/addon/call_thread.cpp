#include "call_thread.h"

#include <utility>

namespace longlive::addon {

CallThread::CallThread() : thread_([state = state_.get()] {
  serve(*state);
  state->ended.store(true, std::memory_order_release);
}) {}

bool CallThread::post(std::unique_ptr<Job>& job) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopped) return false;
    state_->jobs.push_back(std::move(job));
  }
  state_->wake.notify_one();
  return true;
}

void CallThread::discard(std::shared_ptr<void> object) noexcept {
  try {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopped) return;
    state_->discarded.push_back(std::move(object));
  } catch (...) {
    return;  // there is no memory to remember it with
  }
  state_->wake.notify_one();
}

void CallThread::stop() noexcept {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
  }
  state_->wake.notify_one();
}

void CallThread::end() noexcept {
  stop();
  if (thread_.joinable()) thread_.join();
}

void CallThread::serve(State& state) {
  for (;;) {
    std::unique_lock lock(state.mutex);
    state.wake.wait(lock, [&] { return state.stopped || !state.jobs.empty() || !state.discarded.empty(); });
    if (auto discarded = std::exchange(state.discarded, {}); !discarded.empty()) {
      lock.unlock();
      continue;
    }
    if (state.jobs.empty()) return;
    std::unique_ptr<Job> job = std::move(state.jobs.front());
    state.jobs.pop_front();
    const bool cancelled = state.stopped;
    lock.unlock();
    job.release()->run(cancelled);
  }
}

}  // namespace longlive::addon
