#include "weights.h"

#include <cmath>

#include "longlive/error.h"

namespace longlive {

namespace {

std::string describe(const Shape& s) {
  std::string out = "[";
  for (int i = 0; i < s.rank; ++i) out += (i ? "," : "") + std::to_string(s[i]);
  return out + "]";
}

bool startsWith(const std::string& s, const std::string& prefix) { return s.compare(0, prefix.size(), prefix) == 0; }

}  // namespace

WeightReader::WeightReader(const SafeTensors& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

std::vector<float> WeightReader::read(const std::string& name, Shape shape) {
  const Tensor& t = file_.at(prefix_ + name);
  const auto bad = [&](const std::string& why) -> Error {
    return {ErrorCode::InvalidPackage, file_.label() + ": tensor \"" + prefix_ + name + "\": " + why};
  };
  if (!(t.shape == shape)) throw bad("shape is " + describe(t.shape) + ", the config implies " + describe(shape));
  if (t.dtype != DType::F32 && t.dtype != DType::F16 && t.dtype != DType::BF16 && t.dtype != DType::F64) {
    throw bad(std::string("dtype ") + nameOf(t.dtype) + " is not floating point");
  }
  std::vector<float> values(static_cast<size_t>(t.elements()));
  toFloat(t, values.data(), name);
  for (float v : values) {
    if (!std::isfinite(v)) throw bad(std::isnan(v) ? "contains NaN" : "contains infinity");
  }
  taken_.insert(prefix_ + name);
  return values;
}

bool WeightReader::has(const std::string& name) const { return file_.find(prefix_ + name) != nullptr; }

Shape WeightReader::shape(const std::string& name) const { return file_.at(prefix_ + name).shape; }

void WeightReader::ignore(const std::string& namePrefix) {
  for (const auto& e : file_.entries()) {
    if (startsWith(e.name, prefix_ + namePrefix)) taken_.insert(e.name);
  }
}

void WeightReader::finish() const {
  for (const auto& e : file_.entries()) {
    if (!startsWith(e.name, prefix_) || taken_.count(e.name)) continue;
    throw Error(ErrorCode::InvalidPackage, file_.label() + ": unexpected tensor \"" + e.name + "\"");
  }
}

}  // namespace longlive
