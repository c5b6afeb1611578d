#include "arguments.h"

#include <cmath>

#include "worker.h"

namespace longlive::addon {

void refuse(Napi::Env env, const std::string& what) { throw makeError(env, "INVALID_ARGUMENT", what); }

Options::Options(const Napi::Value& value, std::string name) : env_(value.Env()), name_(std::move(name)) {
  if (!value.IsObject() || value.IsArray() || value.IsFunction()) addon::refuse(env_, name_ + " must be an object");
  object_ = value.As<Napi::Object>();
}

void Options::refuse(const std::string& what) const { addon::refuse(env_, name_ + "." + what); }

Napi::Value Options::get(const char* key) {
  known_ += std::string(key) + "\n";
  return object_.Get(key);
}

bool Options::has(const char* key) { return !get(key).IsUndefined(); }

std::string Options::string(const char* key, std::initializer_list<const char*> allowed) {
  const Napi::Value v = get(key);
  if (!v.IsString()) refuse(std::string(key) + " must be a string");
  const std::string text = v.As<Napi::String>().Utf8Value();
  if (allowed.size() == 0) return text;
  std::string list;
  for (const char* a : allowed) {
    if (text == a) return text;
    list += (list.empty() ? "'" : ", '") + std::string(a) + "'";
  }
  refuse(std::string(key) + " must be one of " + list + ", got '" + text + "'");
}

int64_t Options::integer(const char* key, int64_t least, int64_t most) {
  const Napi::Value v = get(key);
  const double n = v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(n >= static_cast<double>(least) && n <= static_cast<double>(most)) || n != std::floor(n)) {
    refuse(std::string(key) + " must be an integer between " + std::to_string(least) + " and " + std::to_string(most));
  }
  return static_cast<int64_t>(n);
}

uint64_t Options::seed(const char* key) {
  const Napi::Value v = get(key);
  bool lossless = false;
  const uint64_t n = v.IsBigInt() ? v.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) refuse(std::string(key) + " must be a bigint between 0 and 2^64 - 1");
  return n;
}

std::optional<bool> Options::optionalBoolean(const char* key) {
  const Napi::Value v = get(key);
  if (v.IsUndefined()) return std::nullopt;
  if (!v.IsBoolean()) refuse(std::string(key) + " must be a boolean");
  return v.As<Napi::Boolean>().Value();
}

void Options::finish() const {
  const Napi::Array names = object_.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string key = names.Get(i).ToString().Utf8Value();
    if (("\n" + known_).find("\n" + key + "\n") == std::string::npos) refuse(key + " is unknown");
  }
}

}  // namespace longlive::addon
