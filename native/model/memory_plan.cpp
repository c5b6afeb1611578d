// How much memory a package takes, and whether that is there.
#include <cstdio>

#include "ops/planning.h"
#include "session.h"

namespace longlive {

namespace {

constexpr size_t kReserve = size_t{512} << 20;

std::string gigabytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GB", static_cast<double>(bytes) * 1e-9);
  return text;
}

std::string describe(const MemoryPlan& p) {
  return gigabytes(p.total()) + " (weights " + gigabytes(p.weights()) + ", keys and values " + gigabytes(p.keysAndValues) + ", decoder " +
         gigabytes(p.decoding) + ", everything else " + gigabytes(p.activations + p.pictures + p.working + p.reserve) + ")";
}

}  // namespace

void requireDecoder(const LoadOptions& options, const Package& package) {
  if (options.tinyDecoder && !package.config().tinyVae) {
    throw Error(ErrorCode::InvalidArgument, options.directory + " has no tiny decoder: load it with decoder \"full\"");
  }
}

MemoryPlan planMemory(const LoadOptions& options, int64_t width, int64_t height) {
  const Package package = Package::open(options.directory);
  requireDecoder(options, package);
  return Model::planOf(package, options, width, height);
}

MemoryPlan Model::planOf(const Package& package, const LoadOptions& options, int64_t width, int64_t height) {
  const bool cuda = options.device == DeviceKind::Cuda;
  auto memory = (cuda ? cudaMemory : cpuMemory)(backendOptions(options));  // refuses arithmetic that such a device does not have
  auto counting = std::make_unique<PlanningBackend>(cuda ? "cuda" : "cpu", std::move(memory));
  const PlanningBackend& backend = *counting;
  const std::shared_ptr<Model> model(new Model(std::make_unique<Impl>(package, options, std::move(counting))));
  Impl& parts = *model->impl_;
  MemoryPlan plan;
  plan.textEncoder = parts.textEncoder->weightBytes(), plan.decoder = parts.decoder->weightBytes();
  plan.dit = backend.highest() - plan.textEncoder - plan.decoder - parts.textEncoder->workspaceBytes();

  SessionOptions o;
  o.width = width ? width : parts.config.video.width, o.height = height ? height : parts.config.video.height;
  Session::Impl session(model, parts, o);
  plan.keysAndValues = session.sampler.cache().store().bytes();
  plan.activations = session.sampler.memoryBytes() - plan.keysAndValues;
  plan.decoding = session.decoder->memoryBytes(), plan.pictures = session.arena.bytes();

  // Scratch depends on what runs: a text, blocks, the largest recache.
  Prompt text;
  text.tokens = parts.config.dit.textLen;
  text.embeddings.resize(static_cast<size_t>(text.tokens * parts.config.dit.textDim));
  {
    const LaneScope lane(*parts.backend, Lane::Text);
    const std::vector<int32_t> anything(static_cast<size_t>(text.tokens), 0);
    parts.textEncoder->encode(anything, text.tokens);
  }
  session.setPrompt(text, RecacheMode::Keep);
  while (session.sampler.remembered() < session.sampler.cache().geometry().capacity || session.phase != Session::Impl::Phase::Denoise) session.step();
  session.setPrompt(text, RecacheMode::Recache);
  plan.working = backend.working() + parts.textEncoder->workspaceBytes();
  plan.reserve = cuda ? kReserve : 0;
  return plan;
}

void Model::requireRoom(const Package& package, const LoadOptions& options, const Backend& backend) {
  const DeviceInfo device = backend.info();
  if (device.freeMemory == 0) return;  // nobody can say
  const size_t room = static_cast<size_t>(device.freeMemory) + device.working;  // the backend has its staging and workspaces already, which plans count
  const auto planned = [&](const LoadOptions& o) { return planOf(package, o, 0, 0); };
  const MemoryPlan plan = planned(options);
  if (plan.total() <= room) return;
  std::string fitting;
  const auto consider = [&](LoadOptions o, const std::string& what) {
    const size_t bytes = planned(o).total();
    if (bytes <= room) fitting += (fitting.empty() ? ". What fits: " : ", ") + what + " (" + gigabytes(bytes) + ")";
  };
  LoadOptions other = options;
  other.tinyDecoder = true;
  if (!options.tinyDecoder && package.config().tinyVae) consider(other, "decoder \"tiny\"");
  other = options, other.precision = Precision::INT8;
  if (!isEightBit(options.precision)) consider(other, "precision \"int8\"");
  other.tinyDecoder = true;
  if (!isEightBit(options.precision) && !options.tinyDecoder && package.config().tinyVae) consider(other, "both");
  if (fitting.empty()) fitting = "; a package with an 8-bit text encoder (longlive import) or a smaller window takes less";
  throw Error(ErrorCode::OutOfMemory, options.directory + " needs " + describe(plan) + ", but the GPU has only " + gigabytes(room) + " free" + fitting);
}

}  // namespace longlive
