// What tests look at, or put there, that nothing else does.
#pragma once

#include "model/sampler.h"
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
