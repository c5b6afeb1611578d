// One thread per model that runs engine calls one after another, and settles their promises on the JavaScript thread.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace longlive::addon {

// Builds the value of a finished call; runs on the JavaScript thread.
using Settle = std::function<Napi::Value(Napi::Env)>;

// A JavaScript Error with `code`.
Napi::Error makeError(Napi::Env env, const char* code, const std::string& message);
// The error of the exception that is being handled.
Napi::Error currentError(Napi::Env env);

class Worker {
 public:
  Worker();
  ~Worker();  // waits for the call that is running; calls that wait are rejected
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs `work` on the worker's thread; the promise settles with what the returned Settle builds, or rejects with what was
  // thrown. `finally` runs on the JavaScript thread before the promise settles, in every case.
  Napi::Promise run(Napi::Env env, std::function<Settle()> work, std::function<void()> finally = [] {});

 private:
  struct Call;
  void serve();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Call>> calls_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace longlive::addon
