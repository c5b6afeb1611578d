#include "sampler.h"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>

#include "longlive/error.h"

namespace longlive {

namespace {

constexpr int64_t kGlobalFrames = 21;

int64_t ropePositions(const DitConfig& dit, const KvGeometry& geometry) {
  return std::max(dit.ropeTableLength, geometry.capacity);
}

// What a pass depends on and its text does not: equal signatures, equal launches.
std::vector<int64_t> signatureOf(const Tensor& latents, const KvPass& pass, const TimeConditioning& time, bool cacheOnly) {
  std::vector<int64_t> s = {reinterpret_cast<intptr_t>(latents.data), reinterpret_cast<intptr_t>(&time), cacheOnly, pass.frames, pass.firstSlot,
                            static_cast<int64_t>(pass.form)};
  for (const FrameRuns* runs : {&pass.writes, &pass.visible}) {
    s.push_back(runs->size());
    for (const FrameRun& r : *runs) s.insert(s.end(), {r.source, r.slot, r.frame, r.count});
  }
  return s;
}

}  // namespace

KvGeometry geometryOf(const SamplingConfig& config) {
  const int64_t frames = config.windowFrames < 0 ? kGlobalFrames : config.windowFrames;
  return {frames, frames, config.sinkFrames};
}

SamplerPlan::SamplerPlan(const Dit& dit, const SamplingConfig& config) : scheduler_(config.timestepShift) {
  timesteps_ = scheduler_.denoisingTimesteps(config.denoisingSteps, config.warpDenoisingSteps);
  for (float t : timesteps_) sigmas_.push_back(scheduler_.sigmaAt(t));
  std::vector<float> all = timesteps_;
  all.push_back(config.contextNoise);
  arena_ = Arena::plan(dit.backend(), [&](Arena& a) {
    time_.clear();
    for (size_t i = 0; i < all.size(); ++i) time_.push_back(dit.layoutTime(a, 1));
  });
  for (size_t i = 0; i < all.size(); ++i) dit.prepareTime(time_[i], {&all[i], 1});
}

Sampler::Sampler(const Dit& dit, const SamplerPlan& plan, const SamplingConfig& config, const KvGeometry& geometry,
                 const LatentGrid& grid)
    : dit_(dit), backend_(dit.backend()), plan_(plan), config_(config), grid_(grid), ropeParameters_(dit.backend()),
      rope_(makeRopeTables(ropeParameters_, dit.config().headDim(), dit.config().ropeTheta, ropePositions(dit.config(), geometry),
                           grid.height / 2, grid.width / 2)) {
  const int64_t block = config.framesPerBlock, channels = dit.config().inDim;
  if (block < 1 || block > geometry.capacity) throw std::logic_error("Sampler: a block must fit the window");
  cache_.emplace(geometry, dit.makeStore(geometry, block, grid, config.rope));
  arena_ = Arena::plan(backend_, [&](Arena& a) {
    const auto latents = [&](int64_t frames) { return a.take(DType::F32, {frames, channels, grid.height, grid.width}); };
    workspace_ = dit.layoutWorkspace(a, geometry.capacity, block, grid);
    text_ = dit.layoutText(a);
    xt_ = latents(block), x0_ = latents(block), eps_ = latents(block);
    history_ = latents(geometry.capacity), ordered_ = latents(geometry.capacity), sink_ = latents(geometry.sink);
    if (config.rope == RopeMode::Absolute) positions_ = a.take(DType::F32, {geometry.capacity, rope_.temporal.shape[1], 2});
  });
}

// Absolute positions move on for ever; with those of the pass in a place of their own, its launches do not.
void Sampler::run(const Tensor& latents, const KvPass& pass, const TimeConditioning& time, bool cacheOnly, std::optional<float> sigma) {
  lastPass_ = pass;
  if (positions_ && pass.start + pass.frames > rope_.temporal.shape[0]) throw std::logic_error("Sampler: position outside the table");
  if (positions_) backend_.copy(positions_.rows(0, pass.frames), rope_.temporal.rows(pass.start, pass.frames));
  const DitCall call{latents, pass, &time, cacheOnly};
  if (!backend_.replays()) return work(call, sigma);
  const auto replayed = [&] { work(call, sigma); };
  backend_.replay(recordings_[signatureOf(latents, pass, time, call.cacheOnly)], textVersion_, std::ref(replayed));
}

void Sampler::work(const DitCall& call, std::optional<float> sigma) {
  RopeTables rope = rope_;
  if (positions_) rope.temporal = positions_;
  dit_.forward(call, cache_->store(), text_, rope, workspace_);
  if (sigma) backend_.flowToX0(x0_, call.latents, workspace_.flow.rows(0, call.pass.frames * grid_.tokens()), *sigma);
}

bool Sampler::canStartBlock() const {
  return config_.rope == RopeMode::Relative || position() + config_.framesPerBlock <= dit_.config().ropeTableLength;
}

// -- a block ----------------------------------------------------------------------------------------------------------------

void Sampler::denoise(NoiseSource& noise, int64_t block) {
  if (denoised()) throw std::logic_error("Sampler: the block is denoised");
  if (step_ == 0) {
    beforeBlock_ = cache_->indices();
    noise.fill(backend_, xt_, block, 0);
  }
  run(xt_, cache_->begin(position(), config_.framesPerBlock), plan_.time(step_), false, plan_.sigma(step_));
  if (++step_ == plan_.steps()) return;
  noise.fill(backend_, eps_, block, step_);
  backend_.mix(xt_, x0_, eps_, plan_.sigma(step_));
}

void Sampler::context() {
  if (!denoised()) throw std::logic_error("Sampler: the block is not denoised yet");
  run(x0_, cache_->begin(position(), config_.framesPerBlock), plan_.contextTime(), true);
  rememberSink(lastPass_, x0_);
  remember();
  frame_ += config_.framesPerBlock;
  step_ = 0;
}

// The rolled-out frames are lost to the noisy block, but the first pass of the next attempt rolls them out again unseen.
void Sampler::abandon() {
  if (step_ == 0) return;
  cache_->setIndices(beforeBlock_);
  // Sink slots count as visible even before they are filled; there they must read as zero again.
  cache_->zero(beforeBlock_.filled, cache_->geometry().sink);
  step_ = 0;
}

// -- the past ---------------------------------------------------------------------------------------------------------------

Tensor Sampler::historyOf(int64_t frame) const { return history_.rows(frame % history_.shape[0], 1); }

void Sampler::remember() {
  for (int64_t i = 0; i < config_.framesPerBlock; ++i) backend_.copy(historyOf(frame_ + i), x0_.rows(i, 1));
}

// Keeps the clean latents behind the sink's keys. In a recompute the pass skips what the sink protects.
void Sampler::rememberSink(const KvPass& pass, const Tensor& latents) {
  const int64_t end = std::min(pass.firstSlot + pass.frames, sink_.shape[0]);
  for (int64_t slot = pass.firstSlot; slot < end; ++slot) {
    const int64_t source = slot - pass.firstSlot;
    // The first pass of a block beyond the first one wrote a noisy key here that later passes left alone (golden 5.7); the
    // clean latent is still the best account of it.
    if (slot == 0) sinkStart_ = pass.start;
    backend_.copy(sink_.rows(slot, 1), latents.rows(source, 1));
  }
}

int64_t Sampler::remembered() const { return std::min(frame_, history_.shape[0]); }

Tensor Sampler::lastFrames(int64_t n) const {
  for (int64_t i = 0; i < n; ++i) backend_.copy(ordered_.rows(i, 1), historyOf(frame_ - n + i));
  return ordered_.rows(0, n);
}

// -- prompt switch ----------------------------------------------------------------------------------------------------------

int64_t Sampler::setText(const Tensor& embeddings, int64_t tokens, RecacheMode mode) {
  if (step_ != 0) throw std::logic_error("Sampler: the text changes between blocks");
  dit_.prepareText(text_, embeddings, tokens, workspace_);
  ++textVersion_;
  if (mode == RecacheMode::Clear) clear();
  return mode == RecacheMode::Recache ? recache() : 0;
}

void Sampler::clear() {
  cache_->setIndices({});
  cache_->zero(0, cache_->geometry().capacity);
  origin_ = frame_, sinkStart_ = 0;
}

int64_t Sampler::recache() {
  const int64_t capacity = cache_->geometry().capacity;
  if (!config_.globalSink) cache_->zero(0, capacity);
  const int64_t n = std::min(position(), capacity);
  if (n == 0) return 0;
  const Tensor latents = lastFrames(n);
  const KvPass all = cache_->begin(position() - n, n, !config_.globalSink);
  const KvPass pass = all.withoutSkipped();
  run(latents.rows(all.skipped, pass.frames), pass, plan_.contextTime(), true);
  if (all.skipped == 0) rememberSink(all, latents);
  return pass.frames;
}

// -- checkpoints ------------------------------------------------------------------------------------------------------------

SamplerState Sampler::save() const {
  SamplerState s;
  s.frame = frame_, s.origin = origin_, s.sinkStart = sinkStart_;
  const Tensor sink = sink_.rows(0, std::min(position(), sink_.shape[0])), latents = lastFrames(remembered());
  s.sink.resize(static_cast<size_t>(sink.elements()));
  s.window.resize(static_cast<size_t>(latents.elements()));
  backend_.download(s.sink.data(), sink);
  backend_.download(s.window.data(), latents);
  return s;
}

// Everything that a pass relies on is asked for here: a checkpoint is a file, and files may say anything.
void Sampler::requireFitting(const SamplerState& s) const {
  const auto refuse = [](const std::string& what) { throw Error(ErrorCode::InvalidArgument, "the checkpoint " + what); };
  const int64_t capacity = cache_->geometry().capacity, block = config_.framesPerBlock, frameSize = history_.elements() / capacity;
  constexpr int64_t most = int64_t{1} << 40;  // frames: far beyond any video, and no sum of some overflows
  const auto outside = [&](int64_t n) { return n < 0 || n > most; };
  if (outside(s.frame) || outside(s.origin) || outside(s.sinkStart) || s.frame % block != 0 || s.origin % block != 0 || s.origin > s.frame) {
    refuse("has impossible counters");
  }
  const int64_t past = s.frame - s.origin, sinkKept = std::min(past, cache_->geometry().sink);
  if (s.sinkStart + sinkKept > past) refuse("says that its sink begins at frame " + std::to_string(s.sinkStart) + " of " + std::to_string(past));
  if (positions_ && past > rope_.temporal.shape[0]) {
    refuse("is at frame " + std::to_string(past) + ", but absolute positions end at latent frame " + std::to_string(rope_.temporal.shape[0]));
  }
  if (static_cast<int64_t>(s.window.size()) != std::min(s.frame, capacity) * frameSize || static_cast<int64_t>(s.sink.size()) != sinkKept * frameSize) {
    refuse("does not fit the session's size or sampling settings");
  }
}

int64_t Sampler::restore(const SamplerState& s) {
  requireFitting(s);
  const int64_t capacity = cache_->geometry().capacity, sink = cache_->geometry().sink;
  const int64_t frameSize = history_.elements() / capacity, kept = std::min(s.frame, capacity), past = s.frame - s.origin;
  const int64_t sinkKept = std::min(past, sink);
  frame_ = s.frame;
  clear();
  origin_ = s.origin, sinkStart_ = s.sinkStart, step_ = 0;
  for (int64_t i = 0; i < kept; ++i) backend_.upload(historyOf(frame_ - kept + i), s.window.data() + i * frameSize);
  if (sinkKept > 0) backend_.upload(sink_.rows(0, sinkKept), s.sink.data());
  if (past == 0) return 0;
  if (past <= capacity) {
    run(lastFrames(past), cache_->begin(0, past), plan_.contextTime(), true);
    return past;
  }
  // The sink's frames alone, then the window behind them, which sees the sink.
  if (sink > 0) {
    cache_->setIndices({s.sinkStart, 0, 0});
    run(sink_, cache_->begin(s.sinkStart, sink), plan_.contextTime(), true);
  }
  const int64_t behind = capacity - sink;
  cache_->setIndices({past, capacity, 0});
  run(lastFrames(behind), cache_->begin(past - behind, behind), plan_.contextTime(), true);
  return capacity;
}

}  // namespace longlive
