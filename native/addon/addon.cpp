// The Node addon: exactly the interface of src/engine/addon.ts over longlive/engine.h. Thin: arguments in, promises out.
//
// Every engine call of a model runs on that model's worker thread, the end of a session too: none may make JavaScript wait for a
// device that is at work for another session. Texts are encoded on a thread of their own, beside the steps of sessions.
#include <napi.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "longlive/engine.h"
#include "longlive/names.h"
#include "longlive/weights.h"
#include "video_encoder.h"
#include "worker.h"

namespace longlive::addon {

namespace {

constexpr const char* kVersion = "0.1.0";

// Per environment: constructors of the classes, and threads that nobody waits for.
struct Classes {
  Napi::FunctionReference model, session, prompt;
  std::shared_ptr<Retired> retired = std::make_shared<Retired>();
};

Classes& classesOf(Napi::Env env) { return *env.GetInstanceData<Classes>(); }

std::shared_ptr<Worker> makeWorker(Napi::Env env) { return std::make_shared<Worker>(env, classesOf(env).retired); }

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
  // Marks the objects that are prompts, which neither a prototype nor Symbol.hasInstance can.
  static constexpr napi_type_tag kTag = {0x6c6f6e676c697665, 0x70726f6d70740001};

  explicit JsPrompt(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) refuse(info.Env(), "NativePrompt is made by encodePrompt");
    prompt = *info[0].As<Napi::External<std::shared_ptr<const Prompt>>>().Data();
    info.This().As<Napi::Object>().TypeTag(&kTag);
  }

  // Throws unless `value` is a prompt.
  static std::shared_ptr<const Prompt> from(const Napi::Value& value) {
    const Napi::Env env = value.Env();
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
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

double shareOf(const Napi::Value& v) {
  const double share = v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(share >= 0 && share <= 1)) refuse(v.Env(), "share must be a number from 0 to 1");
  return share;
}

BlendKind blendKind(const Napi::Value& v) {
  const std::string kind = v.IsString() ? v.As<Napi::String>().Utf8Value() : "";
  if (kind == "linear") return BlendKind::Linear;
  if (kind == "slerp") return BlendKind::Slerp;
  refuse(v.Env(), "kind must be one of 'linear', 'slerp'");
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
        {InstanceAccessor<&JsSession::block>("block"), InstanceAccessor<&JsSession::ended>("ended"),
         InstanceAccessor<&JsSession::memoryBytes>("memoryBytes"),
         InstanceMethod<&JsSession::setPrompt>("setPrompt"), InstanceMethod<&JsSession::step>("step"),
         InstanceMethod<&JsSession::abandonBlock>("abandonBlock"), InstanceMethod<&JsSession::checkpoint>("checkpoint"),
         InstanceMethod<&JsSession::lastRgb>("lastRgb"), InstanceMethod<&JsSession::dispose>("dispose")}));
  }

  explicit JsSession(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) refuse(info.Env(), "NativeSession is made by createSession");
    handle_ = *info[0].As<Napi::External<Shared>>().Data();
    block_ = handle_->session->block();
    ended_ = handle_->session->ended();
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
      const auto idle = [this, handle] {
        handle->busy = false;
        Unref();
      };
      try {
        return handle->worker->run(
            info.Env(), [handle, f = std::forward<F>(f)] { return f(*handle->session); },
            [this, handle, idle] {
              block_ = handle->session->block();
              ended_ = handle->session->ended();
              idle();
            });
      } catch (...) {
        idle();
        throw;
      }
    });
  }

  Napi::Value block(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(block_)); }
  Napi::Value ended(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), ended_); }
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
  bool ended_ = false;
  size_t memoryBytes_ = 0;
};

// -- models -----------------------------------------------------------------------------------------------------------------

// What a model object and its calls share. The model goes where its calls run: it is large, and JavaScript must not wait for it.
struct ModelHandle {
  std::shared_ptr<Worker> worker, reader;  // reader: of texts
  std::shared_ptr<Model> model;

  ~ModelHandle() { worker->discard(std::move(model)); }
};

std::optional<RopeMode> ropeIn(Options& o) {
  const std::string rope = o.string("rope", {"package", "absolute", "relative"});
  if (rope == "package") return std::nullopt;
  return rope == "relative" ? RopeMode::Relative : RopeMode::Absolute;
}

