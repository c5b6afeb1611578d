// How much memory a package takes, and whether that is there.
#include <cstdio>

#include "devices.h"
#include "ops/planning.h"
#include "session.h"

namespace longlive {

namespace {

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

MemoryPlan planMemory(const LoadOptions& options, const SessionOptions& session) {
  const Package package = Package::open(options.directory);
  requireDecoder(options, package);
  return Model::planOf(package, options, session);
}

MemoryPlan Model::planOf(const Package& package, const LoadOptions& options, SessionOptions o) {
  auto counting = std::make_unique<PlanningBackend>(backendMemory(options));
  const PlanningBackend& backend = *counting;
  const std::shared_ptr<Model> model(new Model(std::make_unique<Impl>(package, options, std::move(counting))));
  Impl& parts = *model->impl_;
  MemoryPlan plan;
  plan.textEncoder = parts.textEncoder->weightBytes(), plan.decoder = parts.decoder->weightBytes();
  plan.dit = backend.highest() - plan.textEncoder - plan.decoder - parts.textEncoder->workspaceBytes();

  if (o.width == 0) o.width = parts.config.video.width;
  if (o.height == 0) o.height = parts.config.video.height;
  Session::Impl session(model, parts, o);
  plan.keysAndValues = session.sampler.cache().store().bytes();
  plan.activations = session.sampler.memoryBytes() - plan.keysAndValues;
  plan.decoding = session.decoder->memoryBytes(), plan.pictures = session.arena.bytes();

  // Scratch depends on what runs: a text, blocks, the largest recache. Absolute positions may end before the window is full.
  Prompt text;
  text.tokens = parts.config.dit.textLen;
  text.embeddings.resize(static_cast<size_t>(text.tokens * parts.config.dit.textDim));
  {
    const LaneScope lane(*parts.backend, Lane::Text);
    const std::vector<int32_t> anything(static_cast<size_t>(text.tokens), 0);
    parts.textEncoder->encode(anything, text.tokens);
  }
  session.setPrompt(text, RecacheMode::Keep);
  const auto grows = [&] { return session.sampler.remembered() < session.sampler.cache().geometry().capacity && session.sampler.canStartBlock(); };
  while (session.phase != Session::Impl::Phase::Denoise || grows()) session.step();
  session.setPrompt(text, RecacheMode::Recache);
  plan.working = backend.working() + parts.textEncoder->workspaceBytes();
  plan.reserve = backend.memory().reserve();
  return plan;
}

void Model::requireRoom(const Package& package, const LoadOptions& options, const Backend& backend) {
  const DeviceInfo device = backend.info();
  if (device.freeMemory == 0) return;  // nobody can say
  const size_t room = static_cast<size_t>(device.freeMemory) + device.working;  // the backend has its staging and workspaces already, which plans count
  const auto planned = [&](const LoadOptions& o) { return planOf(package, o, {}); };
  const MemoryPlan plan = planned(options);
  if (plan.total() <= room) return;
  std::string fitting;
  const auto consider = [&](LoadOptions o, const std::string& what) {
    size_t bytes = 0;
    try {
      bytes = planned(o).total();
    } catch (const Error& e) {
      if (e.code() != ErrorCode::InvalidArgument) throw;
      return;  // not every backend has every precision
    }
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
  throw Error(ErrorCode::OutOfMemory, options.directory + " needs " + describe(plan) + ", but the device has only " + gigabytes(room) + " free" + fitting);
}

}  // namespace longlive
