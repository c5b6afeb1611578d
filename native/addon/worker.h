// A thread that runs engine calls one after another, and settles their promises on the JavaScript thread.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace longlive::addon {

// Builds the value of a finished call; runs on the JavaScript thread.
using Settle = std::function<Napi::Value(Napi::Env)>;

// A JavaScript Error with `code`.
Napi::Error makeError(Napi::Env env, const char* code, const std::string& message);
// The error of the exception that is being handled.
Napi::Error currentError(Napi::Env env);

// Made and destroyed on the JavaScript thread. When the environment goes down, the worker ends first: its running call is
// waited for, later ones are dropped unsettled.
class Worker {
 public:
  explicit Worker(Napi::Env env);
  ~Worker();  // waits for the call that is running
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs `work` on the worker's thread; the promise settles with what the returned Settle builds, or rejects with what was
  // thrown. `finally` runs on the JavaScript thread before the promise settles.
  Napi::Promise run(Napi::Env env, std::function<Settle()> work, std::function<void()> finally = [] {});
  // Lets `object` go on the worker's thread, before the calls that wait; here and now if the worker has ended.
  void discard(std::shared_ptr<void> object);

 private:
  struct Call;
  static void environmentEnds(void* worker);
  void join();
  void serve();

  napi_env env_;
  bool hooked_ = true;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Call>> calls_;
  std::vector<std::shared_ptr<void>> discarded_;
  std::vector<std::unique_ptr<Call>> orphans_;  // that could not be settled any more
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace longlive::addon
