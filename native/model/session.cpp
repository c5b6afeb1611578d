// One continuous generation: noise, denoising, decoding, the context pass, prompt switches, checkpoints.
#include "session.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <string_view>

namespace longlive {

namespace {

constexpr int64_t kFramesPerLatent = 4;  // pixel frames of a latent frame; the very first gives one
constexpr int64_t kStride = 8;           // pixels of a latent's side

class Stopwatch {
 public:
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::InvalidArgument, what); }

SamplingConfig withOptions(SamplingConfig c, const SessionOptions& o) {
  if (o.rope) c.rope = *o.rope;
  if (o.globalSink) c.globalSink = *o.globalSink;
  return c;
}

LatentGrid gridOf(const SessionOptions& o) {
  static_assert(kSideStep == 2 * kStride);
  const auto fits = [](int64_t side) { return side >= kLeastSide && side <= kMostSide && side % kSideStep == 0; };
  if (!fits(o.width) || !fits(o.height)) {
    refuse("width and height must be multiples of " + std::to_string(kSideStep) + " between " + std::to_string(kLeastSide) + " and " +
           std::to_string(kMostSide) + ", got " + std::to_string(o.width) + " x " + std::to_string(o.height));
  }
  return {o.height / kStride, o.width / kStride};
}

int64_t firstFrameOf(int64_t latentFrame) { return latentFrame == 0 ? 0 : 1 + kFramesPerLatent * (latentFrame - 1); }

// A number of the checkpoint's metadata as this core writes it: decimal digits of at most `most`, no sign, no leading zero.
uint64_t numberIn(const SafeTensors& file, const std::string& key, uint64_t most) {
  const auto it = file.metadata().find(key);
  const std::string_view text = it == file.metadata().end() ? std::string_view{} : std::string_view{it->second};
  uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  if (!whole || n > most || std::to_string(n) != text) {
    throw Error(ErrorCode::InvalidPackage, "checkpoint: metadata \"" + key + "\" is missing or not a number from 0 to " + std::to_string(most));
  }
  return n;
}

int64_t counter(const SafeTensors& file, const std::string& key) {
  return static_cast<int64_t>(numberIn(file, key, 99'999'999'999'999'999));
}

}  // namespace

Session::Impl::Impl(std::shared_ptr<Model> owner, Model::Impl& p, const SessionOptions& o)
    : model(std::move(owner)), parts(p), backend(*p.backend), options(o), sampling(withOptions(p.config.sampling, o)), noise(o.seed),
      sampler(*p.dit, *p.plan, sampling, geometryOf(sampling), gridOf(o)),
      decoder(p.decoder->createStream(o.height / kStride, o.width / kStride, sampling.framesPerBlock)) {
  const int64_t frames = sampling.framesPerBlock * kFramesPerLatent, pixels = o.width * o.height;
  const DitConfig& dit = p.dit->config();
  arena = Arena::plan(backend, [&](Arena& a) {
    embeddings = a.take(backend.activationType(), {dit.textLen, dit.textDim});
    if (backend.runsAhead()) shown = a.take(DType::F32, sampler.clean().shape);
    rgb = a.take(DType::U8, {frames, o.height, o.width, 3});
    i420 = a.take(DType::U8, {frames, pixels * 3 / 2});
  });
  for (auto& host : i420Host) host = backend.allocateHost(i420.bytes());
  for (auto* m : {&clean, &decoded, &passes[0], &passes[1], &passes[2]}) *m = backend.makeMark();
}

void Session::Impl::requireBetweenBlocks(const char* what) const {
  if (phase == Phase::Denoise && reportedSteps() == 0) return;
  refuse(std::string(what) + " is only possible between blocks: finish the block or call abandonBlock()");
}

PromptChange Session::Impl::setPrompt(const Prompt& prompt, RecacheMode mode) {
  requireBetweenBlocks("setPrompt");
  parts.requireOwn(prompt);
  const Stopwatch watch;
  dropStepAhead();
  const int64_t rows = static_cast<int64_t>(prompt.embeddings.size()) / embeddings.shape[1];
  backend.upload(embeddings.rows(0, rows), prompt.embeddings.data());
  const int64_t frames = sampler.setText(embeddings.rows(0, rows), prompt.tokens, mode);
  backend.mark(*clean);
  backend.wait(*clean);  // for this lane alone: another text may be under way
  return {watch.milliseconds(), frames};
}

Step Session::Impl::step() {
  switch (phase) {
    case Phase::Denoise: return denoise();
    case Phase::Frames: return decode();
    default: return context();
  }
}

Step Session::Impl::denoise() {
  if (!sampler.hasText()) refuse("step needs a prompt: call setPrompt first");
  if (!ahead && !sampler.canStartBlock()) {
    refuse("absolute positions end at latent frame " + std::to_string(parts.dit->config().ropeTableLength) +
           ": use rope \"relative\" for endless videos, or set a prompt with mode \"clear\"");
  }
  const Stopwatch watch;
  Step s;
  s.kind = Step::Kind::Denoise, s.block = block, s.step = reportedSteps();
  if (!ahead) {
    sampler.denoise(noise, block);
    markPass();
  }
  ahead = false;
  pace();
  if (sampler.denoised()) phase = Phase::Frames;
  s.milliseconds = watch.milliseconds();
  return s;
}

void Session::Impl::pace() {
  if (reported++ > 0) backend.wait(*passes[(reported - 2) % passes.size()]);
}

void Session::Impl::runAhead() {
  if (!backend.runsAhead() || !sampler.canStartBlock()) return;
  sampler.denoise(noise, block + 1);
  markPass();
  ahead = true;
}

void Session::Impl::dropStepAhead() {
  if (!ahead) return;
  sampler.abandon();
  ahead = false, reported = given;
}

// Where lanes run beside each other the context pass, and a step of the next block, are given to the device before the host
// waits for the frames: none needs them. The frames' lane has the right of way.
Step Session::Impl::decode() {
  const Stopwatch watch;
  const Tensor latents = shown ? shown : sampler.clean();
  if (shown) backend.copy(shown, sampler.clean());
  backend.mark(*clean);
  if (backend.concurrent()) {
    sampler.context();
    markPass();
  }
  Storage& host = *i420Host[static_cast<size_t>(block % 2)];
  rgbFrames = decoder->framesFor(latents.shape[0]);
  const Tensor out = i420.rows(0, rgbFrames);
  {
    const LaneScope lane(backend, Lane::Decode);
    backend.follow(*clean);
    const auto work = [&] {
      decoder->decode(latents, rgb.rows(0, rgbFrames));
      backend.toI420(out, rgb.rows(0, rgbFrames));
    };
    if (block == 0) work();  // the first block gives fewer frames
    else backend.replay(decoding, 0, std::ref(work));
    backend.copyOut(host.data, out);
    backend.mark(*decoded);
  }
  runAhead();
  backend.wait(*decoded);
  phase = Phase::Context;
  Step s;
  s.kind = Step::Kind::Frames, s.block = block;
  s.frames = {firstFrameOf(block * sampling.framesPerBlock), rgbFrames, options.width, options.height,
              {static_cast<const uint8_t*>(host.data), out.bytes()}};
  s.milliseconds = watch.milliseconds();
  return s;
}

Step Session::Impl::context() {
  const Stopwatch watch;
  if (!backend.concurrent()) {
    sampler.context();
    markPass();
  }
  pace();
  phase = Phase::Denoise;
  Step s;
  s.kind = Step::Kind::Context, s.block = block++, s.milliseconds = watch.milliseconds();
  return s;
}

// -- checkpoints ------------------------------------------------------------------------------------------------------------

std::vector<uint8_t> Session::Impl::checkpoint() const {
  requireBetweenBlocks("checkpoint");
  SamplerState s = sampler.save();
  const int64_t channels = parts.dit->config().inDim, h = options.height / kStride, w = options.width / kStride;
  const auto entry = [&](const char* name, std::vector<float>& values) {
    const int64_t frames = static_cast<int64_t>(values.size()) / (channels * h * w);
    return SafeTensors::Entry{name, {values.data(), DType::F32, {frames, channels, h, w}}};
  };
  const SafeTensors::Entry entries[] = {entry("latents.sink", s.sink), entry("latents.window", s.window)};
  return writeSafeTensors(entries, {{"format", "longlive-checkpoint-1"},
                                    {"block", std::to_string(block)},
                                    {"frame", std::to_string(s.frame)},
                                    {"origin", std::to_string(s.origin)},
                                    {"sinkStart", std::to_string(s.sinkStart)},
                                    {"seed", std::to_string(options.seed)}});
}

void Session::Impl::restore(std::span<const uint8_t> bytes, const Prompt& prompt) {
  const SafeTensors file = SafeTensors::parse(bytes, "checkpoint");
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != "longlive-checkpoint-1") {
    throw Error(ErrorCode::InvalidPackage, "checkpoint: this version does not read its format; resume it with the version that wrote it");
  }
  const uint64_t seed = numberIn(file, "seed", std::numeric_limits<uint64_t>::max());
  if (seed != options.seed) {
    refuse("the checkpoint is of a session with seed " + std::to_string(seed) + ", not " + std::to_string(options.seed));
  }
  WeightReader reader(file);
  const int64_t channels = parts.dit->config().inDim, h = options.height / kStride, w = options.width / kStride;
  const auto read = [&](const char* name) {
    const Shape shape = reader.shape(name);
    if (shape.rank != 4 || !(shape == Shape{shape[0], channels, h, w})) {
      refuse(std::string("the checkpoint's ") + name + " have a different size than the session");
    }
    return reader.read(name, shape);
  };
  SamplerState s;
  s.sink = read("latents.sink"), s.window = read("latents.window");
  reader.finish();
  s.frame = counter(file, "frame"), s.origin = counter(file, "origin"), s.sinkStart = counter(file, "sinkStart");
  const int64_t at = counter(file, "block");
  if (at >= int64_t{1} << 32 || s.frame != at * sampling.framesPerBlock) refuse("the checkpoint's counters contradict each other");

  setPrompt(prompt, RecacheMode::Keep);
  sampler.restore(s);
  decoder->reset();
  decoder->warm(sampler.lastFrames(sampler.remembered()), rgb);
  backend.synchronize();
  block = at;
}

// -- the public face --------------------------------------------------------------------------------------------------------

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() {
  const std::shared_ptr<Model> alive = impl_->model;  // longer than the claim
  const auto claim = impl_->parts.claim();
  impl_.reset();
}

template <class F>
auto Session::Impl::call(F&& f) {
  const auto claim = parts.claim();
  if (lost) throw Error(*lost, "an earlier call failed and the session's state is lost: open it again from its last checkpoint");
  try {
    return f();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::InvalidArgument) lost = e.code();
    throw;
  } catch (const std::bad_alloc&) {
    lost = ErrorCode::OutOfMemory;
    throw;
  } catch (...) {
    lost = ErrorCode::Internal;
    throw;
  }
}

