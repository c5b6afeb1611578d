// Plans of memory: they say what a loaded model and its sessions then hold, and the full-size model fits its 16 GB.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string_view>

#include "harness.h"
#include "io/sha256.h"
#include "longlive/engine.h"
#include "probes.h"
#include "synthetic_package.h"

using namespace longlive;
using longlive::test::sanitized;
using longlive::test::SyntheticPackage;

namespace {

// A package whose files have headers and nothing behind them: holes, which read as zeros and take no space.
class HollowPackage {
 public:
  explicit HollowPackage(const std::string& config) {
    directory = (std::filesystem::temp_directory_path() / ("longlive-hollow-" + std::to_string(::getpid()))).string();
    std::filesystem::create_directories(directory);
    std::ofstream(directory + "/config.json") << config;
    configHash_ = sha256Hex({reinterpret_cast<const uint8_t*>(config.data()), config.size()});
  }
  ~HollowPackage() { std::filesystem::remove_all(directory); }

  void tensor(const std::string& name, const char* dtype, int64_t size, const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    std::string dims;
    for (int64_t n : shape) elements *= n, dims += (dims.empty() ? "" : ",") + std::to_string(n);
    header_ += (header_.empty() ? "" : ",") + ("\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + dims + "],\"data_offsets\":[" +
               std::to_string(at_) + "," + std::to_string(at_ + elements * size) + "]}");
    at_ += elements * size;
  }
  void half(const std::string& name, const std::vector<int64_t>& shape) { tensor(name, "BF16", 2, shape); }
  void linear(const std::string& name, int64_t out, int64_t in) { half(name + ".weight", {out, in}), half(name + ".bias", {out}); }
  void bytes(const std::string& name, int64_t out, int64_t in) {
    tensor(name + ".weight", "I8", 1, {out, in}), tensor(name + ".weight_scale", "F32", 4, {out});
  }

  void finish(const std::string& file) {
    std::string header = "{" + header_ + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const std::string path = directory + "/" + file;
    const uint64_t length = header.size();
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << header;
    if (::truncate(path.c_str(), static_cast<int64_t>(8 + length) + at_) != 0) throw std::runtime_error("cannot make " + path);
    header_.clear(), at_ = 0;
  }
  void manifest() const {
    std::string files;
    for (const auto& e : std::filesystem::directory_iterator(directory)) {
      const std::string name = e.path().filename().string();
      const std::string hash = name == "config.json" ? configHash_ : std::string(64, '0');  // planning reads no weights
      files += std::string(files.empty() ? "" : ",") + "\"" + name + "\":{\"bytes\":" + std::to_string(e.file_size()) +
               ",\"sha256\":\"" + hash + "\"}";
    }
    std::ofstream(directory + "/manifest.json") << R"({"formatVersion":1,"name":"hollow","version":"1","title":"t","description":"d","license":"l","createdAt":"2026-01-01T00:00:00Z","files":{)" << files << "}}";
  }

  std::string directory;

 private:
  std::string header_, configHash_;
  int64_t at_ = 0;
};

void textEncoder(HollowPackage& p) {
  p.half("token_embedding.weight", {256384, 4096});
  for (int i = 0; i < 24; ++i) {
    const std::string b = "blocks." + std::to_string(i) + ".";
    p.half(b + "norm1.weight", {4096}), p.half(b + "norm2.weight", {4096});
    for (const char* part : {"attn.q", "attn.k", "attn.v", "attn.o"}) p.bytes(b + part, 4096, 4096);
    p.bytes(b + "ffn.gate.0", 10240, 4096), p.bytes(b + "ffn.fc1", 10240, 4096), p.bytes(b + "ffn.fc2", 4096, 10240);
    p.half(b + "pos_embedding.embedding.weight", {32, 64});
  }
  p.half("norm.weight", {4096});
  p.finish("text_encoder.safetensors");
}

