// What trained diffusion transformers have and even random weights have not, put into weights that are random: without it 8 bits look better
// than they are. The shape of each is from a public description; the sizes are chosen within what these report.
//
//   massive channels   a few fixed channels of the residual stream are two orders above its median, in all tokens ("Massive Activations are the
//                      Key to Local Detail Synthesis in Diffusion Transformers", arXiv 2510.11538; arXiv 2605.13974). What linear layers
//                      read then differs a hundredfold between channels (SmoothQuant, arXiv 2211.10438)
//   heavy tails        one weight in a thousand is of ten times the deviation: N(0, 1) + N(0, 100) Bernoulli(0.001), the distribution that
//                      FlashAttention-3 judges fp8 by (arXiv 2407.08608, 4.3)
//   biased keys        of each head some channels are much alike in all tokens, and much larger than the rest (SageAttention's reason to
//                      take off the mean, arXiv 2410.02367 and 2411.10958)
//   attention sinks    the first frames get much of the attention, however far they are (arXiv 2309.17453, and why LongLive keeps them,
//                      2509.22622): the biased channels turn slowly with time and pull towards what is far
//   peaked logits      norms of queries and keys that make logits of a deviation of about 3, so that few keys get most (what follows for the
//                      probabilities in fp8: arXiv 2606.06521)
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/config.h"
#include "model/rope.h"

namespace longlive::test {

class Outliers {
 public:
  explicit Outliers(const DitConfig& c) : config_(c) {
    const int64_t count = std::max<int64_t>(1, c.dim / 384);
    for (int64_t i = 0; i < count; ++i) massive_.push_back((2 * i + 1) * c.dim / (2 * count));
  }

  const std::vector<int64_t>& massiveChannels() const { return massive_; }

  void into(std::vector<SafeTensors::Entry>& entries) {
    for (SafeTensors::Entry& e : entries) into(e.name, e.tensor);
  }

 private:
  static constexpr float kMassive = 100, kTail = 10, kBias = 5, kNorm = 2.4f;
  static constexpr int kRare = 1000;
  static constexpr double kTurnPerFrame = 0.05;  // of the biased channels; half a turn in a minute of blocks

  static bool ends(const std::string& name, const std::string& end) { return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0; }

  void into(const std::string& name, const Tensor& t) {
    const bool block = name.starts_with("blocks.");
    if (name == "patch_embedding.bias") {
      for (const int64_t channel : massive_) t.as<float>()[channel] = channel % 2 ? kMassive : -kMassive;
    } else if (block && ends(name, ".weight") && t.shape.rank == 2) {
      tails(t);
    } else if (block && name.find("norm_") != std::string::npos) {
      for (int64_t i = 0; i < t.elements(); ++i) t.as<float>()[i] = kNorm * (1 + 0.2f * t.as<float>()[i]);
    } else if (ends(name, "self_attn.q.bias") || ends(name, "self_attn.k.bias")) {
      bias(t, ends(name, "q.bias") ? kBias : -kBias);
    }
  }

  // Rows are as long as `in`: their deviation is 1 / sqrt(in).
  void tails(const Tensor& t) {
    std::normal_distribution<float> normal(0, kTail / std::sqrt(static_cast<float>(t.shape[1])));
    for (int64_t i = static_cast<int64_t>(random_() % kRare); i < t.elements(); i += 1 + static_cast<int64_t>(random_() % (2 * kRare))) t.as<float>()[i] += normal(random_);
  }

  // The real half of each head's slowly turning pair: queries' against keys' gives -cos of the angle between them.
  void bias(const Tensor& t, float size) {
    const int64_t pairs = ropeSplit(config_.headDim()).temporal;
    const double slow = static_cast<double>(pairs) * std::log(1 / kTurnPerFrame) / std::log(config_.ropeTheta);
    const int64_t pair = std::min(pairs - 1, static_cast<int64_t>(std::lround(slow)));
    for (int64_t head = 0; head < config_.numHeads; ++head) t.as<float>()[head * config_.headDim() + 2 * pair] = size;
  }

  DitConfig config_;
  std::vector<int64_t> massive_;
  std::mt19937_64 random_{17};
};

}  // namespace longlive::test
