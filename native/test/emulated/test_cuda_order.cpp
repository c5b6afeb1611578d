// Whole sessions on the emulated GPU: graphs give the bits of single launches, lanes the bits of one, whatever the order in
// which streams run; and a device that fails says so.
#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <thread>
#include <utility>

#include "../harness.h"
#include "../probes.h"
#include "../synthetic_package.h"
#include "io/safetensors.h"
#include "longlive/engine.h"
#include "ops/cuda/cuda_backend.h"
#include "ops/cuda/features.h"
#include "ops/cuda/launch.h"
#include "ops/ops.h"

using namespace longlive;
using longlive::test::SyntheticPackage;

namespace {

using Bytes = std::vector<uint8_t>;

// Small enough for an emulator; the ring turns three times.
const SyntheticPackage& package(RopeMode rope) {
  static const auto make = [](const char* name, RopeMode mode) {
    return SyntheticPackage(name, [mode](ModelConfig& c) {
      c.dit.dim = 32, c.dit.ffnDim = 48, c.dit.numHeads = 1, c.dit.numLayers = 2, c.vae.dim = 2;
      c.sampling.windowFrames = 4, c.sampling.sinkFrames = 1, c.sampling.framesPerBlock = 1;
      c.sampling.denoisingSteps = {1000, 500}, c.sampling.rope = mode, c.dit.ropeTableLength = 18;
    });
  };
  static const SyntheticPackage absolute = make("order-absolute", RopeMode::Absolute), relative = make("order-relative", RopeMode::Relative);
  return rope == RopeMode::Absolute ? absolute : relative;
}

LoadOptions optionsFor(RopeMode rope, const char* isa, bool eightBit, int deviceIndex = 0) {
  LoadOptions o;
  o.deviceIndex = deviceIndex;
  o.directory = package(rope).directory, o.device = DeviceKind::Cuda, o.precision = eightBit ? Precision::INT8 : Precision::BF16, o.isa = isa;
  if (eightBit) o.attention = AttentionArithmetic::Int8;
  return o;
}

std::shared_ptr<Model> load(RopeMode rope, const char* isa, bool eightBit = false, int deviceIndex = 0) {
  return Model::load(optionsFor(rope, isa, eightBit, deviceIndex));
}

std::unique_ptr<Session> start(Model& model) {
  SessionOptions o;
  o.seed = 5, o.width = o.height = 16;
  auto s = model.createSession(o);
  s->setPrompt(*model.encodePrompt(std::vector<int32_t>{3, 4, 1}), RecacheMode::Recache);
  return s;
}

void append(Bytes& all, const Step& step) {
  if (step.kind == Step::Kind::Frames) all.insert(all.end(), step.frames.i420.begin(), step.frames.i420.end());
}

void blocks(Session& s, int count, Bytes& all) {
  for (int i = 0; i < count;) {
    const Step step = s.step();
    append(all, step);
    if (step.kind == Step::Kind::Context) ++i;
  }
}

// Blocks until the ring has turned, an abandoned block, and every kind of prompt change, with texts of several lengths.
Bytes video(RopeMode rope, const char* isa, bool eightBit = false) {
  const auto model = load(rope, isa, eightBit);
  const auto s = start(*model);
  Bytes all;
  blocks(*s, 8, all);
  s->setPrompt(*model->encodePrompt(std::vector<int32_t>{7, 8, 9, 10, 1}), RecacheMode::Recache);
  blocks(*s, 4, all);
  s->step();
  s->abandonBlock();
  s->setPrompt(*model->encodePrompt(std::vector<int32_t>{11, 1}), RecacheMode::Keep);
  blocks(*s, 2, all);
  const Bytes kept = s->checkpoint();
  s->setPrompt(*model->encodePrompt(std::vector<int32_t>{11, 12, 1}), RecacheMode::Recache);
  blocks(*s, 1, all);
  all.insert(all.end(), kept.begin(), kept.end());
  return all;
}

ErrorCode codeOf(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return ErrorCode::Cancelled;  // nothing was thrown
}

}  // namespace

TEST("cuda: graphs and lanes change no bit, in whatever order streams run") {
  for (RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
    const Bytes want = video(rope, "portable,eager,one-lane");
    CHECK(want.size() > 10000);
    const auto before = emulator::counts();
    CHECK(video(rope, "portable") == want);
    const auto after = emulator::counts();
    CHECK(after.graphLaunches - before.graphLaunches > 20);
    CHECK(after.updates > before.updates);  // texts of another length: the same graphs with other arguments
    emulator::lateStreams(true);
    CHECK(video(rope, "portable") == want);
    if (rope == RopeMode::Relative) CHECK(video(rope, "portable,eager") == want);
    emulator::jealousStreams(true);
    CHECK(video(rope, "portable") == want);
    if (rope == RopeMode::Relative) CHECK(video(rope, "portable,in-turn") == want);
    emulator::jealousStreams(false);
  }
}