void dit(HollowPackage& p) {
  constexpr int64_t dim = 1536;
  p.half("patch_embedding.weight", {dim, 16, 1, 2, 2}), p.half("patch_embedding.bias", {dim});
  p.linear("text_embedding.0", dim, 4096), p.linear("text_embedding.2", dim, dim);
  p.linear("time_embedding.0", dim, 256), p.linear("time_embedding.2", dim, dim), p.linear("time_projection.1", 6 * dim, dim);
  for (int i = 0; i < 30; ++i) {
    const std::string b = "blocks." + std::to_string(i) + ".";
    p.half(b + "modulation", {1, 6, dim}), p.half(b + "norm3.weight", {dim}), p.half(b + "norm3.bias", {dim});
    for (const char* a : {"self_attn.", "cross_attn."}) {
      for (const char* part : {"q", "k", "v", "o"}) p.linear(b + a + part, dim, dim);
      for (const char* norm : {"norm_q.weight", "norm_k.weight"}) p.half(b + a + norm, {dim});
    }
    p.linear(b + "ffn.0", 8960, dim), p.linear(b + "ffn.2", dim, 8960);
  }
  p.half("head.modulation", {1, 2, dim}), p.linear("head.head", 64, dim);
  p.finish("dit.safetensors");
}

bool near(size_t got, double want, double tolerance) { return std::abs(static_cast<double>(got) - want) <= tolerance * want; }

}  // namespace

// What a model of a package and a session of it hold once the largest of everything has run.
void checkPlan(const LoadOptions& o, std::optional<RopeMode> rope = {}) {
  const SessionOptions s{.width = 64, .height = 48, .rope = rope};
  const MemoryPlan plan = planMemory(o, s);
  const auto model = Model::load(o);
  const auto session = model->createSession(s);
  CHECK(plan.session() == session->memoryBytes());
  const std::vector<int32_t> longest(static_cast<size_t>(model->maxPromptTokens()), 1);
  const auto prompt = model->encodePrompt(longest);
  session->setPrompt(*prompt, RecacheMode::Keep);
  try {
    while (session->block() < 4) session->step();
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::InvalidArgument);  // absolute positions end
  }
  session->setPrompt(*prompt, RecacheMode::Recache);
  CHECK(plan.working == ModelProbe::workingBytes(*model));
  CHECK(plan.reserve == 0);
}

void checkPlans(const SyntheticPackage& package) {
  LoadOptions o;
  o.directory = package.directory;
  for (Precision precision : {Precision::FP32, Precision::BF16, Precision::INT8}) {
    for (int threads : {1, 3}) {
      for (KvStorage kv : {KvStorage::Full, KvStorage::Int8}) {
        o.precision = precision, o.threads = threads, o.kv = kv;
        checkPlan(o);
      }
    }
    for (const char* isa : {"portable", "avx2", "avx512"}) {
      if (sanitized && isa == std::string_view("portable")) continue;  // minutes, for a count of bytes
      o.isa = isa, o.kv = KvStorage::Full;
      try {
        checkPlan(o);
      } catch (const Error& e) {
        CHECK(e.code() == ErrorCode::Unavailable);  // not of this processor
      }
    }
    o.isa.clear();
    CHECK(planMemory(o, {.width = 128, .height = 96}).session() > 3 * planMemory(o, {.width = 64, .height = 48}).session());
  }
}

TEST("memory plan: it is what a model and a session then hold, scratch of threads included, in every precision") {
  checkPlans(SyntheticPackage("plan"));
  checkPlans(SyntheticPackage("plan-bytes", [](ModelConfig& c) { c.vae.eightBit = true; }));
}

TEST("memory plan: it is told what a session has of its own, and where absolute positions end before the window is full") {
  LoadOptions o;
  o.threads = 1;
  for (RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
    const SyntheticPackage package("plan-rope", [&](ModelConfig& c) { c.sampling.rope = rope; });
    o.directory = package.directory;
    for (KvStorage kv : {KvStorage::Full, KvStorage::Int8}) {
      o.kv = kv;
      for (RopeMode own : {RopeMode::Absolute, RopeMode::Relative}) checkPlan(o, own);
    }
  }
  o.kv = KvStorage::Full;
  for (int64_t table : {1, 4, 5, 6}) {  // blocks of 2, a window of 6
    const SyntheticPackage package("plan-table", [&](ModelConfig& c) { c.dit.ropeTableLength = table; });
    o.directory = package.directory;
    checkPlan(o);
    o.device = DeviceKind::Cuda;
    CHECK(planMemory(o).session() > 0);
    o.device = DeviceKind::Cpu;
  }
}

