#include "safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "json.h"
#include "longlive/error.h"
#include "stored_matrix.h"

namespace longlive {

namespace {

constexpr uint64_t kMaxHeader = 100u << 20;  // the format's own limit
constexpr size_t kMaxTensors = 1u << 20;

static_assert(std::endian::native == std::endian::little, "safetensors data is read in place");

bool dtypeFromName(const std::string& name, DType& out) {
  for (DType t : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool, DType::F8_E4M3}) {
    if (name == nameOf(t)) {
      out = t;
      return true;
    }
  }
  return false;
}

struct Range {
  uint64_t begin, end;
  size_t entry;
};

std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (char c : s.substr(0, 200)) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<uint8_t>(c) < 0x20 ? '?' : c;
  }
  return out + "\"";
}

}  // namespace

SafeTensors SafeTensors::open(const std::string& path) {
  SafeTensors file;
  file.label_ = path;
  file.mapping_ = std::make_shared<const Mapping>(path);
  file.readHeader(file.mapping_->bytes());
  return file;
}

SafeTensors SafeTensors::parse(std::span<const uint8_t> bytes, const std::string& label) {
  SafeTensors file;
  file.label_ = label;
  file.readHeader(bytes);
  return file;
}

void SafeTensors::readHeader(std::span<const uint8_t> bytes) {
  const auto fail = [&](const std::string& why) -> Error { return {ErrorCode::InvalidPackage, label_ + ": " + why}; };
  if (bytes.size() < 8) throw fail("truncated: " + std::to_string(bytes.size()) + " bytes cannot be a safetensors file");
  uint64_t headerSize = 0;
  std::memcpy(&headerSize, bytes.data(), 8);
  if (headerSize > kMaxHeader) throw fail("header of " + std::to_string(headerSize) + " bytes is larger than the format allows");
  if (headerSize > bytes.size() - 8) throw fail("truncated: the header ends after the file");
  const uint64_t dataSize = bytes.size() - 8 - headerSize;
  const uint8_t* data = bytes.data() + 8 + headerSize;

  Json header;
  try {
    header = Json::parse({reinterpret_cast<const char*>(bytes.data()) + 8, static_cast<size_t>(headerSize)});
  } catch (const Error& e) {
    throw fail(std::string("header: ") + e.what());
  }
  if (header.type() != Json::Type::Object) throw fail("header is not a JSON object");
  if (header.object().size() > kMaxTensors) throw fail("too many tensors");

  std::vector<Range> ranges;
  for (const auto& member : header.object()) {
    const std::string& name = member.first;
    const Json& value = member.second;
    const auto bad = [&](const std::string& why) -> Error { return fail("tensor " + quoted(name) + ": " + why); };
    if (name == "__metadata__") {
      if (value.type() != Json::Type::Object) throw fail("__metadata__ is not an object");
      for (const auto& [k, v] : value.object()) {
        if (v.type() != Json::Type::String) throw fail("__metadata__ " + quoted(k) + " is not a string");
        metadata_[k] = v.string();
      }
      continue;
    }
    try {
      if (value.type() != Json::Type::Object || value.object().size() != 3) throw bad("expected exactly dtype, shape, data_offsets");
      Entry entry;
      entry.name = name;
      if (!dtypeFromName(value.at("dtype").string(), entry.tensor.dtype)) {
        throw bad("unsupported dtype " + quoted(value.at("dtype").string()));
      }
      const auto& shape = value.at("shape").array();
      if (shape.size() > entry.tensor.shape.dims.size()) throw bad("more than 6 dimensions");
      int64_t expected = static_cast<int64_t>(sizeOf(entry.tensor.dtype));  // signed, as sizes of shapes are counted from here on
      bool empty = false;  // a zero must not hide an overflow of the other dimensions
      for (const Json& d : shape) {
        const int64_t n = d.integer();
        if (n < 0) throw bad("negative dimension");
        empty = empty || n == 0;
        if (n && __builtin_mul_overflow(expected, n, &expected)) throw bad("shape overflows");
        entry.tensor.shape.dims[entry.tensor.shape.rank++] = n;
      }
      if (empty) expected = 0;
      const auto& offsets = value.at("data_offsets").array();
      if (offsets.size() != 2) throw bad("data_offsets needs two numbers");
      const int64_t begin = offsets[0].integer(), end = offsets[1].integer();
      if (begin < 0 || end < begin) throw bad("data_offsets are reversed or negative");
      if (static_cast<uint64_t>(end) > dataSize) throw bad("truncated: data ends after the file");
      if (end - begin != expected) {
        throw bad("shape needs " + std::to_string(expected) + " bytes, data_offsets give " + std::to_string(end - begin));
      }
      entry.tensor.data = const_cast<uint8_t*>(data + begin);
      ranges.push_back({static_cast<uint64_t>(begin), static_cast<uint64_t>(end), entries_.size()});
      index_.emplace(name, entries_.size());
      entries_.push_back(std::move(entry));
    } catch (const Error& e) {
      const std::string text = e.what();
      throw text.rfind(label_, 0) == 0 ? e : bad(text);
    }
  }

  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t covered = 0;
  for (const Range& r : ranges) {
    if (r.begin != covered) {
      throw fail("tensor " + quoted(entries_[r.entry].name) + ": data " + (r.begin < covered ? "overlaps another tensor" : "leaves a hole before it"));
    }
    covered = r.end;
  }
  if (covered != dataSize) throw fail(std::to_string(dataSize - covered) + " bytes after the last tensor");
}