SessionOptions sessionOptions(const Napi::Value& value) {
  Options o(value, "options");
  SessionOptions s;
  s.seed = o.seed("seed");
  s.width = o.integer("width", kLeastSide, kMostSide), s.height = o.integer("height", kLeastSide, kMostSide);
  s.rope = ropeIn(o);
  s.globalSink = o.optionalBoolean("globalSink");
  o.finish();
  return s;
}

class JsModel : public Napi::ObjectWrap<JsModel> {
 public:
  using Shared = std::shared_ptr<const ModelHandle>;

  static void define(Napi::Env env, Classes& classes) {
    classes.model = Napi::Persistent(
        DefineClass(env, "NativeModel",
                    {InstanceAccessor<&JsModel::config>("config"), InstanceAccessor<&JsModel::weightBytes>("weightBytes"),
                     InstanceAccessor<&JsModel::refusedRecordings>("refusedRecordings"),
                     InstanceMethod<&JsModel::encodePrompt>("encodePrompt"), InstanceMethod<&JsModel::blendPrompts>("blendPrompts"),
                     InstanceMethod<&JsModel::createSession>("createSession"),
                     InstanceMethod<&JsModel::restoreSession>("restoreSession"), InstanceMethod<&JsModel::dispose>("dispose")}));
  }

  explicit JsModel(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) refuse(info.Env(), "NativeModel is made by loadModel");
    handle_ = *info[0].As<Napi::External<Shared>>().Data();
    weightBytes_ = handle_->model->weightBytes();
    const Napi::Object json = info.Env().Global().Get("JSON").As<Napi::Object>();
    config_ = Napi::Persistent(json.Get("parse").As<Napi::Function>().Call(json, {Napi::String::New(info.Env(), handle_->model->configJson())}).As<Napi::Object>());
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(weightBytes_));
    reported_ = true;
  }

  void Finalize(Napi::Env env) override { release(env); }

  static Napi::Value make(Napi::Env env, Shared handle) {
    return classesOf(env).model.New({Napi::External<Shared>::New(env, &handle)});
  }

 private:
  Shared alive(Napi::Env env) {
    if (!handle_) refuse(env, "the model was disposed");
    return handle_;
  }

  Napi::Value config(const Napi::CallbackInfo&) { return config_.Value(); }
  Napi::Value weightBytes(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(weightBytes_)); }

  // Of a model that was disposed of nobody hears any more.
  Napi::Value refusedRecordings(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), handle_ ? static_cast<double>(handle_->model->refusedRecordings()) : 0);
  }

  Napi::Value encodePrompt(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const Shared handle = alive(info.Env());
      const auto ids = copyOf<int32_t>(info[0], "ids", static_cast<size_t>(handle->model->maxPromptTokens()));
      return handle->reader->run(info.Env(), [handle, ids]() -> Settle {
        auto prompt = handle->model->encodePrompt(ids);
        return [prompt](Napi::Env env) { return JsPrompt::make(env, prompt); };
      });
    });
  }

  Napi::Value blendPrompts(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const Shared handle = alive(info.Env());
      const auto from = JsPrompt::from(info[0]), to = JsPrompt::from(info[1]);
      const double share = shareOf(info[2]);
      const BlendKind kind = blendKind(info[3]);
      return handle->reader->run(info.Env(), [handle, from, to, share, kind]() -> Settle {
        auto prompt = handle->model->blendPrompts(*from, *to, share, kind);
        return [prompt](Napi::Env env) { return JsPrompt::make(env, prompt); };
      });
    });
  }

  Napi::Value createSession(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const Shared handle = alive(info.Env());
      return opened(info.Env(), handle, [options = sessionOptions(info[0])](Model& model) { return model.createSession(options); });
    });
  }

  Napi::Value restoreSession(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&]() -> Napi::Value {
      const Shared handle = alive(info.Env());
      const SessionOptions options = sessionOptions(info[0]);
      const auto bytes = copyOf<uint8_t>(info[1], "checkpoint");
      const auto prompt = JsPrompt::from(info[2]);
      return opened(info.Env(), handle, [options, bytes, prompt](Model& model) { return model.restoreSession(options, bytes, *prompt); });
    });
  }

  // The promise of the session that `open` makes on the worker.
  template <class F>
  static Napi::Value opened(Napi::Env env, const Shared& handle, F&& open) {
    return handle->worker->run(env, [handle, open = std::forward<F>(open)]() -> Settle {
      auto shared = std::make_shared<SessionHandle>();
      shared->worker = handle->worker;
      shared->session = open(*handle->model);
      return [shared](Napi::Env env) { return JsSession::make(env, shared); };
    });
  }

  // Sessions and running calls keep what they need.
  void dispose(const Napi::CallbackInfo& info) { release(info.Env()); }

  void release(Napi::Env env) {
    handle_.reset();
    if (std::exchange(reported_, false)) Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(weightBytes_));
  }

  Shared handle_;
  size_t weightBytes_ = 0;
  bool reported_ = false;
  Napi::ObjectReference config_;
};

