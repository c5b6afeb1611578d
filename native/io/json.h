// A small strict JSON reader (RFC 8259) with limits, for configs and safetensors headers that may be hostile.
// Refuses duplicate keys, trailing text, invalid UTF-8, lone surrogates and nesting deeper than 64.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace longlive {

class Json {
 public:
  enum class Type : uint8_t { Null, Bool, Number, String, Array, Object };
  using Member = std::pair<std::string, Json>;

  // Throws Error{InvalidPackage} that names the byte offset.
  static Json parse(std::string_view text);

  Type type() const { return type_; }
  bool isNull() const { return type_ == Type::Null; }

  // Each throws Error{InvalidPackage} when the value has another type.
  bool boolean() const;
  double number() const;
  int64_t integer() const;  // a number without fraction, within +-2^53
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::vector<Member>& object() const;  // in file order

  const Json* find(std::string_view key) const;  // null if absent
  const Json& at(std::string_view key) const;    // throws if absent

 private:
  friend class JsonParser;
  Type type_ = Type::Null;
  bool bool_ = false;
  double number_ = 0;
  std::string string_;
  std::vector<Json> array_;
  std::vector<Member> object_;
};

}  // namespace longlive
