// Readers that must not trust their input.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
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
  CHECK(has(refusal(one("U8", "[9007199254740992,1024,0]", "[0,0]"), 0), "overflow"));  // 2^63 elements, but for the zero
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
  CHECK(has(message([&] { reader.read("inf", {1}); }), "\"inf\": contains NaN or infinity"));
  CHECK(has(message([&] { reader.read("int", {1}); }), "\"int\": dtype I64"));
  CHECK(has(message([&] { reader.read("gone", {1}); }), "\"gone\" is missing"));
  CHECK(reader.read("w", {2, 2})[3] == 4.0f);
  CHECK(has(message([&] { reader.finish(); }), "unexpected tensor \"nan\""));
  reader.ignore("nan"), reader.ignore("in");
  CHECK(message([&] { reader.finish(); }).empty());
}

TEST("weights: quantized matrices need their scales, and only they have some") {
  int8_t bytes[6] = {1, -2, 3, -127, 127, 0};
  float values[6] = {1, 2, 3, 4, 5, 6}, scale[2] = {0.5f, 2}, three[3] = {1, 1, 1}, negative[2] = {1, -1};
  float nan[2] = {1, std::numeric_limits<float>::quiet_NaN()};
  const Shape shape{2, 3}, rows{2};
  const std::vector<SafeTensors::Entry> entries = {
      {"good", {bytes, DType::I8, shape}},    {"good_scale", {scale, DType::F32, rows}},
      {"eight", {bytes, DType::F8_E4M3, shape}}, {"eight_scale", {scale, DType::F32, rows}},
      {"alone", {bytes, DType::I8, shape}},   {"long", {bytes, DType::I8, shape}},
      {"long_scale", {three, DType::F32, {3}}}, {"flat", {bytes, DType::I8, shape}},
      {"flat_scale", {scale, DType::F32, {2, 1}}}, {"nan", {bytes, DType::I8, shape}},
      {"nan_scale", {nan, DType::F32, rows}}, {"minus", {bytes, DType::I8, shape}},
      {"minus_scale", {negative, DType::F32, rows}}, {"half", {bytes, DType::I8, shape}},
      {"half_scale", {values, DType::BF16, rows}}, {"float", {values, DType::F32, shape}},
      {"float_scale", {scale, DType::F32, rows}}, {"int", {bytes, DType::U8, shape}}};
  const auto file = writeSafeTensors(entries, {});
  const SafeTensors tensors = SafeTensors::parse(file, "f");
  WeightReader reader(tensors);
  const auto message = [&](const std::string& name) -> std::string {
    try { reader.matrix(name, shape); return ""; } catch (const Error& e) { CHECK(e.code() == ErrorCode::InvalidPackage); return e.what(); }
  };
  CHECK(message("good").empty() && message("eight").empty());
  CHECK(has(message("alone"), "\"alone\": dtype I8 needs \"alone_scale\", which is missing"));
  CHECK(has(message("long"), "\"long_scale\": shape is [3], the config implies [2]"));
  CHECK(has(message("flat"), "\"flat_scale\": shape is [2,1], the config implies [2]"));
  CHECK(has(message("nan"), "\"nan_scale\": contains NaN"));
  CHECK(has(message("minus"), "\"minus_scale\": contains a negative scale"));
  CHECK(has(message("half"), "\"half_scale\": must be F32"));
  CHECK(has(message("float"), "\"float\": dtype F32 takes no scale, but the file has \"float_scale\""));
  CHECK(has(message("int"), "\"int\": dtype U8"));
  CHECK_THROWS(reader.read("good", shape), Error);  // not everybody can use bytes
  const StoredMatrix m = WeightReader(tensors).matrix("good", shape);
  float row[3];
  toFloat(row, m, 1);
  CHECK(row[0] == -254.0f && row[1] == 254.0f && row[2] == 0.0f);
}

TEST("stored matrices: every eight-bit float has the value of its bits") {
  uint8_t bits[256];
  float got[256];
  for (int i = 0; i < 256; ++i) bits[i] = static_cast<uint8_t>(i);
  toFloat(got, bits, DType::F8_E4M3, 256);
  CHECK(got[0x00] == 0 && got[0x01] == 0x1p-9f && got[0x07] == 7 * 0x1p-9f && got[0x08] == 0x1p-6f && got[0x38] == 1 && got[0x7e] == 448);
  CHECK(std::isnan(got[0x7f]) && std::isnan(got[0xff]) && got[0xfe] == -448 && std::signbit(got[0x80]));
  for (int i = 1; i < 0x7f; ++i) CHECK(got[i] > got[i - 1] && got[i | 0x80] == -got[i]);
}

TEST("mappings: any alignment is read, and what was cut off is refused") {
  const std::string path = (std::filesystem::temp_directory_path() / ("longlive-map-" + std::to_string(::getpid()))).string();
  const auto write = [&](const std::vector<uint8_t>& bytes) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<int64_t>(bytes.size()));
  };
  std::vector<float> values(100000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const SafeTensors::Entry entries[] = {{"a", {values.data(), DType::F32, {100000}}}};
  const auto file = writeSafeTensors(entries, {});
  uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  CHECK((8 + header) % 64 == 0);
  for (size_t shift = 0; shift < 5; ++shift) {  // a longer header moves the data
    std::vector<uint8_t> moved = file;
    moved.insert(moved.begin() + 8 + static_cast<int64_t>(header), shift, ' ');
    const uint64_t length = header + shift;
    std::memcpy(moved.data(), &length, 8);
    write(moved);
    const SafeTensors t = SafeTensors::open(path);
    CHECK(WeightReader(t).read("a", {100000}) == values);
    CHECK(WeightReader(t).read("a", {100000}) == values);  // released pages come back
  }
  for (const size_t length : {file.size() - 1, static_cast<size_t>(8 + header), static_cast<size_t>(100), static_cast<size_t>(7), static_cast<size_t>(0)}) {
    write({file.begin(), file.begin() + static_cast<int64_t>(length)});
    try {
      SafeTensors::open(path);
      CHECK(false);
    } catch (const Error& e) {
      CHECK(has(e.what(), path + ": ") && has(e.what(), "truncated"));
    }
  }
  std::filesystem::remove(path);
}

TEST("sha256: the processor's instructions agree with the definition, in pieces of any length") {
  std::vector<uint8_t> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  if (const sha256::Compress native = sha256::compressNative()) {
    uint32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    sha256::compressPortable(a, bytes.data() + 1, 9);
    native(b, bytes.data() + 1, 9);
    CHECK(std::equal(a, a + 8, b));
  }
  for (const size_t length : {0u, 1u, 55u, 56u, 63u, 64u, 65u, 119u, 120u, 128u, 1000u}) {
    const auto part = std::span<const uint8_t>(bytes).first(length);
    for (const size_t piece : {1u, 3u, 64u, 100u}) {
      Sha256 hash;
      for (size_t at = 0; at < length; at += piece) hash.update(part.subspan(at, std::min(piece, length - at)));
      CHECK(hash.hex() == sha256Hex(part));
    }
  }
}

TEST("sha256: known answers") {
  const std::string abc = "abc";
  CHECK(sha256Hex({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256Hex({reinterpret_cast<const uint8_t*>(abc.data()), 3}) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::vector<uint8_t> as(1000, 'a');
  CHECK(sha256Hex(as) == "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}
