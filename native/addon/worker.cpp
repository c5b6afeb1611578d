#include "worker.h"

#include <new>
#include <string>
#include <utility>

#include "longlive/error.h"

namespace longlive::addon {

namespace {

struct Failure {
  std::string code, message;
};

Failure describe(std::exception_ptr e) {
  try {
    std::rethrow_exception(e);
  } catch (const Error& error) {
    return {nameOf(error.code()), error.what()};
  } catch (const std::bad_alloc&) {
    return {"OUT_OF_MEMORY", "out of memory"};
  } catch (const std::exception& error) {
    return {"DEVICE_FAULT", std::string("internal error: ") + error.what()};
  } catch (...) {
    return {"DEVICE_FAULT", "internal error"};
  }
}

}  // namespace

Napi::Error makeError(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Napi::Error currentError(Napi::Env env) {
  const Failure f = describe(std::current_exception());
  return makeError(env, f.code.c_str(), f.message);
}

struct Worker::Call {
  std::function<Settle()> work;
  std::function<void()> finally;
  Napi::Promise::Deferred deferred;
  Napi::ThreadSafeFunction settle;
  Settle result;
  std::exception_ptr failure;

  explicit Call(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

  // Never throws: in an environment that is being terminated every call into it fails, and nobody waits for the promise.
  void finish(Napi::Env env) noexcept {
    try {
      const Napi::HandleScope scope(env);
      finally();
      settlePromise(env);
    } catch (...) {
    }
  }

  void settlePromise(Napi::Env env) {
    try {
      if (failure) std::rethrow_exception(failure);
      deferred.Resolve(result(env));
    } catch (const Napi::Error& e) {
      deferred.Reject(e.Value());
    } catch (...) {
      deferred.Reject(currentError(env).Value());
    }
  }
};

Worker::Worker(Napi::Env env) : env_(env), thread_([this] { serve(); }) {
  napi_add_env_cleanup_hook(env_, environmentEnds, this);
}

Worker::~Worker() {
  join();
  if (hooked_) napi_remove_env_cleanup_hook(env_, environmentEnds, this);
}

// Thread-safe functions die with the environment, so the thread that calls them must be gone before.
void Worker::environmentEnds(void* pointer) {
  auto* worker = static_cast<Worker*>(pointer);
  worker->hooked_ = false;
  worker->join();
  // These may hold the last references to the worker: nothing touches it after this line.
  const auto orphans = std::move(worker->orphans_);
}

void Worker::join() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Napi::Promise Worker::run(Napi::Env env, std::function<Settle()> work, std::function<void()> finally) {
  auto call = std::make_unique<Call>(env);
  call->work = std::move(work);
  call->finally = std::move(finally);
  const Napi::Function none = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
  call->settle = Napi::ThreadSafeFunction::New(env, none, "longlive", 0, 1);
  const Napi::Promise promise = call->deferred.Promise();
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
  }
  wake_.notify_one();
  return promise;
}

void Worker::discard(std::shared_ptr<void> object) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    discarded_.push_back(std::move(object));
  }
  wake_.notify_one();
}

void Worker::serve() {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stop_ || !calls_.empty() || !discarded_.empty(); });
    if (auto discarded = std::exchange(discarded_, {}); !discarded.empty()) {
      lock.unlock();
      continue;
    }
    if (calls_.empty()) return;
    std::unique_ptr<Call> call = std::move(calls_.front());
    calls_.pop_front();
    const bool cancelled = stop_;
    lock.unlock();
    try {
      if (cancelled) throw Error(ErrorCode::Cancelled, "the model was disposed");
      call->result = call->work();
    } catch (...) {
      call->failure = std::current_exception();
    }
    // The call is let go on the JavaScript thread: it may hold the last reference to this worker.
    Napi::ThreadSafeFunction settle = call->settle;
    Call* const raw = call.release();
    const napi_status status = settle.BlockingCall(raw, [](Napi::Env env, Napi::Function, Call* done) {
      const std::unique_ptr<Call> owned(done);
      if (env) owned->finish(env);
    });
    if (status == napi_ok) settle.Release();
    else orphans_.emplace_back(raw);
  }
}

}  // namespace longlive::addon
