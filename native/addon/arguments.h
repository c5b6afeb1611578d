// Strict reading of JavaScript arguments. Every function throws a TypeError-like Error with code INVALID_ARGUMENT and a
// message that names the argument.
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace longlive::addon {

// Members of an options object; finish() refuses unknown ones.
class Options {
 public:
  Options(const Napi::Value& value, std::string name);

  bool has(const char* key);  // and is not undefined
  std::string string(const char* key, std::initializer_list<const char*> allowed = {});
  int64_t integer(const char* key, int64_t least, int64_t most);
  uint64_t seed(const char* key);
  std::optional<bool> optionalBoolean(const char* key);
  void finish() const;

 private:
  Napi::Value get(const char* key);
  [[noreturn]] void refuse(const std::string& what) const;

  Napi::Env env_;
  Napi::Object object_;
  std::string name_;
  std::string known_;
};

[[noreturn]] void refuse(Napi::Env env, const std::string& what);

// What a typed array holds now. A copy: whoever handed it over may transfer, resize or write it while the core is at work.
// Refuses other types, and arrays whose memory is shared with other threads, detached, or no longer as long as the array.
template <class T>
std::vector<T> copyOf(const Napi::Value& value, const std::string& name, size_t most = SIZE_MAX);
// Writes values back; refuses an array that is not as it was when it was copied.
void writeBack(const Napi::Value& value, const std::vector<float>& values, const std::string& name);

}  // namespace longlive::addon
