#include "weights.h"

#include "longlive/error.h"

namespace longlive {

namespace {

std::string describe(const Shape& s) {
  std::string out = "[";
  for (int i = 0; i < s.rank; ++i) out += (i ? "," : "") + std::to_string(s[i]);
  return out + "]";
}

bool isFloat(DType t) { return t == DType::F32 || t == DType::F16 || t == DType::BF16 || t == DType::F64; }

bool startsWith(const std::string& s, const std::string& prefix) { return s.compare(0, prefix.size(), prefix) == 0; }

}  // namespace

WeightReader::WeightReader(const SafeTensors& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

void WeightReader::fail(const std::string& name, const std::string& why) const {
  throw Error(ErrorCode::InvalidPackage, file_.label() + ": tensor \"" + prefix_ + name + "\": " + why);
}

const Tensor& WeightReader::find(const std::string& name, const Shape& shape) {
  const Tensor& t = file_.at(prefix_ + name);
  if (!(t.shape == shape)) fail(name, "shape is " + describe(t.shape) + ", the config implies " + describe(shape));
  file_.willRead(t);
  return t;
}

std::vector<float> WeightReader::read(const std::string& name, Shape shape) {
  const Tensor& t = find(name, shape);
  if (!isFloat(t.dtype)) fail(name, std::string("dtype ") + nameOf(t.dtype) + " is not floating point");
  std::vector<float> values(static_cast<size_t>(t.elements()));
  toFloat(t, values.data(), name);
  if (!allFinite(values.data(), t.elements())) fail(name, "contains NaN or infinity");
  file_.release(t);
  taken_.insert(prefix_ + name);
  return values;
}

StoredMatrix WeightReader::matrix(const std::string& name, Shape shape) {
  const Tensor& t = find(name, shape);
  const bool eightBit = t.dtype == DType::I8 || t.dtype == DType::F8_E4M3;
  if (!eightBit && !isFloat(t.dtype)) fail(name, std::string("dtype ") + nameOf(t.dtype) + " is neither floating point nor I8 nor F8_E4M3");
  if (!eightBit && has(name + "_scale")) fail(name, std::string("dtype ") + nameOf(t.dtype) + " takes no scale, but the file has \"" + name + "_scale\"");
  StoredMatrix m{t.data, t.dtype, shape[0], t.elements() / shape[0], {}, file_.label() + ": tensor \"" + prefix_ + name + "\""};
  if (eightBit) m.scale = readScale(name, shape[0]);
  taken_.insert(prefix_ + name);
  return m;
}

std::vector<float> WeightReader::readScale(const std::string& name, int64_t rows) {
  const std::string scaleName = name + "_scale";
  if (!has(scaleName)) fail(name, std::string("dtype ") + nameOf(file_.at(prefix_ + name).dtype) + " needs \"" + scaleName + "\", which is missing");
  if (file_.at(prefix_ + scaleName).dtype != DType::F32) fail(scaleName, "must be F32");
  std::vector<float> scale = read(scaleName, {rows});
  for (float s : scale) if (s < 0) fail(scaleName, "contains a negative scale");
  return scale;
}

void WeightReader::release(const std::string& name) const { file_.release(file_.at(prefix_ + name)); }

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

std::unique_ptr<LinearWeights> loadLinear(Backend& backend, WeightReader& weights, const std::string& name, int64_t out, int64_t in,
                                          bool hasBias, EightBit eightBit) {
  const StoredMatrix weight = weights.matrix(name + ".weight", {out, in});
  const std::vector<float> bias = hasBias ? weights.read(name + ".bias", {out}) : std::vector<float>();
  auto linear = backend.loadLinear(weight, hasBias ? bias.data() : nullptr, eightBit);
  weights.release(name + ".weight");
  return linear;
}

}  // namespace longlive
