// What the parity program's case runners share: comparing, and reading cases that may say anything.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "longlive/error.h"
#include "parity.h"

namespace longlive::parity {

void Report::compare(const std::string& tensor, const float* got, const float* want, int64_t n) {
  double difference = 0, scale = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double d = std::fabs(static_cast<double>(got[i]) - want[i]);
    difference = std::isfinite(d) ? std::max(difference, d) : std::numeric_limits<double>::infinity();
    if (std::isfinite(want[i])) scale = std::max(scale, std::fabs(static_cast<double>(want[i])));
  }
  const double relative = scale > 0 ? difference / scale : difference;
  ++compared;
  if (worstTensor.empty() || relative > worst) worst = relative, worstTensor = tensor;
}

void Report::compare(const std::string& tensor, const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) {
    integerMismatches.push_back(tensor + ": " + std::to_string(got.size()) + " elements, expected " + std::to_string(want.size()));
    return;
  }
  compare(tensor, got.data(), want.data(), static_cast<int64_t>(want.size()));
}

void Report::compareInt(const std::string& tensor, int64_t got, int64_t want) {
  ++compared;
  if (got != want) integerMismatches.push_back(tensor + ": " + std::to_string(got) + ", expected " + std::to_string(want));
}

std::vector<float> readTensor(const SafeTensors& file, const std::string& name) {
  const Tensor& t = file.at(name);
  std::vector<float> out(static_cast<size_t>(t.elements()));
  toFloat(t, out.data(), name);
  return out;
}

std::vector<int64_t> readIntegers(const SafeTensors& file, const std::string& name) {
  const Tensor& t = file.at(name);
  if (t.dtype != DType::I64) throw Error(ErrorCode::InvalidPackage, "tensor \"" + name + "\" is not I64");
  std::vector<int64_t> out(static_cast<size_t>(t.elements()));
  if (!out.empty()) std::memcpy(out.data(), t.data, t.bytes());
  return out;
}

std::vector<float> readTensor(const SafeTensors& file, const std::string& name, int64_t elements) {
  std::vector<float> values = readTensor(file, name);
  if (static_cast<int64_t>(values.size()) != elements) {
    refuse("tensor \"" + name + "\" has " + std::to_string(values.size()) + " elements, not " + std::to_string(elements));
  }
  return values;
}

Shape shapeOf(const SafeTensors& file, const std::string& name, int rank) {
  const Shape& shape = file.at(name).shape;
  if (shape.rank != rank || shape.elements() == 0) refuse("tensor \"" + name + "\" must have " + std::to_string(rank) + " dimensions and not be empty");
  return shape;
}

void refuse(const std::string& what) { throw Error(ErrorCode::InvalidPackage, what); }

int64_t within(const Json& value, const std::string& name, int64_t least, int64_t most) {
  const int64_t n = value.integer();
  if (n < least || n > most) refuse(name + " is " + std::to_string(n) + ", and must be between " + std::to_string(least) + " and " + std::to_string(most));
  return n;
}

int64_t wholeNumber(const Json& object, const char* key, int64_t least, int64_t most) { return within(object.at(key), key, least, most); }

DitConfig ditConfig(const Json& c) {
  DitConfig d;
  d.dim = sizeIn(c, "dim"), d.ffnDim = sizeIn(c, "ffn_dim"), d.numHeads = sizeIn(c, "num_heads"), d.numLayers = sizeIn(c, "num_layers");
  d.freqDim = sizeIn(c, "freq_dim"), d.inDim = sizeIn(c, "in_dim"), d.outDim = sizeIn(c, "out_dim");
  d.textDim = sizeIn(c, "text_dim"), d.textLen = sizeIn(c, "text_len");
  if (d.dim % d.numHeads != 0 || d.headDim() % 2 != 0 || d.headDim() < 6) refuse("num_heads must divide dim into heads of even size, of 6 at least");
  if (d.freqDim % 2 != 0) refuse("freq_dim must be even");
  if (d.inDim != d.outDim) refuse("out_dim must be in_dim");
  const Json* patch = c.find("patch_size");
  for (size_t i = 0; patch && i < 3; ++i) {
    if (patch->array().at(i).integer() != d.patchSize[i]) refuse("patch_size must be [1, 2, 2]");
  }
  if (const Json* e = c.find("eps")) d.eps = static_cast<float>(e->number());
  if (const Json* t = c.find("rope_theta")) d.ropeTheta = t->number();
  if (const Json* l = c.find("rope_table_len")) d.ropeTableLength = within(*l, "rope_table_len", 1, kMostSize);
  return d;
}

}  // namespace longlive::parity
