// Engine calls as promises: they run on a thread of their own, one after another, and settle on the JavaScript thread.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "call_thread.h"

namespace longlive::addon {

// Builds the value of a finished call; runs on the JavaScript thread.
using Settle = std::function<Napi::Value(Napi::Env)>;

// A JavaScript Error with `code`.
Napi::Error makeError(Napi::Env env, const char* code, const std::string& message);
// The error of the exception that is being handled.
Napi::Error currentError(Napi::Env env);

// Threads whose worker is gone, but which are still letting something go: nobody waits for them but the end of the
// environment. One per environment; on the JavaScript thread.
class Retired {
 public:
  void take(std::unique_ptr<CallThread> thread);

 private:
  std::vector<std::unique_ptr<CallThread>> threads_;
};

// Made and destroyed on the JavaScript thread, neither of which waits. When the environment goes down, the worker ends first:
// its running call is waited for, later ones are dropped unsettled.
class Worker {
 public:
  Worker(Napi::Env env, std::shared_ptr<Retired> retired);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs `work` on the worker's thread; the promise settles with what the returned Settle builds, or rejects with what was
  // thrown. `finally` runs on the JavaScript thread before the promise settles. When this throws, neither is called.
  Napi::Promise run(Napi::Env env, std::function<Settle()> work, std::function<void()> finally = [] {});
  // Lets `object` go on the worker's thread, before the calls that wait; here and now if the worker has ended.
  void discard(std::shared_ptr<void> object) noexcept { thread_->discard(std::move(object)); }

 private:
  struct Call;
  static void environmentEnds(void* worker);

  napi_env env_;
  bool hooked_ = true;
  std::shared_ptr<Retired> retired_;
  std::vector<std::unique_ptr<Call>> orphans_;  // that could not be settled any more
  std::unique_ptr<CallThread> thread_;
};

}  // namespace longlive::addon
