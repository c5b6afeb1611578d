// Jobs of a CallThread from functions.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <utility>

#include "addon/call_thread.h"
#include "longlive/error.h"

namespace longlive::test {

struct Work final : addon::Job {
  explicit Work(std::function<void(bool)> f) : work(std::move(f)) {}
  void run(bool cancelled) noexcept override {
    const std::unique_ptr<Work> self(this);
    work(cancelled);
  }
  std::function<void(bool)> work;
};

// False when the thread was told to stop.
inline bool post(addon::CallThread& thread, std::function<void(bool)> work) {
  std::unique_ptr<addon::Job> job = std::make_unique<Work>(std::move(work));
  return thread.post(job);
}

// What `work` gives or throws on the thread; Error{Cancelled} where its turn did not come.
template <class F> auto ask(addon::CallThread& thread, F work) {
  using Result = std::invoke_result_t<F&>;
  const auto task = std::make_shared<std::packaged_task<Result(bool)>>([work = std::move(work)](bool cancelled) mutable {
    if (cancelled) throw Error(ErrorCode::Cancelled, "the thread was stopped");
    return work();
  });
  auto answer = task->get_future();
  if (!post(thread, [task](bool cancelled) { (*task)(cancelled); })) (*task)(true);
  return answer;
}

}  // namespace longlive::test