int64_t Session::block() const { return impl_->block; }
bool Session::ended() const { return impl_->phase == Impl::Phase::Denoise && !impl_->sampler.canStartBlock(); }

size_t Session::memoryBytes() const {
  return impl_->arena.bytes() + impl_->sampler.memoryBytes() + impl_->decoder->memoryBytes();
}

PromptChange Session::setPrompt(const Prompt& prompt, RecacheMode mode) {
  return impl_->call([&] { return impl_->setPrompt(prompt, mode); });
}

Step Session::step() {
  return impl_->call([&] { return impl_->step(); });
}

void Session::abandonBlock() {
  impl_->call([&] {
    if (impl_->phase == Impl::Phase::Context) refuse("abandonBlock is too late: the block's frames were returned already");
    impl_->dropStepAhead();
    impl_->sampler.abandon();
    impl_->phase = Impl::Phase::Denoise;
  });
}

std::vector<uint8_t> Session::checkpoint() const {
  return impl_->call([&] { return impl_->checkpoint(); });
}

std::vector<uint8_t> Session::lastRgb() const {
  return impl_->call([&] {
    std::vector<uint8_t> out(impl_->rgb.rows(0, impl_->rgbFrames).bytes());
    impl_->backend.downloadBytes(out.data(), impl_->rgb.rows(0, impl_->rgbFrames));
    return out;
  });
}

}  // namespace longlive
