// UMT5 text encoder: spec section 6.
//
//   per layer: x += O softmax(q k^T + bias) v of rms(x);  x += fc2(fc1(h) * gelu(gate(h))), h = rms(x)
//   out = rms(x)
//
// Scores are not scaled; the bias is a learned table per layer, indexed by a logarithmic bucket of (key - query).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "arena.h"
#include "config.h"
#include "weights.h"

namespace longlive {

// Bucket of relative position rel = key - query, bidirectional.
int64_t relativeBucket(int64_t rel, int64_t buckets, int64_t maxDistance);

class Umt5 {
 public:
  Umt5(Backend& backend, const TextEncoderConfig& config, WeightReader weights);

  const TextEncoderConfig& config() const { return config_; }
  size_t weightBytes() const { return weightBytes_; }
  size_t workspaceBytes() const { return arena_.bytes(); }

  // Working memory for texts of so many tokens, so that encoding them allocates nothing.
  void reserve(int64_t tokens);

  // Embeddings [ids, dim] F32 on the host. The first `valid` ids are real; the rest are padding, which is computed but not
  // seen. Throws Error{InvalidArgument} for an id outside the vocabulary.
  // Longer texts than ever before make the working memory grow.
  std::vector<float> encode(std::span<const int32_t> ids, int64_t valid);

 private:
  friend struct Umt5Probe;  // of tests
  using Linear = std::unique_ptr<LinearWeights>;
  struct Layer {
    Tensor norm1, norm2;
    Linear q, k, v, o, gate, fc1, fc2;
    std::vector<float> bias;  // [buckets, heads]
  };
  struct Workspace {
    int64_t tokens = 0;  // that there is room for
    Tensor x, normed, q, k, v, mixed, gate, hidden;  // [tokens, ...]
    Tensor bias;                                     // [heads * (2 tokens - 1)]
  };

  // The steps of encode(), in their order; the hidden state is in w.x. The rows of the workspace that a text takes.
  Workspace begin(std::span<const int32_t> ids, int64_t valid);
  void runLayer(const Layer& layer, int64_t valid, const Workspace& w);

  Linear readLinear(WeightReader& w, const std::string& name, int64_t out, int64_t in);
  // [heads, queries + keys - 1], by key - query + queries - 1.
  std::vector<float> biasOf(const Layer& layer, int64_t queries, int64_t keys) const;

  Backend& backend_;
  TextEncoderConfig config_;
  Parameters parameters_;
  size_t weightBytes_ = 0;
  Tensor embedding_, norm_;
  std::vector<Layer> layers_;
  Workspace workspace_;
  Arena arena_;  // its memory
};

}  // namespace longlive
