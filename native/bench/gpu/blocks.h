// Whole blocks of the full-size model with random weights: the speed of a video, a switch of its prompt, and whether graphs, lanes
// and 8 bits leave the numbers what they are.
#pragma once

#include "model/frame_decoder.h"
#include "model/sampler.h"
#include "results.h"
#include "test/synthetic_package.h"

namespace longlive::bench {

// One video: what a session does per block, with its parts timed.
class Video {
 public:
  Video(Backend& backend, const Dit& dit, const SamplerPlan& plan, const SamplingConfig& sampling, DecoderModel& decoder, const LatentGrid& grid)
      : b_(backend), sampling_(sampling), noise_(1), sampler_(dit, plan, sampling, geometryOf(sampling), grid),
        decoder_(decoder.createStream(grid.height, grid.width, sampling.framesPerBlock)) {
    const int64_t frames = 4 * sampling.framesPerBlock, h = 8 * grid.height, w = 8 * grid.width;
    arena_ = Arena::plan(b_, [&](Arena& a) {
      if (b_.runsAhead()) shown_ = a.take(DType::F32, sampler_.clean().shape);
      text_ = a.take(b_.activationType(), {kTokens + 1, dit.config().textDim});
      rgb_ = a.take(DType::U8, {frames, h, w, 3});
      i420_ = a.take(DType::U8, {frames, h * w * 3 / 2});
    });
    std::vector<float> v(static_cast<size_t>(text_.elements()));
    SyntheticWeights random(9);
    for (float& f : v) f = random.uniform();
    b_.upload(text_, v.data());
    host_ = b_.allocateHost(i420_.bytes());
    clean_ = b_.makeMark(), decoded_ = b_.makeMark();
    sampler_.setText(text_, kTokens, RecacheMode::Keep);
    decoder_->reset();
  }

  struct Times { double denoise, decode, context; };

  // A block as a session makes it (model/session.cpp): the context pass and the next block's first step are under way while
  // frames are decoded and copied, and are not waited for. Milliseconds until the frames are in host memory.
  double block() {
    const double start = now();
    while (!sampler_.denoised()) sampler_.denoise(noise_, index_);
    if (shown_) b_.copy(shown_, sampler_.clean());
    b_.mark(*clean_);
    if (b_.concurrent()) sampler_.context();
    {
      const LaneScope lane(b_, Lane::Decode);
      b_.follow(*clean_);
      decode();
    }
    if (b_.runsAhead() && sampler_.canStartBlock()) sampler_.denoise(noise_, index_ + 1);
    b_.wait(*decoded_);
    if (!b_.concurrent()) sampler_.context();
    ++index_;
    return now() - start;
  }
  // Its parts one after another.
  Times parts() {
    settle();
    const double start = now();
    while (!sampler_.denoised()) sampler_.denoise(noise_, index_);
    if (shown_) b_.copy(shown_, sampler_.clean());
    b_.synchronize();
    const double denoised = now();
    decode();
    b_.synchronize();
    const double decoded = now();
    sampler_.context();
    b_.synchronize();
    ++index_;
    return {denoised - start, decoded - denoised, now() - decoded};
  }
  double recache() {
    settle();
    return switchPrompt();
  }
  // What a session does when it is told so; the device may have passes to finish and a step to forget.
  double switchPrompt() {
    const double start = now();
    sampler_.abandon();
    sampler_.setText(text_, kTokens, RecacheMode::Recache);
    b_.synchronize();
    return now() - start;
  }
  // The last block's latents and frames, bit for bit.
  std::vector<uint8_t> lastBytes() const {
    const Tensor latents = shown_ ? shown_ : sampler_.clean();
    std::vector<uint8_t> all(latents.bytes() + frames_.bytes());
    b_.downloadBytes(all.data(), latents);
    std::memcpy(all.data() + latents.bytes(), host_->data, frames_.bytes());
    return all;
  }
  size_t memoryBytes() const { return sampler_.memoryBytes() + decoder_->memoryBytes() + arena_.bytes(); }

 private:
  static constexpr int64_t kTokens = 40;

  // Nothing is under way, nothing is taken ahead.
  void settle() {
    sampler_.abandon();
    b_.synchronize();
  }

  void decode() {
    const int64_t frames = decoder_->framesFor(sampling_.framesPerBlock);
    const Tensor rgb = rgb_.rows(0, frames);
    frames_ = i420_.rows(0, frames);
    const auto work = [&] {
      decoder_->decode(shown_ ? shown_ : sampler_.clean(), rgb);
      b_.toI420(frames_, rgb);
    };
    if (index_ == 0) work();
    else b_.replay(decoding_, 0, work);
    b_.copyOut(host_->data, frames_);
    b_.mark(*decoded_);
  }