// -- module -----------------------------------------------------------------------------------------------------------------

LoadOptions loadOptions(const Napi::Value& value) {
  Options o(value, "options");
  LoadOptions l;
  l.directory = o.string("directory");
  l.device = *deviceNamed(o.string("device", {"cpu", "cuda"}));
  if (o.has("deviceIndex")) l.deviceIndex = static_cast<int>(o.integer("deviceIndex", 0, 1023));
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
    const auto handle = std::make_shared<ModelHandle>();
    handle->worker = makeWorker(info.Env()), handle->reader = makeWorker(info.Env());
    return handle->worker->run(info.Env(), [options, handle]() -> Settle {
      handle->model = Model::load(options);
      return [handle](Napi::Env env) { return JsModel::make(env, handle); };
    });
  });
}

int64_t rankOf(const Napi::Value& value) {
  const double rank = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(rank >= 1 && rank <= 1 << 30) || rank != std::floor(rank)) refuse(value.Env(), "rank must be an integer of at least 1");
  return static_cast<int64_t>(rank);
}

// On a thread of its own and on copies: a caller that transfers or resizes an array meanwhile harms nobody but itself.
Napi::Value addProduct(const Napi::CallbackInfo& info) {
  return promised(info.Env(), [&]() -> Napi::Value {
    struct Operands {
      Napi::Reference<Napi::Float32Array> place;  // kept alive until the product is in it
      std::vector<float> values, a;
      std::vector<double> b;
    };
    const auto operands = std::make_shared<Operands>();
    operands->values = copyOf<float>(info[0], "values"), operands->b = copyOf<double>(info[1], "b"), operands->a = copyOf<float>(info[2], "a");
    const int64_t rank = rankOf(info[3]);
    operands->place = Napi::Persistent(info[0].As<Napi::Float32Array>());
    const auto worker = makeWorker(info.Env());
    return worker->run(info.Env(), [operands, rank, worker]() -> Settle {
      longlive::addProduct(operands->values, operands->b, operands->a, rank);
      return [operands, worker](Napi::Env env) {
        writeBack(operands->place.Value(), operands->values, "values");
        return env.Undefined();
      };
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

// Of sessions of the package's own size.
SessionOptions plannedSession(const Napi::Value& value) {
  SessionOptions s;
  if (value.IsUndefined()) return s;
  Options o(value, "session");
  s.rope = ropeIn(o);
  o.finish();
  return s;
}

Napi::Value planMemory(const Napi::CallbackInfo& info) {
  return promised(info.Env(), [&]() -> Napi::Value {
    const LoadOptions options = loadOptions(info[0]);
    const SessionOptions session = plannedSession(info[1]);
    const auto worker = makeWorker(info.Env());
    return worker->run(info.Env(), [options, session, worker]() -> Settle {
      const MemoryPlan plan = longlive::planMemory(options, session);
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
      o.Set("device", nameOf(d.kind));
      o.Set("index", d.index);
      o.Set("available", d.available);
      o.Set("detail", d.detail);
      o.Set("isa", d.isa);
      o.Set("totalMemory", static_cast<double>(d.totalMemory));
      o.Set("threads", d.threads);
      o.Set("refusedRecordings", static_cast<double>(d.refusedRecordings));
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
  exportVideoEncoder(env, exports, classes->retired);
  exports.Set("addProduct", Napi::Function::New(env, addProduct, "addProduct"));
  return exports;
}

NODE_API_MODULE(longlive, init)

}  // namespace

}  // namespace longlive::addon
