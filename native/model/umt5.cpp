#include "umt5.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "longlive/error.h"

namespace longlive {

int64_t relativeBucket(int64_t rel, int64_t buckets, int64_t maxDistance) {
  const int64_t half = buckets / 2, exact = half / 2;
  const int64_t base = rel > 0 ? half : 0, distance = std::abs(rel);
  if (distance < exact) return base + distance;
  // float32 as in the reference: the boundaries of the buckets depend on it.
  const float scaled = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                       static_cast<float>(std::log(static_cast<double>(maxDistance) / static_cast<double>(exact))) *
                       static_cast<float>(half - exact);
  return base + std::min(half - 1, exact + static_cast<int64_t>(scaled));
}

Umt5::Umt5(Backend& backend, const TextEncoderConfig& config, WeightReader weights)
    : backend_(backend), config_(config), parameters_(backend) {
  const auto parameter = [&](const std::string& name, Shape shape, DType type) {
    return parameters_.add(weights.read(name, shape), shape, type);
  };
  const DType type = backend.activationType();
  embedding_ = parameters_.add(weights.matrix("token_embedding.weight", {config.vocabSize, config.dim}), backend.kvType());
  weights.release("token_embedding.weight");
  for (int64_t i = 0; i < config.numLayers; ++i) {
    const std::string name = "blocks." + std::to_string(i) + ".";
    Layer layer;
    layer.norm1 = parameter(name + "norm1.weight", {config.dim}, type);
    layer.norm2 = parameter(name + "norm2.weight", {config.dim}, type);
    layer.q = readLinear(weights, name + "attn.q", config.dimAttn, config.dim);
    layer.k = readLinear(weights, name + "attn.k", config.dimAttn, config.dim);
    layer.v = readLinear(weights, name + "attn.v", config.dimAttn, config.dim);
    layer.o = readLinear(weights, name + "attn.o", config.dim, config.dimAttn);
    layer.gate = readLinear(weights, name + "ffn.gate.0", config.dimFfn, config.dim);
    layer.fc1 = readLinear(weights, name + "ffn.fc1", config.dimFfn, config.dim);
    layer.fc2 = readLinear(weights, name + "ffn.fc2", config.dim, config.dimFfn);
    layer.bias = weights.read(name + "pos_embedding.embedding.weight", {config.numBuckets, config.numHeads});
    layers_.push_back(std::move(layer));
  }
  norm_ = parameter("norm.weight", {config.dim}, type);
  weights.finish();
  weightBytes_ += parameters_.bytes();
}

Umt5::Linear Umt5::readLinear(WeightReader& w, const std::string& name, int64_t out, int64_t in) {
  Linear linear = loadLinear(backend_, w, name, out, in, false, EightBit::Weights);
  weightBytes_ += linear->bytes;
  return linear;
}

void Umt5::reserve(int64_t tokens) {
  const DType type = backend_.activationType();
  Workspace w;
  w.tokens = tokens;
  arena_ = Arena::plan(backend_, [&](Arena& a) {
    for (Tensor* t : {&w.x, &w.normed}) *t = a.take(type, {tokens, config_.dim});
    for (Tensor* t : {&w.q, &w.k, &w.v, &w.mixed}) *t = a.take(type, {tokens, config_.dimAttn});
    for (Tensor* t : {&w.gate, &w.hidden}) *t = a.take(type, {tokens, config_.dimFfn});
    w.bias = a.take(DType::F32, {config_.numHeads * (2 * tokens - 1)});
  });
  workspace_ = w;
}

std::vector<float> Umt5::biasOf(const Layer& layer, int64_t queries, int64_t keys) const {
  const int64_t heads = config_.numHeads, distances = queries + keys - 1;
  std::vector<float> bias(static_cast<size_t>(heads * distances));
  for (int64_t i = 0; i < distances; ++i) {
    const int64_t bucket = relativeBucket(i - (queries - 1), config_.numBuckets, config_.maxDistance);
    for (int64_t h = 0; h < heads; ++h) bias[static_cast<size_t>(h * distances + i)] = layer.bias[static_cast<size_t>(bucket * heads + h)];
  }
  return bias;
}

Umt5::Workspace Umt5::begin(std::span<const int32_t> ids, int64_t valid) {
  const int64_t n = static_cast<int64_t>(ids.size());
  if (n == 0 || valid < 1 || valid > n) throw Error(ErrorCode::InvalidArgument, "a prompt needs at least one token");
  for (int32_t id : ids) {
    if (id < 0 || id >= config_.vocabSize) {
      throw Error(ErrorCode::InvalidArgument, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                                  std::to_string(config_.vocabSize));
    }
  }
  if (n > workspace_.tokens) reserve(n);
  Workspace w = workspace_;
  for (Tensor* t : {&w.x, &w.normed, &w.q, &w.k, &w.v, &w.mixed, &w.gate, &w.hidden}) *t = t->rows(0, n);
  w.bias = w.bias.rows(0, config_.numHeads * (n + valid - 1));
  backend_.embed(w.x, embedding_, ids);
  return w;
}

void Umt5::runLayer(const Layer& layer, int64_t valid, const Workspace& w) {
  const KeyRange visible{0, valid};
  backend_.upload(w.bias, biasOf(layer, w.x.shape[0], valid).data());
  backend_.rmsNorm(w.normed, w.x, layer.norm1, config_.eps);
  backend_.linear(w.q, w.normed, *layer.q);
  backend_.linear(w.k, w.normed, *layer.k);
  backend_.linear(w.v, w.normed, *layer.v);
  AttentionArgs a;
  a.out = w.mixed, a.q = w.q, a.k = w.k, a.v = w.v;
  a.visible = {&visible, 1};
  a.heads = config_.numHeads;
  a.bias = w.bias;
  backend_.attention(a);
  backend_.linear(w.x, w.mixed, *layer.o, {.residual = w.x});

  backend_.rmsNorm(w.normed, w.x, layer.norm2, config_.eps);
  backend_.linear(w.gate, w.normed, *layer.gate, {.activation = Activation::GeluTanh});
  backend_.linear(w.hidden, w.normed, *layer.fc1, {.multiply = w.gate});
  backend_.linear(w.x, w.hidden, *layer.fc2, {.residual = w.x});
}

std::vector<float> Umt5::encode(std::span<const int32_t> ids, int64_t valid) {
  const Workspace w = begin(ids, valid);
  for (const Layer& layer : layers_) runLayer(layer, valid, w);
  backend_.rmsNorm(w.normed, w.x, norm_, config_.eps);
  std::vector<float> out(ids.size() * static_cast<size_t>(config_.dim));
  backend_.download(out.data(), w.normed);
  return out;
}

}  // namespace longlive