TEST("memory plan: arithmetic that a device does not have is refused") {
  const SyntheticPackage package("plan-arithmetic");
  LoadOptions o;
  o.directory = package.directory, o.attention = AttentionArithmetic::Int8;
  for (Precision precision : {Precision::FP32, Precision::BF16}) {
    o.precision = precision, o.device = DeviceKind::Cpu;
    CHECK_THROWS(planMemory(o), Error);
    o.device = DeviceKind::Cuda;
    if (precision == Precision::FP32) CHECK_THROWS(planMemory(o), Error);
    else CHECK(planMemory(o).dit > 0 && planMemory(o).reserve > 0);
  }
}

TEST("memory plan: weights are no less than what a loaded model says, with a decoder that is most of them") {
  const SyntheticPackage package("plan-decoder", [](ModelConfig& c) { c.vae.dim = 16; });
  for (Precision precision : {Precision::FP32, Precision::BF16, Precision::INT8}) {
    LoadOptions o;
    o.directory = package.directory, o.precision = precision, o.threads = 1;
    const MemoryPlan plan = planMemory(o);
    const size_t weights = Model::load(o)->weightBytes();
    CHECK(plan.decoder > plan.dit && plan.dit > 0);
    // Beyond them: the schedule's conditioning, and what allocations are rounded up by.
    CHECK(plan.weights() >= weights && static_cast<double>(plan.weights()) < 1.02 * static_cast<double>(weights));
  }
}

TEST("memory plan: LongLive-1.3B with an 8-bit text encoder and the tiny decoder takes less than 16 GB of a GPU") {
  SyntheticPackage shape("plan-shape", [](ModelConfig& c) {
    c.vae.dim = 2;  // the decoder that is not loaded
  });
  ModelConfig full;
  full.vae.mean.assign(16, 0.0f), full.vae.std.assign(16, 1.0f);
  full.sampling.rope = RopeMode::Relative;  // the mode that takes more
  shape.config = full;
  std::string config = shape.configText();
  config.insert(config.find(",\"sampling\""), R"(,"tinyVae":{"channels":[256,128,64,64]})");
  HollowPackage package(config);
  textEncoder(package), dit(package);
  SyntheticWeights tiny(3);
  syntheticTinyDecoder(tiny, TinyVaeConfig{});
  const SafeTensors decoder = tiny.file();
  const auto bytes = writeSafeTensors(decoder.entries(), {});
  std::ofstream(package.directory + "/tiny_vae.safetensors", std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<int64_t>(bytes.size()));
  std::ofstream(package.directory + "/tokenizer.json") << "{}";
  package.manifest();

  LoadOptions o;
  o.directory = package.directory, o.device = DeviceKind::Cuda, o.tinyDecoder = true;
  const MemoryPlan p = planMemory(o);
  // By hand: 30 layers of keys and values, 12 frames of 1560 tokens of 1536 bf16; and the parameters of the networks.
  CHECK(p.keysAndValues == size_t{30} * 2 * 12 * 1560 * 1536 * 2);
  CHECK(near(p.dit, 1.419e9 * 2, 0.02));
  const double linear = 24.0 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 10240), table = 256384.0 * 4096;
  CHECK(near(p.textEncoder, linear + 2 * table, 0.01));
  CHECK(p.total() < size_t{16} * 1000 * 1000 * 1000);
  std::printf("  %.2f GB: text %.2f, DiT %.2f, decoder %.3f, keys and values %.2f, activations %.2f, decoding %.2f, pictures %.3f, working %.2f, reserve %.2f\n",
              static_cast<double>(p.total()) * 1e-9, static_cast<double>(p.textEncoder) * 1e-9, static_cast<double>(p.dit) * 1e-9,
              static_cast<double>(p.decoder) * 1e-9, static_cast<double>(p.keysAndValues) * 1e-9, static_cast<double>(p.activations) * 1e-9,
              static_cast<double>(p.decoding) * 1e-9, static_cast<double>(p.pictures) * 1e-9, static_cast<double>(p.working) * 1e-9,
              static_cast<double>(p.reserve) * 1e-9);
  o.precision = Precision::INT8;
  CHECK(planMemory(o).dit < p.dit * 6 / 10);
  o.tinyDecoder = false;
  CHECK_THROWS(planMemory(o), Error);  // there is no vae.safetensors
}