const Tensor* SafeTensors::find(std::string_view name) const {
  const auto it = index_.find(std::string(name));
  return it == index_.end() ? nullptr : &entries_[it->second].tensor;
}

const Tensor& SafeTensors::at(std::string_view name) const {
  if (const Tensor* t = find(name)) return *t;
  throw Error(ErrorCode::InvalidPackage, label_ + ": tensor " + quoted(std::string(name)) + " is missing");
}

void SafeTensors::willRead(const Tensor& t) const {
  if (mapping_) mapping_->willRead({static_cast<const uint8_t*>(t.data), t.bytes()});
}

void SafeTensors::release(const Tensor& t) const {
  if (mapping_) mapping_->release({static_cast<const uint8_t*>(t.data), t.bytes()});
}

void toFloat(const Tensor& in, float* out, const std::string& name) {
  if (in.dtype != DType::F32 && in.dtype != DType::F16 && in.dtype != DType::BF16 && in.dtype != DType::F64) {
    throw Error(ErrorCode::InvalidPackage, "tensor " + quoted(name) + ": dtype " + nameOf(in.dtype) + " is not floating point");
  }
  toFloat(out, in.data, in.dtype, in.elements());
}

std::vector<uint8_t> writeSafeTensors(std::span<const SafeTensors::Entry> entries,
                                      const std::map<std::string, std::string>& metadata) {
  std::string header = "{\"__metadata__\":{";
  for (const auto& [k, v] : metadata) {
    if (header.back() != '{') header += ',';
    header += quoted(k) + ":" + quoted(v);
  }
  header += "}";
  size_t offset = 0;
  for (const auto& e : entries) {
    header += "," + quoted(e.name) + ":{\"dtype\":\"" + nameOf(e.tensor.dtype) + "\",\"shape\":[";
    for (int i = 0; i < e.tensor.shape.rank; ++i) header += (i ? "," : "") + std::to_string(e.tensor.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + e.tensor.bytes()) + "]}";
    offset += e.tensor.bytes();
  }
  header += "}";
  header.resize((8 + header.size() + 63) / 64 * 64 - 8, ' ');

  std::vector<uint8_t> out(8 + header.size() + offset);
  const uint64_t size = header.size();
  std::memcpy(out.data(), &size, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  uint8_t* at = out.data() + 8 + header.size();
  for (const auto& e : entries) {
    if (e.tensor.bytes()) std::memcpy(at, e.tensor.data, e.tensor.bytes());
    at += e.tensor.bytes();
  }
  return out;
}

}  // namespace longlive