// As on a machine with two: threads come with any device current, which here is the other one before every call.
TEST("cuda: a model lives on the device that it is loaded on, and on no other, whatever device is current") {
  emulator::setDevices(2);
  const auto video = [](int device, const char* isa) {
    const auto elsewhere = [device] { cudaSetDevice(1 - device); };
    elsewhere();
    const auto model = load(RopeMode::Relative, isa, false, device);
    const size_t other = emulator::memoryUsedOf(1 - device);
    CHECK(other == 0 && emulator::memoryUsedOf(device) > 0);
    elsewhere();
    const auto s = start(*model);
    Bytes all;
    for (int i = 0; i < 6;) {
      elsewhere();
      const Step step = s->step();
      append(all, step);
      i += step.kind == Step::Kind::Context;
    }
    elsewhere();
    s->setPrompt(*model->encodePrompt(std::vector<int32_t>{7, 8, 1}), RecacheMode::Recache);
    elsewhere();
    s->step();
    elsewhere();
    s->abandonBlock();
    elsewhere();
    const Bytes kept = s->checkpoint();
    all.insert(all.end(), kept.begin(), kept.end());
    CHECK(emulator::memoryUsedOf(1 - device) == 0);
    elsewhere();
    return all;
  };
  const Bytes want = video(0, "portable");
  CHECK(want.size() > 5000 && video(1, "portable") == want && video(1, "portable,one-lane,eager") == want);
  CHECK(emulator::memoryUsedOf(0) == 0 && emulator::memoryUsedOf(1) == 0);
  for (int wrong : {-1, 2}) CHECK(codeOf([&] { load(RopeMode::Relative, "portable", false, wrong); }) == ErrorCode::InvalidArgument);
  LoadOptions cpu = optionsFor(RopeMode::Relative, "", false, 1);
  cpu.device = DeviceKind::Cpu;
  CHECK(codeOf([&] { Model::load(cpu); }) == ErrorCode::InvalidArgument);
  const auto devices = listDevices();
  CHECK(devices.size() == 3 && devices[1].index == 0 && devices[2].index == 1 && devices[2].available);
  cudaSetDevice(0), emulator::setDevices(1);
  CHECK(listDevices().size() == 2);
}

TEST("cuda: what is asked once is asked of each device") {
  emulator::setDevices(2);
  cuda::PerDevice cached;
  std::vector<int> asked;
  const auto ask = [&] { return cached([&](int device) { return asked.push_back(device), 10 * device; }); };
  CHECK(ask() == 0 && ask() == 0);
  cudaSetDevice(1);
  CHECK(ask() == 10 && ask() == 10);
  cudaSetDevice(0);
  CHECK(ask() == 0 && asked == std::vector<int>({0, 1}));
  emulator::setDevices(1);
}

TEST("cuda: work that the driver refuses to record is counted, and its bits are the same") {
  const auto video = [](Model& model) {
    const auto s = start(model);
    Bytes all;
    blocks(*s, 5, all);
    return all;
  };
  const auto good = load(RopeMode::Relative, "portable");
  const Bytes want = video(*good);
  CHECK(good->refusedRecordings() == 0 && listDevices()[1].refusedRecordings == 0);
  emulator::refuseCaptures(true);
  const auto refused = load(RopeMode::Relative, "portable");
  CHECK(video(*refused) == want && refused->refusedRecordings() > 0);
  const int64_t before = refused->refusedRecordings(), captures = emulator::counts().captures;
  CHECK(video(*refused) == want && refused->refusedRecordings() > before);  // another session has work of its own
  CHECK(emulator::counts().captures - captures == refused->refusedRecordings() - before);  // none is tried twice
  CHECK(listDevices()[1].refusedRecordings == 1 && listDevices()[1].available);
  emulator::refuseCaptures(false);
}

