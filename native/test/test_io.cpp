// Readers that must not trust their input.
#include <cstring>
#include <limits>
#include <string>

#include "harness.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/sha256.h"
#include "longlive/error.h"
#include "model/weights.h"

using namespace longlive;

namespace {

std::vector<uint8_t> fileOf(const std::string& header, size_t dataBytes) {
  std::vector<uint8_t> out(8 + header.size() + dataBytes);
  const uint64_t n = header.size();
  std::memcpy(out.data(), &n, 8);
  std::memcpy(out.data() + 8, header.data(), n);
  return out;
}

// The message of the Error that reading throws, or "".
std::string refusal(const std::string& header, size_t dataBytes) {
  try {
    SafeTensors::parse(fileOf(header, dataBytes), "file");
    return "";
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::InvalidPackage);
    return e.what();
  }
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST("json: values, escapes and order") {
  const Json j = Json::parse(R"( {"b": [1, -2.5e1, true, null], "a": "\u00e9\ud83d\ude00\n"} )");
  CHECK(j.object()[0].first == "b" && j.object()[1].first == "a");
  CHECK(j.at("b").array()[1].number() == -25.0);
  CHECK(j.at("b").array()[2].boolean() && j.at("b").array()[3].isNull());
  CHECK(j.at("a").string() == "\xc3\xa9\xf0\x9f\x98\x80\n");
}

TEST("json: refuses what is not JSON") {
  for (const char* bad : {"", "{", "[1,]", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "01", "1.", "1e", "+1", "nul", "\"\t\"", "\"\\x\"", "\"\\ud800\"",
                          "[1] 2", "{\"a\":1,\"a\":2}", "1e999", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "'a'"}) {
    CHECK_THROWS(Json::parse(bad), Error);
  }
  CHECK_THROWS(Json::parse(std::string(100000, '[')), Error);
  CHECK_THROWS(Json::parse(std::string("\"\0\"", 3)), Error);
}

TEST("safetensors: writes what it reads") {
  float values[6] = {1, 2, 3, 4, 5, 6};
  const SafeTensors::Entry entries[] = {{"a", {values, DType::F32, {2, 3}}}, {"b \"q\"", {values, DType::F32, {1}}}, {"empty", {values, DType::F32, {0, 4}}}};
  const auto bytes = writeSafeTensors(entries, {{"k", "v"}});
  const SafeTensors file = SafeTensors::parse(bytes, "x");
  CHECK(file.metadata().at("k") == "v");
  CHECK(file.at("a").shape == Shape({2, 3}));
  CHECK(std::memcmp(file.at("a").data, values, sizeof values) == 0);
  CHECK(file.at("b \"q\"").elements() == 1 && file.at("empty").elements() == 0);
  CHECK_THROWS(file.at("c"), Error);
}

TEST("safetensors: converts every floating-point type") {
  const uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x7bff}, brain[] = {0x3f80, 0xc000, 0x0001, 0x7f7f};
  float out[4];
  toFloat({const_cast<uint16_t*>(half), DType::F16, {4}}, out, "t");
  CHECK(out[0] == 1.0f && out[1] == -2.0f && out[2] == 0x1p-24f && out[3] == 65504.0f);
  toFloat({const_cast<uint16_t*>(brain), DType::BF16, {4}}, out, "t");
  CHECK(out[0] == 1.0f && out[1] == -2.0f);
  int32_t ints[1] = {1};
  CHECK_THROWS(toFloat({ints, DType::I32, {1}}, out, "t"), Error);
}

