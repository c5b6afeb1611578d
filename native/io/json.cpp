#include "json.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <unordered_set>

#include "longlive/error.h"

namespace longlive {

namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxNumberLength = 64;

[[noreturn]] void wrongType(const char* wanted) {
  throw Error(ErrorCode::InvalidPackage, std::string("JSON value is not ") + wanted);
}

void appendUtf8(std::string& out, uint32_t c) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    tail(12), tail(6), tail(0);
  }
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json v = value(0);
    skipSpace();
    if (at_ != text_.size()) fail("unexpected text after the value");
    return v;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::InvalidPackage, "invalid JSON at byte " + std::to_string(at_) + ": " + what);
  }

  bool done() const { return at_ >= text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }

  void skipSpace() {
    while (!done() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
  }

  void expect(char c) {
    skipSpace();
    if (peek() != c || done()) fail(std::string("expected '") + c + "'");
    ++at_;
  }

  bool accept(char c) {
    skipSpace();
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("unknown word");
    at_ += word.size();
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    skipSpace();
    Json v;
    switch (peek()) {
      case '{': readObject(v, depth); break;
      case '[': readArray(v, depth); break;
      case '"': v.type_ = Json::Type::String; v.string_ = readString(); break;
      case 't': literal("true"); v.type_ = Json::Type::Bool; v.bool_ = true; break;
      case 'f': literal("false"); v.type_ = Json::Type::Bool; break;
      case 'n': literal("null"); break;
      default: readNumber(v);
    }
    return v;
  }

  void readObject(Json& v, int depth) {
    v.type_ = Json::Type::Object;
    ++at_;
    if (accept('}')) return;
    std::unordered_set<std::string> seen;
    do {
      skipSpace();
      if (peek() != '"') fail("expected a key");
      std::string key = readString();
      if (!seen.insert(key).second) fail("duplicate key \"" + key + "\"");
      expect(':');
      v.object_.emplace_back(std::move(key), value(depth + 1));
    } while (accept(','));
    expect('}');
  }

  void readArray(Json& v, int depth) {
    v.type_ = Json::Type::Array;
    ++at_;
    if (accept(']')) return;
    do v.array_.push_back(value(depth + 1));
    while (accept(','));
    expect(']');
  }

  void readNumber(Json& v) {
    const size_t begin = at_;
    const auto digits = [&] {
      const size_t first = at_;
      while (peek() >= '0' && peek() <= '9') ++at_;
      if (at_ == first) fail("expected a value");
    };
    if (peek() == '-') ++at_;
    const bool zero = peek() == '0';
    const size_t whole = at_;
    digits();
    if (zero && at_ - whole > 1) fail("number with a leading zero");
    if (peek() == '.') ++at_, digits();
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    if (at_ - begin > kMaxNumberLength) fail("number too long");
    v.type_ = Json::Type::Number;
    v.number_ = std::strtod(std::string(text_.substr(begin, at_ - begin)).c_str(), nullptr);
    if (!std::isfinite(v.number_)) fail("number out of range");
  }

  uint32_t hex4() {
    uint32_t c = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char h = peek();
      c = c * 16;
      if (h >= '0' && h <= '9') c += h - '0';
      else if (h >= 'a' && h <= 'f') c += h - 'a' + 10;
      else if (h >= 'A' && h <= 'F') c += h - 'A' + 10;
      else fail("expected a hexadecimal digit");
    }
    return c;
  }

  void readEscape(std::string& out) {
    const char c = peek();
    ++at_;
    switch (c) {
      case '"': case '\\': case '/': out += c; return;
      case 'b': out += '\b'; return;
      case 'f': out += '\f'; return;
      case 'n': out += '\n'; return;
      case 'r': out += '\r'; return;
      case 't': out += '\t'; return;
      case 'u': break;
      default: fail("unknown escape");
    }
    uint32_t code = hex4();
    if (code >= 0xdc00 && code < 0xe000) fail("lone surrogate");
    if (code >= 0xd800 && code < 0xdc00) {
      if (text_.substr(at_, 2) != "\\u") fail("lone surrogate");
      at_ += 2;
      const uint32_t low = hex4();
      if (low < 0xdc00 || low >= 0xe000) fail("lone surrogate");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    appendUtf8(out, code);
  }

  // One UTF-8 sequence, refusing overlong forms, surrogates and values past U+10FFFF.
  void readUtf8(std::string& out) {
    const auto byte = [&](size_t i) { return at_ + i < text_.size() ? static_cast<uint8_t>(text_[at_ + i]) : 0; };
    const uint8_t b = byte(0);
    const int length = b < 0x80 ? 1 : (b >> 5) == 6 ? 2 : (b >> 4) == 14 ? 3 : (b >> 3) == 30 ? 4 : 0;
    if (length == 0) fail("invalid UTF-8");
    uint32_t code = length == 1 ? b : b & (0x7f >> length);
    for (int i = 1; i < length; ++i) {
      if ((byte(i) & 0xc0) != 0x80) fail("invalid UTF-8");
      code = (code << 6) | (byte(i) & 0x3f);
    }
    constexpr uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) fail("invalid UTF-8");
    out.append(text_.substr(at_, length));
    at_ += length;
  }

  std::string readString() {
    std::string out;
    for (++at_; !done();) {
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return out;
      }
      if (static_cast<uint8_t>(c) < 0x20) fail("control character in a string");
      if (c == '\\') {
        ++at_;
        readEscape(out);
      } else {
        readUtf8(out);
      }
    }
    fail("string without an end");
  }

  std::string_view text_;
  size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonParser(text).document(); }

bool Json::boolean() const {
  if (type_ != Type::Bool) wrongType("a boolean");
  return bool_;
}

double Json::number() const {
  if (type_ != Type::Number) wrongType("a number");
  return number_;
}

int64_t Json::integer() const {
  const double n = number();
  if (n != std::floor(n) || std::fabs(n) > 9007199254740992.0) wrongType("an integer");
  return static_cast<int64_t>(n);
}

const std::string& Json::string() const {
  if (type_ != Type::String) wrongType("a string");
  return string_;
}

const std::vector<Json>& Json::array() const {
  if (type_ != Type::Array) wrongType("an array");
  return array_;
}

const std::vector<Json::Member>& Json::object() const {
  if (type_ != Type::Object) wrongType("an object");
  return object_;
}

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : object()) if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* v = find(key)) return *v;
  throw Error(ErrorCode::InvalidPackage, "JSON object has no \"" + std::string(key) + "\"");
}

}  // namespace longlive
