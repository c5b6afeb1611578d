// The Node addon: exactly the interface of src/engine/addon.ts over longlive/engine.h. Thin: arguments in, promises out.
//
// Every engine call of a model runs on that model's worker thread, the end of a session too: none may make JavaScript wait for a
// device that is at work for another session. Texts are encoded on a thread of their own, beside the steps of sessions.
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "arguments.h"
#include "longlive/engine.h"
#include "longlive/names.h"
#include "longlive/weights.h"
#include "worker.h"

namespace longlive::addon {

namespace {

constexpr const char* kVersion = "0.1.0";

// Constructors of the classes, per environment.
struct Classes {
  Napi::FunctionReference model, session, prompt;
};

Classes& classesOf(Napi::Env env) { return *env.GetInstanceData<Classes>(); }

// Runs f, turning core exceptions into JavaScript ones.
template <class F>
auto guarded(Napi::Env env, F&& f) {
  try {
    return f();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw currentError(env);
  }
}

Napi::Uint8Array toArray(Napi::Env env, std::span<const uint8_t> bytes) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

Napi::Promise rejected(Napi::Env env, const Napi::Error& error) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(error.Value());
  return deferred.Promise();
}

// For functions that return promises: argument errors reject too.
template <class F>
Napi::Value promised(Napi::Env env, F&& f) {
  try {
    return f();
  } catch (const Napi::Error& e) {
    return rejected(env, e);
  } catch (...) {
    return rejected(env, currentError(env));
  }
}

// -- prompts ----------------------------------------------------------------------------------------------------------------

class JsPrompt : public Napi::ObjectWrap<JsPrompt> {
 public:
  static void define(Napi::Env env, Classes& classes) {
    classes.prompt = Napi::Persistent(DefineClass(env, "NativePrompt", {InstanceAccessor<&JsPrompt::tokens>("tokens")}));
  }

  explicit JsPrompt(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) refuse(info.Env(), "NativePrompt is made by encodePrompt");
    prompt = *info[0].As<Napi::External<std::shared_ptr<const Prompt>>>().Data();
  }

  // Throws unless `value` is a prompt.
  static std::shared_ptr<const Prompt> from(const Napi::Value& value) {
    const Napi::Env env = value.Env();
    if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(classesOf(env).prompt.Value())) {
      refuse(env, "prompt must come from encodePrompt");
    }
    return Unwrap(value.As<Napi::Object>())->prompt;
  }

  static Napi::Value make(Napi::Env env, std::shared_ptr<const Prompt> p) {
    return classesOf(env).prompt.New({Napi::External<std::shared_ptr<const Prompt>>::New(env, &p)});
  }

  std::shared_ptr<const Prompt> prompt;

 private:
  Napi::Value tokens(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(prompt->tokens)); }
};

// -- sessions ---------------------------------------------------------------------------------------------------------------

// What a session object and its running call share.
struct SessionHandle {
  std::shared_ptr<Worker> worker;
  std::shared_ptr<Session> session;
  bool busy = false;

  ~SessionHandle() { worker->discard(std::move(session)); }
};

RecacheMode recacheMode(const Napi::Value& v) {
  const std::string mode = v.IsString() ? v.As<Napi::String>().Utf8Value() : "";
  if (mode == "recache") return RecacheMode::Recache;
  if (mode == "keep") return RecacheMode::Keep;
  if (mode == "clear") return RecacheMode::Clear;
  refuse(v.Env(), "mode must be one of 'recache', 'keep', 'clear'");
}

Napi::Object framesObject(Napi::Env env, const Frames& f, int64_t block, std::span<const uint8_t> i420) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("block", static_cast<double>(block));
  o.Set("firstFrame", static_cast<double>(f.firstFrame));
  o.Set("count", static_cast<double>(f.count));
  o.Set("width", static_cast<double>(f.width));
  o.Set("height", static_cast<double>(f.height));
  o.Set("i420", toArray(env, i420));
  return o;
}

Napi::Value stepObject(Napi::Env env, const Step& s) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("kind", s.kind == Step::Kind::Denoise ? "denoise" : s.kind == Step::Kind::Frames ? "frames" : "context");
  o.Set("block", static_cast<double>(s.block));
  if (s.kind == Step::Kind::Denoise) o.Set("step", static_cast<double>(s.step));
  o.Set("milliseconds", s.milliseconds);
  if (s.kind == Step::Kind::Frames) o.Set("frames", framesObject(env, s.frames, s.block, s.frames.i420));
  return o;
}

class JsSession : public Napi::ObjectWrap<JsSession> {
 public:
  using Shared = std::shared_ptr<SessionHandle>;

