#include "video_encoder.h"

#include <utility>
#include <vector>

#include "arguments.h"
#include "longlive/error.h"
#include "longlive/types.h"
#include "media/openh264.h"

namespace longlive::addon {

namespace {

Napi::Uint8Array bytesOf(Napi::Env env, const std::vector<uint8_t>& bytes) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

Napi::Value picturesObject(Napi::Env env, const EncodedPictures& pictures) {
  Napi::Object sets = Napi::Object::New(env);
  sets.Set("sps", bytesOf(env, pictures.sps));
  sets.Set("pps", bytesOf(env, pictures.pps));
  Napi::Array samples = Napi::Array::New(env);
  for (const auto& [bytes, key] : pictures.samples) {
    Napi::Object sample = Napi::Object::New(env);
    sample.Set("bytes", bytesOf(env, bytes));
    sample.Set("key", key);
    samples.Set(samples.Length(), sample);
  }
  Napi::Object o = Napi::Object::New(env);
  o.Set("parameterSets", sets);
  o.Set("samples", samples);
  return o;
}

PictureFormat formatOf(const Napi::Value& value) {
  Options o(value, "format");
  PictureFormat f;
  f.width = static_cast<int>(o.integer("width", kLeastSide, kMostSide)), f.height = static_cast<int>(o.integer("height", kLeastSide, kMostSide));
  f.fps = static_cast<double>(o.integer("fps", 1, 240));
  f.quantizer = static_cast<int>(o.integer("quantizer", 0, 51));
  o.finish();
  if (f.width % 2 != 0 || f.height % 2 != 0) refuse(value.Env(), "width and height must be even");
  return f;
}

class JsOpenH264 : public Napi::ObjectWrap<JsOpenH264> {
 public:
  explicit JsOpenH264(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    try {
      encoder_ = OpenH264::open();
    } catch (...) {
      throw currentError(info.Env());
    }
    worker_ = std::make_shared<Worker>(info.Env(), *static_cast<std::shared_ptr<Retired>*>(info.Data()));
  }

  static Napi::Function define(Napi::Env env, std::shared_ptr<Retired>& retired) {
    return DefineClass(env, "OpenH264",
                       {InstanceAccessor<&JsOpenH264::version>("version"), InstanceMethod<&JsOpenH264::encode>("encode"),
                        InstanceMethod<&JsOpenH264::dispose>("dispose")},
                       &retired);
  }

 private:
  Napi::Value version(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), encoder_->version()); }

  Napi::Value encode(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    try {
      const auto worker = worker_;
      if (!worker) refuse(env, "the encoder was disposed");
      const PictureFormat format = formatOf(info[0]);
      auto frames = std::make_shared<std::vector<uint8_t>>(copyOf<uint8_t>(info[1], "frames"));
      return worker->run(env, [encoder = encoder_, worker, format, frames]() -> Settle {
        auto made = std::make_shared<EncodedPictures>(encoder->encode(format, *frames));
        return [made, worker](Napi::Env settled) { return picturesObject(settled, *made); };
      });
    } catch (const Napi::Error& e) {
      return rejected(env, e);
    } catch (...) {
      return rejected(env, currentError(env));
    }
  }

  static Napi::Promise rejected(Napi::Env env, const Napi::Error& error) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  }

  // Calls that are under way finish.
  void dispose(const Napi::CallbackInfo&) { worker_.reset(); }

  std::shared_ptr<const OpenH264> encoder_;
  std::shared_ptr<Worker> worker_;
};

}  // namespace

void exportVideoEncoder(Napi::Env env, Napi::Object exports, std::shared_ptr<Retired>& retired) {
  exports.Set("OpenH264", JsOpenH264::define(env, retired));
}

}  // namespace longlive::addon
