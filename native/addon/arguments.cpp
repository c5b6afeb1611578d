#include "arguments.h"

#include <algorithm>
#include <cmath>
#include <span>

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
  if (text.find('\0') != std::string::npos) refuse(std::string(key) + " must not hold a NUL character");
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

// -- typed arrays -----------------------------------------------------------------------------------------------------------

namespace {

template <class T> constexpr napi_typedarray_type kType = napi_uint8_array;
template <> constexpr napi_typedarray_type kType<int32_t> = napi_int32_array;
template <> constexpr napi_typedarray_type kType<float> = napi_float32_array;
template <> constexpr napi_typedarray_type kType<double> = napi_float64_array;

template <class T> constexpr const char* kTypeName = "a Uint8Array";
template <> constexpr const char* kTypeName<int32_t> = "an Int32Array";
template <> constexpr const char* kTypeName<float> = "a Float32Array";
template <> constexpr const char* kTypeName<double> = "a Float64Array";

bool isDetached(Napi::Env env, napi_value buffer) {
  bool detached = false;
  return napi_is_detached_arraybuffer(env, buffer, &detached) != napi_ok || detached;
}

// The elements of an array in memory that only this thread writes; refuses all others by `name`.
template <class T>
std::span<T> elementsOf(const Napi::Value& value, const std::string& name) {
  const Napi::Env env = value.Env();
  if (!value.IsTypedArray()) refuse(env, name + " must be " + kTypeName<T>);
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0, offset = 0, bytes = 0;
  void *data = nullptr, *memory = nullptr;
  napi_value buffer = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, &buffer, &offset) != napi_ok || type != kType<T>) {
    refuse(env, name + " must be " + kTypeName<T>);
  }
  bool plain = false;
  if (napi_is_arraybuffer(env, buffer, &plain) != napi_ok || !plain) refuse(env, name + " must not be in a SharedArrayBuffer");
  if (isDetached(env, buffer) || napi_get_arraybuffer_info(env, buffer, &memory, &bytes) != napi_ok) refuse(env, name + " is detached: its memory was transferred");
  if (offset > bytes || length > (bytes - offset) / sizeof(T)) refuse(env, name + " reaches beyond its buffer, which has shrunk");
  return {static_cast<T*>(data), length};
}

}  // namespace

template <class T>
std::vector<T> copyOf(const Napi::Value& value, const std::string& name, size_t most) {
  const std::span<T> elements = elementsOf<T>(value, name);
  if (elements.size() > most) refuse(value.Env(), name + " may have " + std::to_string(most) + " elements, got " + std::to_string(elements.size()));
  return {elements.begin(), elements.end()};
}

template std::vector<uint8_t> copyOf(const Napi::Value&, const std::string&, size_t);
template std::vector<int32_t> copyOf(const Napi::Value&, const std::string&, size_t);
template std::vector<float> copyOf(const Napi::Value&, const std::string&, size_t);
template std::vector<double> copyOf(const Napi::Value&, const std::string&, size_t);

void writeBack(const Napi::Value& value, const std::vector<float>& values, const std::string& name) {
  const std::span<float> elements = elementsOf<float>(value, name);
  if (elements.size() != values.size()) refuse(value.Env(), name + " was resized while the core was using it");
  std::copy(values.begin(), values.end(), elements.begin());
}

}  // namespace longlive::addon