  static void define(Napi::Env env, Classes& classes) {
    classes.session = Napi::Persistent(DefineClass(
        env, "NativeSession",
        {InstanceAccessor<&JsSession::block>("block"), InstanceAccessor<&JsSession::memoryBytes>("memoryBytes"),
         InstanceMethod<&JsSession::setPrompt>("setPrompt"), InstanceMethod<&JsSession::step>("step"),
         InstanceMethod<&JsSession::abandonBlock>("abandonBlock"), InstanceMethod<&JsSession::checkpoint>("checkpoint"),
         InstanceMethod<&JsSession::lastRgb>("lastRgb"), InstanceMethod<&JsSession::dispose>("dispose")}));
  }

  explicit JsSession(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) refuse(info.Env(), "NativeSession is made by createSession");
    handle_ = *info[0].As<Napi::External<Shared>>().Data();
    block_ = handle_->session->block();
    memoryBytes_ = handle_->session->memoryBytes();
    // So that the collector knows what a forgotten session costs.
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(memoryBytes_));
  }
  void Finalize(Napi::Env env) override { release(env); }

  static Napi::Value make(Napi::Env env, Shared handle) {
    return classesOf(env).session.New({Napi::External<Shared>::New(env, &handle)});
  }

 private:
  void requireIdle(Napi::Env env) {
    if (!handle_) refuse(env, "the session was disposed");
    if (handle_->busy) refuse(env, "the session is busy: wait for its last call");
  }

  // Runs a call on the worker; the object is kept alive until it settles.
  template <class F>
  Napi::Value call(const Napi::CallbackInfo& info, F&& f) {
    return promised(info.Env(), [&]() -> Napi::Value {
      requireIdle(info.Env());
      const Shared handle = handle_;
      handle->busy = true;
      Ref();
      return handle->worker->run(
          info.Env(), [handle, f = std::forward<F>(f)] { return f(*handle->session); },
          [this, handle] {
            handle->busy = false;
            block_ = handle->session->block();
            Unref();
          });
    });
  }

  Napi::Value block(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(block_)); }
  Napi::Value memoryBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), handle_ ? static_cast<double>(memoryBytes_) : 0);
  }

  // A call without arguments that answers with bytes.
  Napi::Value bytes(const Napi::CallbackInfo& info, std::vector<uint8_t> (Session::*read)() const) {
    return call(info, [read](Session& s) -> Settle { return [made = (s.*read)()](Napi::Env env) { return toArray(env, made); }; });
  }

  Napi::Value setPrompt(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const auto prompt = JsPrompt::from(info[0]);
      const RecacheMode mode = recacheMode(info[1]);
      return call(info, [prompt, mode](Session& s) -> Settle {
        const PromptChange change = s.setPrompt(*prompt, mode);
        return [change](Napi::Env env) -> Napi::Value {
          Napi::Object o = Napi::Object::New(env);
          o.Set("milliseconds", change.milliseconds);
          o.Set("frames", static_cast<double>(change.frames));
          return o;
        };
      });
    });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    return call(info, [handle = handle_](Session& s) -> Settle {
      const Step step = s.step();
      // The frames stay in the session's buffer until its next call, which cannot start before this one settles.
      return [step, handle](Napi::Env env) { return stepObject(env, step); };
    });
  }

  Napi::Value abandonBlock(const Napi::CallbackInfo& info) {
    return call(info, [](Session& s) -> Settle {
      s.abandonBlock();
      return [](Napi::Env env) { return env.Undefined(); };
    });
  }
  Napi::Value checkpoint(const Napi::CallbackInfo& info) { return bytes(info, &Session::checkpoint); }
  Napi::Value lastRgb(const Napi::CallbackInfo& info) { return bytes(info, &Session::lastRgb); }
  // A call that is running keeps the memory until it is done.
  void dispose(const Napi::CallbackInfo& info) { release(info.Env()); }

  void release(Napi::Env env) {
    if (!handle_) return;
    handle_.reset();
    Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(memoryBytes_));
  }

  Shared handle_;
  int64_t block_ = 0;
  size_t memoryBytes_ = 0;
};

// -- models -----------------------------------------------------------------------------------------------------------------

struct ModelHandle {
  std::shared_ptr<Worker> worker, reader;  // reader: of texts
  std::shared_ptr<Model> model;
};

SessionOptions sessionOptions(const Napi::Value& value) {
  Options o(value, "options");
  SessionOptions s;
  s.seed = o.seed("seed");
  s.width = o.integer("width", 16, 4096), s.height = o.integer("height", 16, 4096);
  const std::string rope = o.string("rope", {"package", "absolute", "relative"});
  if (rope != "package") s.rope = rope == "relative" ? RopeMode::Relative : RopeMode::Absolute;
  s.globalSink = o.optionalBoolean("globalSink");
  o.finish();
  return s;
}

