// Causal diffusion transformer: spec section 2. One call predicts the flow of a few latent frames at a timestep, given the
// keys and values of earlier frames and the text.
//
//   x = Linear(patches)
//   per layer, with m_j = modulation[j] + e0[j]:
//     a = LN(x) (1 + m1) + m0;  x += m2 * O(attention(rope(rms(Q a)), cached rope(rms(K a)), cached V a))
//     c = LN(x) w + b;          x += O(attention(rms(Q c), K_text, V_text))
//     f = LN(x) (1 + m4) + m3;  x += m5 * W2 gelu(W1 f)
//   flow = Linear(LN(x) (1 + h1) + h0),  h_j = head.modulation[j] + e
//
// All weights are named as in the reference.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "arena.h"
#include "config.h"
#include "kv_cache.h"
#include "rope.h"
#include "weights.h"

namespace longlive {

// Everything that depends on the timestep and not on the picture (spec 2.3). One row where all frames of a call share the
// timestep, else one row per frame. Row j of a group is modulation j.
struct TimeConditioning {
  int64_t rows = 1;
  Tensor e;                   // [rows, dim]
  Tensor e0;                  // [6 * rows, dim]
  std::vector<Tensor> layer;  // per layer [6 * rows, dim]: shift, scale, gate (attention), shift, scale, gate (feed-forward)
  Tensor head;                // [2 * rows, dim]: shift, scale
};

// Keys and values of the text per layer (spec 2.4, 2.5). The padding rows of a prompt are all equal, so one of them stands
// for all with ln(count) added to its logit.
struct TextCache {
  int64_t rows = 0;
  float lastKeyLogBias = 0;
  std::vector<Tensor> keys, values;  // [textLen, dim], the first `rows` are valid
};

struct LatentGrid {
  int64_t height = 0, width = 0;  // of the latent, before patches
  int64_t tokens() const { return height / 2 * (width / 2); }
};

// Activations of one call of up to `frames` frames.
struct DitWorkspace {
  Tensor tokens;      // [n, 4 inDim]
  Tensor x;           // [n, dim] the residual stream
  LinearRows normed;  // [n, dim] what the layers' norms give: only EightBit::Full layers read it
  Tensor q;           // [n, dim]
  Tensor k;           // [n, dim]; also v
  Tensor mixed;       // [n, dim] attention's result; what the head reads
  LinearRows hidden;  // [chunk, ffnDim]
  Tensor flow;        // [n, 4 outDim]
  Tensor text, textHidden;  // [textLen, dim]
  int64_t chunkFrames = 1;  // the feed-forward runs over this many frames at once
};

struct DitCall {
  Tensor latents;  // [frames, inDim, h, w] F32
  KvPass pass;
  const TimeConditioning* time = nullptr;
  // Only the cache matters: everything after the last layer's K and V is left out, and there is no flow.
  bool cacheOnly = false;
};

class Dit {
 public:
  // Reads all weights and refuses left-over ones. Throws Error{InvalidPackage}.
  Dit(Backend& backend, const DitConfig& config, WeightReader weights, KvStorage kv = KvStorage::Full);

  const DitConfig& config() const { return config_; }
  Backend& backend() const { return backend_; }
  size_t weightBytes() const { return weightBytes_; }

  // A store for videos of blocks of so many frames.
  std::unique_ptr<KeyValues> makeStore(const KvGeometry& geometry, int64_t blockFrames, const LatentGrid& grid, RopeMode rope) const;
  DitWorkspace layoutWorkspace(Arena& arena, int64_t frames, int64_t chunkFrames, const LatentGrid& grid) const;
  TimeConditioning layoutTime(Arena& arena, int64_t rows) const;
  TextCache layoutText(Arena& arena) const;

  // timesteps: one per row of `out`.
  void prepareTime(const TimeConditioning& out, std::span<const float> timesteps) const;
  // embeddings [rows, textDim] of a prompt of which the first `tokens` rows are not padding; rows = min(tokens + 1, textLen).
  void prepareText(TextCache& out, const Tensor& embeddings, int64_t tokens, const DitWorkspace& w) const;

  // Runs one call; the flow is in w.flow [frames * frameTokens, 4 outDim], rows in (ky, kx, c) order. In absolute mode rope.temporal
  // begins with the position of the call's first frame.
  void forward(const DitCall& call, KeyValues& store, const TextCache& text, const RopeTables& rope, const DitWorkspace& w) const;

 private:
  friend struct DitProbe;  // of tests
  using Linear = std::unique_ptr<LinearWeights>;
  struct Attention {
    Linear q, k, v, o;
    Tensor normQ, normK;
  };
  struct Layer {
    Attention self, cross;
    Tensor norm3Weight, norm3Bias, modulation;  // modulation [6, dim]
    Linear ffn0, ffn2;
  };

  Linear readLinear(WeightReader& w, const std::string& name, int64_t out, int64_t in, EightBit eightBit);
  Linear counted(Linear linear);
  Attention readAttention(WeightReader& w, const std::string& name);
  Tensor readParameter(WeightReader& w, const std::string& name, Shape shape);
  void readTimeProjection(WeightReader& w);

  LinearRows takeRows(Arena& arena, int64_t n, int64_t width) const;
  // The steps of a call, in their order; attention leaves its result in w.mixed, before the projection that is added to w.x.
  DitWorkspace workspaceOf(const DitCall& call, const KeyValues& store, const DitWorkspace& full) const;
  void embed(const DitCall& call, const DitWorkspace& w) const;
  void appendKeysAndValues(size_t l, const DitCall& call, KeyValues& store, const RopeTables& rope, const DitWorkspace& w) const;
  void selfAttention(size_t l, const DitCall& call, KeyValues& store, const RopeTables& rope, const DitWorkspace& w) const;
  void crossAttention(size_t l, const TextCache& text, const DitWorkspace& w) const;
  void feedForward(size_t l, const DitCall& call, const DitWorkspace& w) const;
  void readHead(const DitCall& call, const DitWorkspace& w) const;
  std::span<const int32_t> counting(int64_t first, int64_t count) const;

  Backend& backend_;
  DitConfig config_;
  Parameters parameters_;
  size_t weightBytes_ = 0;
  KvStorage kv_;
  float attentionScale_;
  Linear patch_, text0_, text2_, time0_, time2_, head_;
  std::vector<Linear> timeProjection_;  // six of [dim, dim], so that each modulation comes out contiguous
  std::vector<Layer> layers_;
  Tensor headModulation_;  // [2, dim]
  std::vector<int32_t> counting_;  // 0, 1, 2, ...
};

// The sinusoid of a timestep (spec 2.3): cosines, then sines, of t * 10000^(-i / half), computed in float64.
std::vector<float> timeSinusoid(std::span<const float> timesteps, int64_t dim);

}  // namespace longlive
