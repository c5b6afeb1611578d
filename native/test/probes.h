// What tests look at, or put there, that nothing else does.
#pragma once

#include <functional>
#include <string_view>

#include "model/sampler.h"
#include "model/session.h"
#include "ops/key_values.h"

namespace longlive {

// Of a scheduler's whole table.
inline std::vector<float> sigmasOf(const Scheduler& schedule) {
  std::vector<float> sigmas;
  for (float t : schedule.timesteps()) sigmas.push_back(schedule.sigmaAt(t));
  return sigmas;
}

// Frames of a store as they are kept, [count * frameTokens, width]. Stores of KvStorage::Full only.
struct KeyValuesProbe {
  static Tensor keys(const KeyValues& store, int64_t layer, int64_t frame, int64_t count = 1) { return store.framesOf(store.rows_.keys, layer, frame, count); }
  static Tensor values(const KeyValues& store, int64_t layer, int64_t frame, int64_t count = 1) { return store.framesOf(store.rows_.values, layer, frame, count); }
};

// One call of the network, step by step as Dit::forward, with its inner results.
struct DitProbe {
  // Name, layer (-1 outside layers), tensor.
  using Show = std::function<void(std::string_view, int64_t, const Tensor&)>;

  static void forward(const Dit& dit, const DitCall& call, KeyValues& store, const TextCache& text, const RopeTables& rope, const DitWorkspace& full, const Show& show) {
    Backend& b = dit.backend_;
    const DitWorkspace w = dit.workspaceOf(call, store, full);
    const int64_t rows = call.time->rows;
    const auto projected = [&](std::string_view name, size_t l, const LinearWeights& o, const Epilogue& added) {
      b.linear(w.k, w.mixed, o), show(name, static_cast<int64_t>(l), w.k);
      b.linear(w.x, w.mixed, o, added);
    };
    dit.embed(call, w), show("patch_embedding", -1, w.x);
    for (size_t l = 0; l < dit.layers_.size(); ++l) {
      dit.appendKeysAndValues(l, call, store, rope, w);
      // As attention takes them, in absolute mode.
      b.linear(w.q, w.normed, *dit.layers_[l].self.q);
      b.rmsNormRope(w.q, w.q, dit.layers_[l].self.normQ, dit.config().eps, dit.config().numHeads, {&rope, dit.counting(0, call.pass.frames)});
      show("queries", static_cast<int64_t>(l), w.q);
      dit.selfAttention(l, call, store, rope, w);
      projected("self_attn", l, *dit.layers_[l].self.o, {.residual = w.x, .gate = call.time->layer[l].rows(2 * rows, rows)});
      dit.crossAttention(l, text, w);
      projected("cross_attn", l, *dit.layers_[l].cross.o, {.residual = w.x});
      dit.feedForward(l, call, w), show("block", static_cast<int64_t>(l), w.x);
    }
    dit.readHead(call, w), show("head", -1, w.flow);
  }
};

// A text's encoding with the hidden states after its layers.
struct Umt5Probe {
  using Show = std::function<void(int64_t layer, const Tensor&)>;

  static void encode(Umt5& encoder, std::span<const int32_t> ids, int64_t valid, const Show& show) {
    const Umt5::Workspace w = encoder.begin(ids, valid);
    int64_t index = 0;
    for (const Umt5::Layer& layer : encoder.layers_) encoder.runLayer(layer, valid, w), show(index++, w.x);
  }
};

struct ModelProbe {
  // MemoryPlan::working as it is now: it grows while the largest calls are first met.
  static size_t workingBytes(const Model& m) { return m.impl_->backend->info().working + m.impl_->textEncoder->workspaceBytes(); }
};

struct SamplerProbe {
  static const KvPass& lastPass(const Sampler& s) { return s.lastPass_; }
  static const Tensor& noisy(const Sampler& s) { return s.xt_; }
  // The flow of the last denoising step.
  static Tensor flow(const Sampler& s) { return s.workspace_.flow; }
  // That of the context pass, or of a recache, which leave it out: the pass is run once more and does all the same again.
  static Tensor flowOfContext(const Sampler& s) { return flowAgain(s, s.x0_); }
  static Tensor flowOfRecache(const Sampler& s) {
    const int64_t all = std::min(s.position(), s.cache_->geometry().capacity), computed = s.lastPass_.frames;
    return flowAgain(s, s.ordered_.rows(all - computed, computed));
  }

 private:
  static Tensor flowAgain(const Sampler& s, const Tensor& latents) {
    RopeTables rope = s.rope_;
    if (s.positions_) rope.temporal = s.positions_;
    s.dit_.forward({latents, s.lastPass_, &s.plan_.contextTime(), false}, s.cache_->store(), s.text_, rope, s.workspace_);
    return s.workspace_.flow;
  }
};

}  // namespace longlive