class JsModel : public Napi::ObjectWrap<JsModel> {
 public:
  static void define(Napi::Env env, Classes& classes) {
    classes.model = Napi::Persistent(
        DefineClass(env, "NativeModel",
                    {InstanceAccessor<&JsModel::config>("config"), InstanceAccessor<&JsModel::weightBytes>("weightBytes"),
                     InstanceMethod<&JsModel::encodePrompt>("encodePrompt"), InstanceMethod<&JsModel::createSession>("createSession"),
                     InstanceMethod<&JsModel::restoreSession>("restoreSession"), InstanceMethod<&JsModel::dispose>("dispose")}));
  }

  explicit JsModel(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) refuse(info.Env(), "NativeModel is made by loadModel");
    handle_ = *info[0].As<Napi::External<ModelHandle>>().Data();
    weightBytes_ = handle_.model->weightBytes();
    const Napi::Object json = info.Env().Global().Get("JSON").As<Napi::Object>();
    config_ = Napi::Persistent(json.Get("parse").As<Napi::Function>().Call(json, {Napi::String::New(info.Env(), handle_.model->configJson())}).As<Napi::Object>());
  }

  static Napi::Value make(Napi::Env env, ModelHandle handle) {
    return classesOf(env).model.New({Napi::External<ModelHandle>::New(env, &handle)});
  }

 private:
  const ModelHandle& alive(Napi::Env env) {
    if (!handle_.model) refuse(env, "the model was disposed");
    return handle_;
  }

  Napi::Value config(const Napi::CallbackInfo&) { return config_.Value(); }
  Napi::Value weightBytes(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(weightBytes_)); }

  Napi::Value encodePrompt(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const ModelHandle handle = alive(info.Env());
      if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
        refuse(info.Env(), "ids must be an Int32Array");
      }
      const auto array = info[0].As<Napi::Int32Array>();
      const std::vector<int32_t> ids(array.Data(), array.Data() + array.ElementLength());
      // The call keeps its thread: a model that is disposed meanwhile must not make JavaScript wait for it.
      return handle.reader->run(info.Env(), [handle, ids]() -> Settle {
        auto prompt = handle.model->encodePrompt(ids);
        return [prompt](Napi::Env env) { return JsPrompt::make(env, prompt); };
      });
    });
  }

  Napi::Value createSession(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const ModelHandle handle = alive(info.Env());
      return opened(info.Env(), handle, [model = handle.model, options = sessionOptions(info[0])] { return model->createSession(options); });
    });
  }

  Napi::Value restoreSession(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const ModelHandle handle = alive(info.Env());
      const SessionOptions options = sessionOptions(info[0]);
      if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
        refuse(info.Env(), "checkpoint must be a Uint8Array");
      }
      const auto array = info[1].As<Napi::Uint8Array>();
      const std::vector<uint8_t> bytes(array.Data(), array.Data() + array.ByteLength());
      const auto prompt = JsPrompt::from(info[2]);
      return opened(info.Env(), handle,
                    [model = handle.model, options, bytes, prompt] { return model->restoreSession(options, bytes, *prompt); });
    });
  }

  // The promise of the session that `open` makes on the worker.
  template <class F>
  static Napi::Value opened(Napi::Env env, const ModelHandle& handle, F&& open) {
    return handle.worker->run(env, [worker = handle.worker, open = std::forward<F>(open)]() -> Settle {
      auto shared = std::make_shared<SessionHandle>();
      shared->worker = worker;
      shared->session = open();
      return [shared](Napi::Env env) { return JsSession::make(env, shared); };
    });
  }

  // Sessions and running calls keep what they need.
  void dispose(const Napi::CallbackInfo&) { handle_ = {}; }

  ModelHandle handle_;
  size_t weightBytes_ = 0;
  Napi::ObjectReference config_;
};

// -- module -----------------------------------------------------------------------------------------------------------------

LoadOptions loadOptions(const Napi::Value& value) {
  Options o(value, "options");
  LoadOptions l;
  l.directory = o.string("directory");
  l.device = o.string("device", {"cpu", "cuda"}) == "cuda" ? DeviceKind::Cuda : DeviceKind::Cpu;
  l.precision = *precisionNamed(o.string("precision", {"fp32", "bf16", "int8", "fp8"}));
  if (o.has("kv") && o.string("kv", {"full", "int8"}) == "int8") l.kv = KvStorage::Int8;
  if (o.has("attention")) l.attention = *attentionNamed(o.string("attention", {"full", "int8"}));
  l.threads = static_cast<int>(o.integer("threads", 0, 1024));
  l.tinyDecoder = o.string("decoder", {"full", "tiny"}) == "tiny";
  l.isa = o.string("isa");
  o.finish();
  return l;
}

