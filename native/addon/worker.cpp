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
    return {nameOf(ErrorCode::Internal), std::string("internal error of the core: ") + error.what()};
  } catch (...) {
    return {nameOf(ErrorCode::Internal), "internal error of the core"};
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

struct Worker::Call final : Job {
  Worker& worker;  // kept alive by what `work` holds
  std::function<Settle()> work;
  std::function<void()> finally;
  Napi::Promise::Deferred deferred;
  Napi::ThreadSafeFunction settle;
  Settle result;
  std::exception_ptr failure;

  Call(Napi::Env env, Worker& w, std::function<Settle()> does, std::function<void()> last)
      : worker(w), work(std::move(does)), finally(std::move(last)), deferred(Napi::Promise::Deferred::New(env)) {
    const Napi::Function none = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
    settle = Napi::ThreadSafeFunction::New(env, none, "longlive", 0, 1);
  }

  void run(bool cancelled) noexcept override {
    try {
      if (cancelled) throw Error(ErrorCode::Cancelled, "the model was disposed");
      result = work();
    } catch (...) {
      failure = std::current_exception();
    }
    // The call is let go on the JavaScript thread: it may hold the last reference to its worker.
    Napi::ThreadSafeFunction function = settle;
    const napi_status status = function.BlockingCall(this, [](Napi::Env env, Napi::Function, Call* done) {
      const std::unique_ptr<Call> owned(done);
      if (env) owned->finish(env);
    });
    if (status == napi_ok) function.Release();
    else worker.orphans_.emplace_back(this);
  }

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

void Retired::take(std::unique_ptr<CallThread> thread) {
  std::erase_if(threads_, [](const auto& old) { return old->ended(); });
  thread->stop();
  threads_.push_back(std::move(thread));
}

Worker::Worker(Napi::Env env, std::shared_ptr<Retired> retired)
    : env_(env), retired_(std::move(retired)), thread_(std::make_unique<CallThread>()) {
  napi_add_env_cleanup_hook(env_, environmentEnds, this);
}

Worker::~Worker() {
  if (!hooked_) return;
  napi_remove_env_cleanup_hook(env_, environmentEnds, this);
  retired_->take(std::move(thread_));
}

// Thread-safe functions die with the environment, so the thread that calls them must be gone before.
void Worker::environmentEnds(void* pointer) {
  auto* worker = static_cast<Worker*>(pointer);
  worker->hooked_ = false;
  worker->thread_->end();
  // These may hold the last references to the worker: nothing touches it after this line.
  const auto orphans = std::move(worker->orphans_);
}

Napi::Promise Worker::run(Napi::Env env, std::function<Settle()> work, std::function<void()> finally) {
  auto call = std::make_unique<Call>(env, *this, std::move(work), std::move(finally));
  const Napi::Promise promise = call->deferred.Promise();
  const Napi::ThreadSafeFunction settle = call->settle;
  std::unique_ptr<Job> job = std::move(call);
  if (thread_->post(job)) return promise;
  Napi::ThreadSafeFunction(settle).Release();
  throw Error(ErrorCode::Cancelled, "the JavaScript environment of the model has ended");
}

}  // namespace longlive::addon
