// Random weights for the video networks of any config, as a safetensors file in memory: for benchmarks and for tests of
// sizes that have no golden case. Values are scaled so that activations keep their size from layer to layer.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "model/config.h"

namespace longlive {

class SyntheticWeights {
 public:
  explicit SyntheticWeights(uint64_t seed) : state_(seed * 2 + 1) {}

  float uniform() {  // in [-1, 1)
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) / 2147483648.0f;
  }

  // A weight with its bias; the first axis is the output.
  void layer(const std::string& name, Shape shape, bool bias = true) {
    const float scale = std::sqrt(3.0f * static_cast<float>(shape[0]) / static_cast<float>(shape.elements()));
    add(name + ".weight", shape, 0.0f, scale);
    if (bias) add(name + ".bias", {shape[0]}, 0.0f, 0.1f);
  }
  void gamma(const std::string& name, Shape shape) { add(name + ".gamma", shape, 1.0f, 0.2f); }

  // The values of a tensor, to be changed.
  std::vector<float>& values(const std::string& name) {
    for (size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].name == name) return *values_[i];
    throw std::logic_error("there is no synthetic tensor " + name);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const SafeTensors::Entry& entry : entries_) all.push_back(entry.name);
    return all;
  }

  // The file; it stays valid as long as this object.
  SafeTensors file() {
    bytes_ = writeSafeTensors(entries_, {});
    return SafeTensors::parse(bytes_, "synthetic weights");
  }

 private:
  void add(const std::string& name, Shape shape, float mean, float scale) {
    values_.push_back(std::make_unique<std::vector<float>>(shape.elements()));
    for (float& v : *values_.back()) v = mean + scale * uniform();
    entries_.push_back({name, {values_.back()->data(), DType::F32, shape}});
  }

  uint64_t state_;
  std::vector<std::unique_ptr<std::vector<float>>> values_;
  std::vector<SafeTensors::Entry> entries_;
  std::vector<uint8_t> bytes_;
};

inline void syntheticResidual(SyntheticWeights& w, const std::string& name, int64_t in, int64_t out) {
  w.gamma(name + ".residual.0", {in, 1, 1, 1});
  w.layer(name + ".residual.2", {out, in, 3, 3, 3});
  w.gamma(name + ".residual.3", {out, 1, 1, 1});
  w.layer(name + ".residual.6", {out, out, 3, 3, 3});
  if (in != out) w.layer(name + ".shortcut", {out, in, 1, 1, 1});
}

inline void syntheticMiddle(SyntheticWeights& w, const std::string& name, int64_t dim) {
  syntheticResidual(w, name + ".0", dim, dim);
  w.gamma(name + ".1.norm", {dim, 1, 1});
  w.layer(name + ".1.to_qkv", {3 * dim, dim, 1, 1});
  w.layer(name + ".1.proj", {dim, dim, 1, 1});
  syntheticResidual(w, name + ".2", dim, dim);
}

// Decoder half of a Wan VAE.
inline void syntheticWanDecoder(SyntheticWeights& w, const VaeConfig& c) {
  const int64_t top = c.dim * c.dimMult.back(), stages = static_cast<int64_t>(c.dimMult.size());
  w.layer("conv2", {c.zDim, c.zDim, 1, 1, 1});
  w.layer("decoder.conv1", {top, c.zDim, 3, 3, 3});
  syntheticMiddle(w, "decoder.middle", top);
  int64_t in = top, index = 0;
  for (int64_t stage = stages - 1; stage >= 0; --stage) {
    const int64_t out = c.dim * c.dimMult[stage];
    for (int64_t i = 0; i <= c.numResBlocks; ++i, in = out)
      syntheticResidual(w, "decoder.upsamples." + std::to_string(index++), in, out);
    if (stage == 0) break;
    const std::string name = "decoder.upsamples." + std::to_string(index++);
    w.layer(name + ".resample.1", {out / 2, out, 3, 3});
    if (c.temporalDownsample[stage - 1]) w.layer(name + ".time_conv", {2 * out, out, 3, 1, 1});
    in = out / 2;
  }
  w.gamma("decoder.head.0", {in, 1, 1, 1});
  w.layer("decoder.head.2", {3, in, 3, 3, 3});
}

// TAEHV decoder.
inline void syntheticTinyDecoder(SyntheticWeights& w, const TinyVaeConfig& c) {
  const auto name = [](int64_t i) { return "decoder." + std::to_string(i); };
  const int64_t stages = static_cast<int64_t>(c.timeUpscale.size());
  w.layer(name(1), {c.channels[0], c.zDim, 3, 3});
  for (int64_t i = 0; i < stages; ++i) {
    const int64_t n = c.channels[i], first = 3 + 6 * i;
    for (int64_t b = first; b < first + 3; ++b) {
      w.layer(name(b) + ".conv.0", {n, 2 * n, 3, 3});
      w.layer(name(b) + ".conv.2", {n, n, 3, 3});
      w.layer(name(b) + ".conv.4", {n, n, 3, 3});
    }
    if (c.transposed && (i + 1 < stages || c.patch == 1)) {
      w.layer(name(first + 5), {n, c.timeUpscale[i] * c.channels[i + 1], 4, 4}, false);
      continue;
    }
    w.layer(name(first + 4) + ".conv", {c.timeUpscale[i] * n, n, 1, 1}, false);
    w.layer(name(first + 5), {c.channels[i + 1], n, 3, 3}, false);
  }
  w.layer(name(4 + 6 * stages), {3 * c.patch * c.patch, c.channels.back(), 3, 3});
}

}  // namespace longlive