  Backend& b_;
  SamplingConfig sampling_;
  PhiloxNoise noise_;
  Sampler sampler_;
  std::unique_ptr<FrameDecoder> decoder_;
  Arena arena_;
  Tensor shown_, text_, rgb_, i420_;
  Tensor frames_;  // of the last block, in i420_
  std::unique_ptr<Storage> host_;
  std::unique_ptr<Mark> clean_, decoded_;
  std::unique_ptr<Recording> decoding_;
  int64_t index_ = 0;
};

class Model {
 public:
  Model(Backend& backend, const Options& o, bool outliers = false) : b_(backend), small_(o.small) {
    if (small_) {
      config_.dit.dim = 96, config_.dit.ffnDim = 256, config_.dit.numHeads = 3, config_.dit.numLayers = 2;
      config_.dit.textDim = 64, config_.dit.textLen = 64;
      config_.vae.dim = 8;
      config_.sampling.windowFrames = 6, config_.sampling.sinkFrames = 1, config_.sampling.framesPerBlock = 2;
    }
    config_.vae.mean.assign(16, 0.0f), config_.vae.std.assign(16, 1.0f);
    // Absolute positions end with the table: the released one's 1024 frames are over after 341 blocks.
    config_.dit.ropeTableLength = std::max(config_.dit.ropeTableLength, config_.sampling.framesPerBlock * (o.blocks + kOtherBlocks));
    if (o.relative) config_.sampling.rope = RopeMode::Relative;
    const double start = now();
    const std::vector<uint8_t> bytes = test::ditFile(config_.dit, outliers);
    dit_ = std::make_unique<Dit>(b_, config_.dit, WeightReader(SafeTensors::parse(bytes, "random weights")));
    plan_ = std::make_unique<SamplerPlan>(*dit_, config_.sampling);
    std::printf("%zu MB of weights made and loaded in %.0f s\n", dit_->weightBytes() >> 20, (now() - start) * 1e-3);
  }

  void run(Results& results, bool full, int64_t blocks) {
    SyntheticWeights w(3);
    const auto decoder = full ? wanDecoder(w) : tinyDecoder(w);
    const std::string name = full ? "full VAE: " : "tiny decoder: ";

    {  // a session that starts on a warm process: its second video
      start(*decoder).block();
      Video second = start(*decoder);
      results.value(name + "first chunk, warm", second.block(), "ms");
      results.value(name + "memory of a session", static_cast<double>(second.memoryBytes()) / 1e6, "MB");
    }
    Video video = start(*decoder);
    warm(video);
    parts(results, name, video);
    switches(results, name, video);
    warm(video);
    sustained(results, name, video, blocks);
  }

  // Every block of a video with the tiny decoder, so long that all its passes are replayed, and with prompt switches.
  std::vector<std::vector<uint8_t>> video() {
    SyntheticWeights w(3);
    const auto decoder = tinyDecoder(w);
    Video video = start(*decoder);
    std::vector<std::vector<uint8_t>> all;
    for (int64_t block = 0; block < kReplayedBlocks; ++block) {
      if (block > kReplayedBlocks / 2 && block % 3 == 0) video.switchPrompt();
      video.block();
      all.push_back(video.lastBytes());
    }
    return all;
  }

  // Clean latents of a video's first blocks, block after block.
  std::vector<float> latents() {
    const LatentGrid size = grid();
    Sampler sampler(*dit_, *plan_, config_.sampling, geometryOf(config_.sampling), size);
    PhiloxNoise noise(1);
    const int64_t tokens = std::min<int64_t>(40, config_.dit.textLen - 1), textSize = (tokens + 1) * config_.dit.textDim;
    std::vector<float> text(static_cast<size_t>(textSize));
    SyntheticWeights random(9);
    for (float& f : text) f = random.uniform();
    const auto storage = b_.allocate(static_cast<size_t>(textSize) * sizeOf(b_.activationType()));
    const Tensor embeddings{storage->data, b_.activationType(), {tokens + 1, config_.dit.textDim}};
    b_.upload(embeddings, text.data());
    sampler.setText(embeddings, tokens, RecacheMode::Keep);
    std::vector<float> all;
    for (int64_t block = 0; block < kQualityBlocks; ++block) {
      while (!sampler.denoised()) sampler.denoise(noise, block);
      const size_t size = static_cast<size_t>(sampler.clean().elements());
      all.resize(all.size() + size);
      b_.download(all.data() + all.size() - size, sampler.clean());
      sampler.context();
    }
    return all;
  }

  static constexpr int64_t kQualityBlocks = 20;  // the window has been full for long
  static constexpr int64_t kReplayedBlocks = 24;
  static constexpr int64_t kOtherBlocks = 64;  // of a video that is measured, before its sustained speed

 private:
  static constexpr double kRecordEvery = 10e3;  // ms

  Video start(DecoderModel& decoder) { return Video(b_, *dit_, *plan_, config_.sampling, decoder, grid()); }

  // Fills the window; every turn of the ring is met twice.
  void warm(Video& video) const {
    for (int i = 0; i < (small_ ? 1 : 16); ++i) video.block();
  }

