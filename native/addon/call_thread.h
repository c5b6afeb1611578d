// A thread that does jobs one after another, and lets objects go between them. Plain C++: worker.h puts promises on top.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace longlive::addon {

struct Job {
  virtual ~Job() = default;
  // On the thread. `cancelled`: the thread was stopped before the job's turn came. The job owns itself from here on.
  virtual void run(bool cancelled) noexcept = 0;
};

class CallThread {
 public:
  CallThread();  // throws std::system_error where no thread can be started
  ~CallThread() { end(); }
  CallThread(const CallThread&) = delete;
  CallThread& operator=(const CallThread&) = delete;

  // False, and the job is the caller's still, when the thread was told to stop.
  bool post(std::unique_ptr<Job>& job);
  // Lets `object` go on the thread, before the jobs that wait; here and now if it was told to stop.
  void discard(std::shared_ptr<void> object) noexcept;
  // No more jobs; those that wait are run as cancelled. Waits for nothing.
  void stop() noexcept;
  // The same, and waits for the job that is running and for what is being let go.
  void end() noexcept;
  // Whether it has stopped, and end() would not wait.
  bool ended() const { return state_->ended.load(std::memory_order_acquire); }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::unique_ptr<Job>> jobs;
    std::vector<std::shared_ptr<void>> discarded;
    bool stopped = false;
    std::atomic<bool> ended{false};
  };
  static void serve(State& state);

  std::unique_ptr<State> state_ = std::make_unique<State>();
  std::thread thread_;
};

}  // namespace longlive::addon
