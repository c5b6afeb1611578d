// One continuous generation: noise, denoising, decoding, the context pass, prompt switches, checkpoints.
#include "session.h"

#include <chrono>
#include <functional>
#include <map>

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
  constexpr int64_t step = 2 * kStride, most = 4096;
  if (o.width < step || o.height < step || o.width > most || o.height > most || o.width % step || o.height % step) {
    refuse("width and height must be multiples of 16 between 16 and 4096, got " + std::to_string(o.width) + " x " +
           std::to_string(o.height));
  }
  return {o.height / kStride, o.width / kStride};
}

int64_t firstFrameOf(int64_t latentFrame) { return latentFrame == 0 ? 0 : 1 + kFramesPerLatent * (latentFrame - 1); }

int64_t counter(const SafeTensors& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  const bool digits = it != file.metadata().end() && !it->second.empty() && it->second.size() < 18 &&
                      it->second.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) throw Error(ErrorCode::InvalidPackage, "checkpoint: metadata \"" + key + "\" is missing or not a number");
  return std::stoll(it->second);
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

void Session::Impl::upload(const Prompt& prompt) {
  backend.upload(embeddings.rows(0, static_cast<int64_t>(prompt.embeddings.size()) / embeddings.shape[1]), prompt.embeddings.data());
}

PromptChange Session::Impl::setPrompt(const Prompt& prompt, RecacheMode mode) {
  requireBetweenBlocks("setPrompt");
  const Stopwatch watch;
  dropStepAhead();
  upload(prompt);
  const int64_t rows = static_cast<int64_t>(prompt.embeddings.size()) / embeddings.shape[1];
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
    throw Error(ErrorCode::InvalidPackage, "checkpoint: not a checkpoint of this version");
  }
  WeightReader reader(file);
  const int64_t channels = parts.dit->config().inDim, h = options.height / kStride, w = options.width / kStride;
  const auto read = [&](const char* name) {
    const Shape shape = reader.shape(name);
    if (shape.rank != 4 || !(shape == Shape{shape[0], channels, h, w})) {
      refuse(std::string("the checkpoint's ") + name + " do not have the session's size");
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

int64_t Session::block() const { return impl_->block; }
int64_t Session::width() const { return impl_->options.width; }
int64_t Session::height() const { return impl_->options.height; }

size_t Session::memoryBytes() const {
  return impl_->arena.bytes() + impl_->sampler.memoryBytes() + impl_->decoder->memoryBytes();
}

PromptChange Session::setPrompt(const Prompt& prompt, RecacheMode mode) {
  const auto claim = impl_->parts.claim();
  return impl_->setPrompt(prompt, mode);
}

Step Session::step() {
  const auto claim = impl_->parts.claim();
  return impl_->step();
}

void Session::abandonBlock() {
  const auto claim = impl_->parts.claim();
  if (impl_->phase == Impl::Phase::Context) refuse("abandonBlock is too late: the block's frames were returned already");
  impl_->dropStepAhead();
  impl_->sampler.abandon();
  impl_->phase = Impl::Phase::Denoise;
}

std::vector<uint8_t> Session::checkpoint() const {
  const auto claim = impl_->parts.claim();
  return impl_->checkpoint();
}

std::vector<uint8_t> Session::lastRgb() const {
  const auto claim = impl_->parts.claim();
  std::vector<uint8_t> out(impl_->rgb.rows(0, impl_->rgbFrames).bytes());
  impl_->backend.downloadBytes(out.data(), impl_->rgb.rows(0, impl_->rgbFrames));
  return out;
}

}  // namespace longlive