// As in the addon: sessions are made, saved and closed on one thread while others make blocks and read prompts on another.
TEST("cuda: a session's bits do not depend on what another thread does with the model's other sessions") {
  const auto model = load(RopeMode::Relative, "portable");
  const auto alone = start(*model);
  Bytes want, got;
  blocks(*alone, 10, want);
  const Bytes saved = alone->checkpoint();
  const auto busy = start(*model);
  bool same = true;
  std::atomic<bool> finished = false;
  std::thread worker([&] {
    blocks(*busy, 5, got);
    model->encodePrompt(std::vector<int32_t>{7, 8, 1});
    blocks(*busy, 5, got);
    finished = true;
  });
  while (!finished) {
    SessionOptions o;
    o.width = o.height = 16;
    model->createSession(o);
    same = same && alone->checkpoint() == saved;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  worker.join();
  CHECK(same);
  CHECK(got == want);
}

TEST("cuda: texts are encoded beside a session's steps, and neither changes the other's bits") {
  const std::vector<int32_t> text = {7, 8, 9, 1};
  for (const char* isa : {"portable", "portable,one-lane"}) {
    const auto model = load(RopeMode::Relative, isa);
    const std::vector<float> embeddings = model->encodePrompt(text)->embeddings;
    const auto alone = start(*model), busy = start(*model);
    Bytes want, got;
    blocks(*alone, 10, want);
    std::atomic<bool> finished = false;
    int texts = 0, wrong = 0;
    std::thread reader([&] {
      for (; !finished || texts == 0; ++texts) wrong += model->encodePrompt(text)->embeddings != embeddings;
    });
    blocks(*busy, 5, got);
    busy->setPrompt(*model->encodePrompt(std::vector<int32_t>{3, 4, 1}), RecacheMode::Keep);
    blocks(*busy, 5, got);
    finished = true;
    reader.join();
    CHECK(got == want);
    CHECK(texts > 0 && wrong == 0);
  }
}

TEST("cuda: 8-bit arithmetic gives the same bits with graphs, lanes and any order of streams") {
  const Bytes want = video(RopeMode::Relative, "portable,eager,one-lane", true);
  emulator::jealousStreams(true);
  CHECK(video(RopeMode::Relative, "portable", true) == want);
  emulator::jealousStreams(false);
}

// Clean latents after three blocks, which have gone on from their own past: fp8 rounds every number by 2.6 % on average.
TEST("cuda: sessions in fp8, on a chip that has it") {
  LoadOptions o = optionsFor(RopeMode::Relative, "portable", true);
  o.precision = Precision::FP8;
  CHECK(codeOf([&] { Model::load(o); }) == ErrorCode::InvalidArgument);
  const auto latents = [&] {
    const auto model = Model::load(o);
    const auto s = start(*model);
    Bytes frames;
    blocks(*s, 3, frames);
    const Bytes checkpoint = s->checkpoint();
    const SafeTensors kept = SafeTensors::parse(checkpoint, "checkpoint");
    const Tensor& t = kept.at("latents.window");
    return std::vector<float>(t.as<float>(), t.as<float>() + t.elements());
  };
  const emulator::Capability before = std::exchange(emulator::capability, {8, 9});
  const std::vector<float> fp8 = latents();
  o.precision = Precision::BF16, o.attention = AttentionArithmetic::Full;
  const std::vector<float> bf16 = latents();
  emulator::capability = before;
  double error = 0, size = 0;
  for (size_t i = 0; i < bf16.size(); ++i) error += std::pow(fp8[i] - bf16[i], 2), size += std::pow(bf16[i], 2);
  const double relative = std::sqrt(error / size);
  if (!(relative > 0.002 && relative < 0.1)) std::fprintf(stderr, "fp8 against bf16: %g\n", relative);
  CHECK(fp8.size() == bf16.size() && relative > 0.002 && relative < 0.1);
}

// The first step of block n + 1 is given to the device before the frames of block n are waited for, and reported in its turn.
TEST("cuda: decoding runs beside the next block's first step") {
  const auto model = load(RopeMode::Relative, "portable,eager");
  const auto s = start(*model);
  const auto launches = [&](Step::Kind kind, int64_t block, int64_t step) {
    const int64_t before = emulator::counts().launches;
    const Step done = s->step();
    CHECK(done.kind == kind && done.block == block && done.step == step);
    return emulator::counts().launches - before;
  };
  for (int64_t block = 0; block < 3; ++block) {
    const int64_t first = launches(Step::Kind::Denoise, block, 0), second = launches(Step::Kind::Denoise, block, 1);
    CHECK(second > 0 && (block == 0 ? first > 0 : first == 0));
    CHECK(launches(Step::Kind::Frames, block, 0) > 2 * second);  // context pass, pictures, a step
    CHECK(launches(Step::Kind::Context, block, 0) == 0);
  }
  // It is no obstacle to what is done between blocks, and is taken again under the new prompt.
  CHECK(!s->checkpoint().empty());
  s->setPrompt(*model->encodePrompt(std::vector<int32_t>{5, 1}), RecacheMode::Keep);
  CHECK(launches(Step::Kind::Denoise, 3, 0) > 0);
  CHECK_THROWS(s->checkpoint(), Error);
  CHECK_THROWS(s->setPrompt(*model->encodePrompt(std::vector<int32_t>{5, 1}), RecacheMode::Keep), Error);
}

TEST("cuda: no step is taken ahead where positions end") {
  const auto model = load(RopeMode::Absolute, "portable");
  const auto s = start(*model);
  Bytes frames;
  blocks(*s, static_cast<int>(package(RopeMode::Absolute).config.dit.ropeTableLength), frames);
  CHECK(codeOf([&] { s->step(); }) == ErrorCode::InvalidArgument);
  s->setPrompt(*model->encodePrompt(std::vector<int32_t>{5, 1}), RecacheMode::Clear);
  blocks(*s, 1, frames);
}

TEST("cuda: two turns of the ring make all the graphs there are") {
  for (RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
    const auto model = load(rope, "portable");
    const auto s = start(*model);
    Bytes frames;
    blocks(*s, 4 + 2 * 3, frames);
    const auto before = emulator::counts();
    blocks(*s, 4, frames);
    const auto after = emulator::counts();
    CHECK(after.instantiations == before.instantiations && after.captures == before.captures);
    // Two steps, the context pass and the pictures of each block.
    CHECK(after.graphLaunches - before.graphLaunches == 4 * 4);
  }
}

// A fault is noticed at the latest when frames are due; after it the device does nothing any more.
TEST("cuda: a fault of the device ends the session with an error that names it") {
  for (cudaError_t fault : {cudaErrorIllegalAddress, cudaErrorECCUncorrectable}) {
    for (bool late : {false, true}) {
      const auto model = load(RopeMode::Relative, "portable");
      const auto s = start(*model);
      emulator::lateStreams(late);
      emulator::failLaunch(50, fault);
      std::string message;
      const ErrorCode code = codeOf([&] {
        try {
          for (int i = 0; i < 4; ++i) s->step();
        } catch (const Error& e) {
          message = e.what();
          throw;
        }
      });
      CHECK(code == ErrorCode::DeviceFault);
      CHECK(message.find(cudaGetErrorName(fault)) != std::string::npos);
      CHECK(codeOf([&] { s->step(); }) == ErrorCode::DeviceFault);
      CHECK(codeOf([&] { start(*model); }) == ErrorCode::DeviceFault);
      emulator::failLaunch(0);
      emulator::lateStreams(false);
    }
  }
}

TEST("cuda: a session that does not fit is refused, and the others go on") {
  const auto model = load(RopeMode::Relative, "portable");
  const auto s = start(*model);
  emulator::limitMemory(emulator::memoryUsed() + (64 << 10));
  CHECK(codeOf([&] { start(*model); }) == ErrorCode::OutOfMemory);
  Bytes frames;
  blocks(*s, 2, frames);
  emulator::limitMemory(0);
  CHECK(start(*model) != nullptr);
}

TEST("cuda: a call that the device refuses is an error of that session, not a fault of the device") {
  const auto model = load(RopeMode::Relative, "portable");
  const auto s = start(*model), other = start(*model);
  emulator::failLaunch(5, cudaErrorInvalidValue);
  const ErrorCode code = codeOf([&] {
    for (int i = 0; i < 4; ++i) s->step();
  });
  emulator::failLaunch(0);
  CHECK(code == ErrorCode::Internal);
  CHECK(codeOf([&] { s->step(); }) == ErrorCode::Internal);
  Bytes frames;
  blocks(*other, 1, frames);
  CHECK(!frames.empty());
}

TEST("cuda: a backend that cannot be made for want of memory gives back what it had") {
  const size_t before = emulator::memoryUsed();
  size_t refusals = 0;
  for (size_t room = 0;; room += size_t{1} << 20) {
    emulator::limitMemory(before + room + 1);
    ErrorCode code = ErrorCode::Cancelled;
    try {
      cuda::CudaBackend backend(BackendOptions{});
    } catch (const Error& e) {
      code = e.code();
      ++refusals;
    }
    CHECK(emulator::memoryUsed() == before);
    if (code == ErrorCode::Cancelled) break;
    CHECK(code == ErrorCode::OutOfMemory);
  }
  emulator::limitMemory(0);
  CHECK(refusals > 3);
}

TEST("cuda: switches are named, and unknown ones refused") {
  using cuda::Features;
  CHECK(Features::parse("").graphs && Features::parse("").lanes && !Features::parse("").portable);
  const Features f = Features::parse("plain,eager,one-lane");
  CHECK(f.plain && f.portable && !f.graphs && !f.lanes);
  CHECK_THROWS(Features::parse("portable,avx2"), Error);
}

TEST("cuda: the plan is what the device then holds") {
  for (bool eightBit : {false, true}) {
    const MemoryPlan plan = planMemory(optionsFor(RopeMode::Relative, "portable", eightBit), {.width = 16, .height = 16});
    const size_t before = emulator::memoryUsed();
    const auto model = load(RopeMode::Relative, "portable", eightBit);
    const auto s = start(*model);
    Bytes frames;
    blocks(*s, 6, frames);
    s->setPrompt(*model->encodePrompt(std::vector<int32_t>(static_cast<size_t>(model->maxPromptTokens()), 7)), RecacheMode::Recache);
    // In 8 bits as if the chip had fp8, which takes more.
    CHECK(eightBit ? plan.working >= ModelProbe::workingBytes(*model) : plan.working == ModelProbe::workingBytes(*model));
    const double held = static_cast<double>(emulator::memoryUsed() - before);
    const double planned = static_cast<double>(plan.total() - plan.reserve);
    CHECK(held <= planned && held > 0.98 * planned);
  }
}

TEST("cuda: a model that does not fit says what would") {
  SyntheticPackage package("fits", [](ModelConfig& c) { c.dit.dim = 128, c.dit.ffnDim = 256, c.vae.dim = 8; });
  std::string config = package.configText();
  config.insert(config.find(",\"sampling\""), R"(,"tinyVae":{"channels":[8,8,4,4]})");
  package.writeText("config.json", config);
  TinyVaeConfig c;
  c.channels = {8, 8, 4, 4};
  SyntheticWeights tinyWeights(3);
  syntheticTinyDecoder(tinyWeights, c);
  const SafeTensors tinyFile = tinyWeights.file();
  package.write("tiny_vae.safetensors", writeSafeTensors(tinyFile.entries(), {}));
  package.writeManifest();

  const auto options = [&](bool tinyDecoder, Precision precision) {
    LoadOptions o;
    o.directory = package.directory, o.device = DeviceKind::Cuda, o.isa = "portable", o.tinyDecoder = tinyDecoder, o.precision = precision;
    return o;
  };
  const auto planned = [&](bool tinyDecoder, Precision precision) { return planMemory(options(tinyDecoder, precision)).total(); };
  const size_t full = planned(false, Precision::BF16), eight = planned(false, Precision::INT8);
  const size_t tiny = planned(true, Precision::BF16), both = planned(true, Precision::INT8);
  CHECK(both < tiny && tiny < eight && eight < full);

  const size_t before = emulator::memoryUsed();
  // What is said when a model is loaded that finds so much room: the plan counts the backend's staging, which is there by then.
  const auto refusal = [&](const LoadOptions& o, size_t room) {
    emulator::limitMemory(before + room);
    std::string message;
    try {
      Model::load(o);
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::OutOfMemory);
      message = e.what();
    }
    emulator::limitMemory(0);
    return message;
  };
  const auto says = [&](const LoadOptions& o, size_t room, const std::string& end) {
    const std::string message = refusal(o, room);
    const bool said = message.starts_with(package.directory + " needs 0.6 GB (weights 0.0 GB, ") && message.ends_with(", but the device has only 0.6 GB free" + end);
    if (!said) std::fprintf(stderr, "%s\n", message.c_str());
    return said;
  };
  const LoadOptions usual = options(false, Precision::BF16);
  CHECK(refusal(usual, full).empty());
  CHECK(says(usual, full - 1, ". What fits: decoder \"tiny\" (0.6 GB), precision \"int8\" (0.6 GB), both (0.6 GB)"));
  CHECK(says(usual, eight - 1, ". What fits: decoder \"tiny\" (0.6 GB), both (0.6 GB)"));
  CHECK(says(usual, tiny - 1, ". What fits: both (0.6 GB)"));
  const std::string nothing = "; a package with an 8-bit text encoder (longlive import) or a smaller window takes less";
  CHECK(says(usual, both - 1, nothing));
  CHECK(says(options(true, Precision::BF16), tiny - 1, ". What fits: precision \"int8\" (0.6 GB)"));
  CHECK(says(options(false, Precision::INT8), eight - 1, ". What fits: decoder \"tiny\" (0.6 GB)"));
  CHECK(says(options(true, Precision::INT8), both - 1, nothing));
}
