// The few-step sampler and everything that lives as long as one video: spec sections 3.3, 4 and 5.
//
//   per block: x_t = noise;  for each step s: x0 = x_t - sigma_s flow(x_t, t_s);  x_t = (1 - sigma_{s+1}) x0 + sigma_{s+1} eps
//   then a pass over the clean x0 at the context timestep, whose K/V later blocks see.
//
// "Frame" is a latent frame, counted since the video began; positions are counted since `origin`, the last clear.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dit.h"
#include "scheduler.h"

namespace longlive {

// Gaussian noise of a block: step 0 is what the block starts from, step s what is added after denoising step s - 1.
class NoiseSource {
 public:
  virtual ~NoiseSource() = default;
  virtual void fill(Backend& backend, const Tensor& out, int64_t block, int64_t step) = 0;
};

class PhiloxNoise final : public NoiseSource {
 public:
  explicit PhiloxNoise(uint64_t seed) : seed_(seed) {}
  void fill(Backend& backend, const Tensor& out, int64_t block, int64_t step) override {
    backend.gaussian(out, seed_, static_cast<uint32_t>(block), static_cast<uint32_t>(step));
  }

 private:
  uint64_t seed_;
};

// What all videos of a model share: timesteps and the network's conditioning on them.
class SamplerPlan {
 public:
  SamplerPlan(const Dit& dit, const SamplingConfig& config);

  int64_t steps() const { return static_cast<int64_t>(timesteps_.size()); }
  const Scheduler& scheduler() const { return scheduler_; }
  const std::vector<float>& timesteps() const { return timesteps_; }
  float sigma(int64_t step) const { return sigmas_[static_cast<size_t>(step)]; }
  const TimeConditioning& time(int64_t step) const { return time_[static_cast<size_t>(step)]; }
  const TimeConditioning& contextTime() const { return time_.back(); }

 private:
  Scheduler scheduler_;
  std::vector<float> timesteps_, sigmas_;
  std::vector<TimeConditioning> time_;  // of each step, and of the context pass
  Arena arena_;
};

// The cache geometry that a package's settings mean for an endless video. -1 is the reference's "global" attention, which
// never sees more than 21 frames.
KvGeometry geometryOf(const SamplingConfig& config);

// Clean latents and counters from which a sampler can go on (design: checkpoint).
struct SamplerState {
  int64_t frame = 0;          // first frame of the next block
  int64_t origin = 0;         // frame of the last clear
  int64_t sinkStart = 0;      // first frame of the sink, counted from the origin
  std::vector<float> sink;    // clean latents of the sink's frames, min(frame - origin, sink)
  std::vector<float> window;  // clean latents of the last min(frame, capacity) frames
};

class Sampler {
 public:
  Sampler(const Dit& dit, const SamplerPlan& plan, const SamplingConfig& config, const KvGeometry& geometry, const LatentGrid& grid);

  // Sets the text, and treats the cache as `mode` says. Only between blocks or after abandon(). Returns the number of frames
  // that were computed. embeddings as in Dit::prepareText.
  int64_t setText(const Tensor& embeddings, int64_t tokens, RecacheMode mode);

  // One denoising step of the current block; the noise is keyed by `block`.
  void denoise(NoiseSource& noise, int64_t block);
  // The context pass; the next block begins.
  void context();
  // Forgets the denoising steps already taken of the current block.
  void abandon();

  int64_t step() const { return step_; }          // denoising steps taken of the current block
  bool denoised() const { return step_ == plan_.steps(); }
  bool hasText() const { return text_.rows > 0; }
  int64_t frame() const { return frame_; }        // first frame of the current block
  // Absolute positions end with the table.
  bool canStartBlock() const;
  const Tensor& clean() const { return x0_; }     // [framesPerBlock, C, h, w]: x0 of the last denoising step

  SamplerState save() const;
  // Rebuilds the caches from saved latents under the current text; frames computed. Throws Error{InvalidArgument} if the
  // state does not fit.
  int64_t restore(const SamplerState& state);
  // The last n clean frames in order, [n, C, h, w], n <= min(frame, capacity); valid until the next call.
  Tensor lastFrames(int64_t n) const;
  int64_t remembered() const;  // min(frame, capacity)

  size_t memoryBytes() const { return arena_.bytes() + ropeParameters_.bytes() + cache_->store().bytes() + cache_->store().workingBytes(); }

  const KvCache& cache() const { return *cache_; }

 private:
  friend struct SamplerProbe;  // of tests
  // One pass, and for a denoising step x0 from its flow. A pass that comes again is replayed where the backend can.
  void run(const Tensor& latents, const KvPass& pass, const TimeConditioning& time, bool cacheOnly, std::optional<float> sigma = {});
  void work(const DitCall& call, std::optional<float> sigma);
  int64_t recache();
  void requireFitting(const SamplerState& state) const;  // throws Error{InvalidArgument}
  int64_t position() const { return frame_ - origin_; }
  void clear();
  void remember();
  void rememberSink(const KvPass& pass, const Tensor& latents);
  Tensor historyOf(int64_t frame) const;

  const Dit& dit_;
  Backend& backend_;
  const SamplerPlan& plan_;
  SamplingConfig config_;
  LatentGrid grid_;
  Parameters ropeParameters_;
  RopeTables rope_;
  Arena arena_;
  std::optional<KvCache> cache_;
  DitWorkspace workspace_;
  TextCache text_;
  Tensor xt_, x0_, eps_;     // [framesPerBlock, C, h, w]
  Tensor history_;           // [capacity, C, h, w], frame f at f mod capacity
  Tensor ordered_;           // [capacity, C, h, w], scratch
  Tensor sink_;              // [sink, C, h, w]
  Tensor positions_;         // absolute mode: the rows of rope_.temporal for the pass at hand, [capacity, t, 2]
  int64_t sinkStart_ = 0;    // counted from the origin
  int64_t frame_ = 0, origin_ = 0, step_ = 0;
  KvCache::Indices beforeBlock_;
  KvPass lastPass_;
  // By what tells passes apart: as many as there are steps and turns of the ring, whatever the length of the video. They
  // name memory of this sampler, so they go first.
  std::map<std::vector<int64_t>, std::unique_ptr<Recording>> recordings_;
  uint64_t textVersion_ = 0;
};

}  // namespace longlive
