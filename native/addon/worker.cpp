#include "worker.h"

#include <new>
#include <string>

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

  void finish(Napi::Env env) {
    const Napi::HandleScope scope(env);
    finally();
    try {
      if (!failure) {
        deferred.Resolve(result(env));
        return;
      }
      const Failure f = describe(failure);
      deferred.Reject(makeError(env, f.code.c_str(), f.message).Value());
    } catch (const Napi::Error& e) {
      deferred.Reject(e.Value());
    } catch (...) {
      deferred.Reject(currentError(env).Value());
    }
  }
};

Worker::Worker() : thread_([this] { serve(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
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

void Worker::serve() {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stop_ || !calls_.empty(); });
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
    const napi_status status = settle.BlockingCall(call.release(), [](Napi::Env env, Napi::Function, Call* done) {
      const std::unique_ptr<Call> owned(done);
      if (env) owned->finish(env);
    });
    // When the environment is going down nobody is left to settle for, nor a thread that may free the call's handles.
    if (status == napi_ok) settle.Release();
  }
}

}  // namespace longlive::addon