  void parts(Results& results, const std::string& name, Video& video) const {
    std::vector<double> denoise, decode, context;
    for (int i = 0; i < (small_ ? 1 : 9); ++i) {
      const auto t = video.parts();
      denoise.push_back(t.denoise), decode.push_back(t.decode), context.push_back(t.context);
    }
    results.value(name + "denoise p50", quantile(denoise, 0.5), "ms");
    results.value(name + "decode and copy p50", quantile(decode, 0.5), "ms");
    results.value(name + "context p50", quantile(context, 0.5), "ms");
  }

  void switches(Results& results, const std::string& name, Video& video) const {
    std::vector<double> recache, change, busy;
    for (int i = 0; i < (small_ ? 1 : 5); ++i) {
      recache.push_back(video.recache());
      change.push_back(recache.back() + video.block());
      video.block();
      busy.push_back(video.switchPrompt());
      busy.back() += video.block();
    }
    results.value(name + "recache p50", quantile(recache, 0.5), "ms");
    results.value(name + "prompt switch to first new chunk p50", quantile(change, 0.5), "ms");
    results.value(name + "prompt switch to first new chunk, asked for when frames arrive, p50", quantile(busy, 0.5), "ms");
  }

  // Many blocks back to back. What there is so far is recorded again and again: a time limit may end the run.
  void sustained(Results& results, const std::string& name, Video& video, int64_t blocks) const {
    const double start = now();
    double recorded = 0;
    std::vector<double> ends;
    for (int64_t i = 0; i < blocks; ++i) {
      video.block();
      ends.push_back(now() - start);
      if (i + 1 < blocks && ends.back() - recorded < kRecordEvery) continue;
      recordSustained(results, name, ends);
      recorded = ends.back();
    }
  }

  // From the times at which blocks ended: the speed, and whether it lasts, the last ten seconds against the first ten.
  void recordSustained(Results& results, const std::string& name, const std::vector<double>& ends) const {
    const double frames = 4.0 * static_cast<double>(config_.sampling.framesPerBlock), count = static_cast<double>(ends.size());
    const double end = ends.back(), stretch = std::min(10e3, end / 4);
    std::vector<double> all, first, last;
    for (size_t i = 0; i < ends.size(); ++i) {
      all.push_back(ends[i] - (i == 0 ? 0 : ends[i - 1]));
      if (ends[i] <= stretch) first.push_back(all.back());
      if (ends[i] > end - stretch) last.push_back(all.back());
    }
    results.value(name + "sustained", frames * count / (end * 1e-3), "frames/s");
    results.value(name + "video made", frames * count / 16, "s");
    results.value(name + "block p50", quantile(all, 0.5), "ms");
    results.value(name + "block p99", quantile(all, 0.99), "ms");
    if (!first.empty()) results.value(name + "speed of the last 10 s over the first 10 s", mean(first) / mean(last), "");
  }

  std::unique_ptr<DecoderModel> tinyDecoder(SyntheticWeights& w) const {
    TinyVaeConfig c;
    if (small_) c.channels = {16, 16, 8, 8};
    syntheticTinyDecoder(w, c);
    return loadTinyVae(b_, c, w.file());
  }
  std::unique_ptr<DecoderModel> wanDecoder(SyntheticWeights& w) const {
    syntheticWanDecoder(w, config_.vae);
    return loadWanVae(b_, config_.vae, w.file());
  }

  LatentGrid grid() const { return small_ ? LatentGrid{4, 6} : LatentGrid{60, 104}; }

  Backend& b_;
  bool small_;
  ModelConfig config_;
  std::unique_ptr<Dit> dit_;
  std::unique_ptr<SamplerPlan> plan_;
};

// The latents of a backend against those of bf16 on the same noise, after a block and after several, each of which has gone on from its own
// past: the signal over the difference, of the last of them.
inline void compareQuality(Results& results, const std::string& name, const std::vector<float>& got, const std::vector<float>& want) {
  const size_t block = want.size() / Model::kQualityBlocks;
  for (const size_t after : {1, 6, 20}) {
    double error = 0, size = 0;
    for (size_t i = (after - 1) * block; i < after * block; ++i) error += std::pow(got[i] - want[i], 2), size += std::pow(want[i], 2);
    const std::string blocks = std::to_string(after) + (after == 1 ? " block" : " blocks");
    results.value(name + "latents against bf16, signal over difference, after " + blocks, 10 * std::log10(size / error), "dB");
  }
}

// Graphs and lanes must not change a bit, whatever this backend's kernels are.
inline bool checkReplayed(Results& results, Backend& backend, const Options& o, Backend& singly) {
  const auto replayed = Model(backend, o).video(), want = Model(singly, o).video();
  int64_t differ = 0;
  for (size_t block = 0; block < want.size(); ++block) differ += replayed[block] != want[block];
  results.value("check: graphs and lanes against single launches, blocks that differ of " + std::to_string(want.size()), static_cast<double>(differ), "");
  if (differ > 0) std::printf("  FAIL: not the same bits\n");
  return differ == 0;
}

}  // namespace longlive::bench