TEST("safetensors: refuses hostile headers and names the tensor") {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "{\"w\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  CHECK(refusal(one("F32", "[2]", "[0,8]"), 8).empty());
  CHECK(has(refusal(one("F32", "[2]", "[0,8]"), 7), "\"w\": truncated"));
  CHECK(has(refusal(one("F32", "[2]", "[0,8]"), 9), "1 bytes after"));
  CHECK(has(refusal(one("F32", "[3]", "[0,8]"), 8), "\"w\": shape needs 12"));
  CHECK(has(refusal(one("X9", "[2]", "[0,8]"), 8), "unsupported dtype"));
  CHECK(has(refusal(one("F32", "[-2]", "[0,8]"), 8), "negative"));
  CHECK(has(refusal(one("F32", "[4294967296,4294967296,4]", "[0,8]"), 8), "overflow"));
  CHECK(has(refusal(one("F32", "[0,4294967296,4294967296,4]", "[0,0]"), 0), "overflow"));
  CHECK(has(refusal(one("F32", "[1,1,1,1,1,1,2]", "[0,8]"), 8), "more than 6"));
  CHECK(has(refusal(one("F32", "[2.5]", "[0,8]"), 8), "\"w\""));
  CHECK(has(refusal(one("F32", "[2]", "[8,0]"), 8), "reversed"));
  CHECK(has(refusal(one("F32", "[2]", "[0,8,9]"), 8), "two numbers"));
  CHECK(has(refusal(one("F32", "2", "[0,8]"), 8), "\"w\""));
  CHECK(has(refusal("{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8), "exactly"));
  CHECK(has(refusal("{\"w\":3}", 0), "\"w\""));
  CHECK(has(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6), "overlaps"));
  CHECK(has(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}", 6), "hole"));
  CHECK(has(refusal("{\"__metadata__\":{\"a\":1}}", 0), "__metadata__"));
  CHECK(has(refusal("[]", 0), "not a JSON object"));
  CHECK(has(refusal("{", 0), "header"));
  CHECK_THROWS(SafeTensors::parse(std::vector<uint8_t>{1, 2, 3}, "f"), Error);
  CHECK_THROWS(SafeTensors::parse(std::vector<uint8_t>(8, 0xff), "f"), Error);
  CHECK_THROWS(SafeTensors::open("/nonexistent/file.safetensors"), Error);
  CHECK_THROWS(SafeTensors::open("/"), Error);
}

TEST("weights: shape, type, values and left-overs are checked by name") {
  float values[4] = {1, 2, 3, 4}, bad[2] = {1, std::numeric_limits<float>::quiet_NaN()}, infinite[1] = {std::numeric_limits<float>::infinity()};
  int64_t ints[1] = {1};
  const SafeTensors::Entry entries[] = {{"w", {values, DType::F32, {2, 2}}}, {"nan", {bad, DType::F32, {2}}}, {"inf", {infinite, DType::F32, {1}}}, {"int", {ints, DType::I64, {1}}}};
  const auto bytes = writeSafeTensors(entries, {});
  const SafeTensors file = SafeTensors::parse(bytes, "f");
  const auto message = [&](auto&& f) -> std::string {
    try { f(); return ""; } catch (const Error& e) { return e.what(); }
  };
  WeightReader reader(file);
  CHECK(has(message([&] { reader.read("w", {4}); }), "\"w\": shape is [2,2], the config implies [4]"));
  CHECK(has(message([&] { reader.read("nan", {2}); }), "\"nan\": contains NaN"));
  CHECK(has(message([&] { reader.read("inf", {1}); }), "\"inf\": contains infinity"));
  CHECK(has(message([&] { reader.read("int", {1}); }), "\"int\": dtype I64"));
  CHECK(has(message([&] { reader.read("gone", {1}); }), "\"gone\" is missing"));
  CHECK(reader.read("w", {2, 2})[3] == 4.0f);
  CHECK(has(message([&] { reader.finish(); }), "unexpected tensor \"nan\""));
  reader.ignore("nan"), reader.ignore("in");
  CHECK(message([&] { reader.finish(); }).empty());
}

TEST("sha256: known answers") {
  const std::string abc = "abc";
  CHECK(sha256Hex({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256Hex({reinterpret_cast<const uint8_t*>(abc.data()), 3}) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::vector<uint8_t> as(1000, 'a');
  CHECK(sha256Hex(as) == "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}