Napi::Value loadModel(const Napi::CallbackInfo& info) {
  return promised(info.Env(), [&]() -> Napi::Value {
    const LoadOptions options = loadOptions(info[0]);
    const auto worker = std::make_shared<Worker>(info.Env());
    return worker->run(info.Env(), [options, worker]() -> Settle {
      const auto model = Model::load(options);
      return [worker, model](Napi::Env env) { return JsModel::make(env, {worker, std::make_shared<Worker>(env), model}); };
    });
  });
}

template <class Array>
Array typedArray(const Napi::Value& value, napi_typedarray_type type, const char* what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) refuse(value.Env(), what);
  return value.As<Array>();
}

template <class Array>
auto spanOf(const Napi::Reference<Array>& array) {
  return std::span(array.Value().Data(), array.Value().ElementLength());
}

// On a thread of its own; the arrays are kept alive until it settles, and their memory does not move.
Napi::Value addProduct(const Napi::CallbackInfo& info) {
  return promised(info.Env(), [&]() -> Napi::Value {
    struct Operands {
      Napi::Reference<Napi::Float32Array> values, a;
      Napi::Reference<Napi::Float64Array> b;
    };
    const auto operands = std::make_shared<Operands>();
    operands->values = Napi::Persistent(typedArray<Napi::Float32Array>(info[0], napi_float32_array, "values must be a Float32Array"));
    operands->b = Napi::Persistent(typedArray<Napi::Float64Array>(info[1], napi_float64_array, "b must be a Float64Array"));
    operands->a = Napi::Persistent(typedArray<Napi::Float32Array>(info[2], napi_float32_array, "a must be a Float32Array"));
    if (!info[3].IsNumber()) refuse(info.Env(), "rank must be a number");
    const auto values = spanOf(operands->values);
    const auto b = spanOf(operands->b);
    const auto a = spanOf(operands->a);
    const int64_t rank = info[3].As<Napi::Number>().Int64Value();
    const auto worker = std::make_shared<Worker>(info.Env());
    return worker->run(
        info.Env(),
        [values, b, a, rank, worker]() -> Settle {
          longlive::addProduct(values, b, a, rank);
          return [worker](Napi::Env env) { return env.Undefined(); };
        },
        [operands] {
          operands->values.Reset();
          operands->b.Reset();
          operands->a.Reset();
        });
  });
}

Napi::Value planObject(Napi::Env env, const MemoryPlan& p) {
  Napi::Object o = Napi::Object::New(env);
  const std::pair<const char*, size_t> parts[] = {
      {"textEncoder", p.textEncoder}, {"dit", p.dit}, {"decoder", p.decoder}, {"keysAndValues", p.keysAndValues}, {"activations", p.activations},
      {"decoding", p.decoding}, {"pictures", p.pictures}, {"working", p.working}, {"reserve", p.reserve}};
  for (const auto& [name, bytes] : parts) o.Set(name, static_cast<double>(bytes));
  return o;
}

Napi::Value planMemory(const Napi::CallbackInfo& info) {
  return promised(info.Env(), [&]() -> Napi::Value {
    const LoadOptions options = loadOptions(info[0]);
    const auto worker = std::make_shared<Worker>(info.Env());
    return worker->run(info.Env(), [options, worker]() -> Settle {
      const MemoryPlan plan = longlive::planMemory(options);
      return [plan, worker](Napi::Env env) { return planObject(env, plan); };
    });
  });
}

Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Array out = Napi::Array::New(env);
    for (const DeviceStatus& d : listDevices()) {
      Napi::Object o = Napi::Object::New(env);
      o.Set("device", d.kind == DeviceKind::Cpu ? "cpu" : "cuda");
      o.Set("available", d.available);
      o.Set("detail", d.detail);
      o.Set("isa", d.isa);
      o.Set("totalMemory", static_cast<double>(d.totalMemory));
      o.Set("threads", d.threads);
      out.Set(out.Length(), o);
    }
    return out;
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* classes = new Classes;
  env.SetInstanceData<Classes>(classes);
  JsPrompt::define(env, *classes);
  JsSession::define(env, *classes);
  JsModel::define(env, *classes);
  exports.Set("version", kVersion);
#ifdef LONGLIVE_CUDA
  exports.Set("cudaBuilt", true);
#else
  exports.Set("cudaBuilt", false);
#endif
  exports.Set("devices", Napi::Function::New(env, devices, "devices"));
  exports.Set("loadModel", Napi::Function::New(env, loadModel, "loadModel"));
  exports.Set("planMemory", Napi::Function::New(env, planMemory, "planMemory"));
  exports.Set("addProduct", Napi::Function::New(env, addProduct, "addProduct"));
  return exports;
}

NODE_API_MODULE(longlive, init)

}  // namespace

}  // namespace longlive::addon
