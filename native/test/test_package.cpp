// Packages with something wrong: refused with a sentence that names it.
#include <cmath>
#include <cstring>
#include <deque>

#include "harness.h"
#include "longlive/engine.h"
#include "synthetic_package.h"

using namespace longlive;
using longlive::test::SyntheticPackage;

namespace {

std::string refusal(const SyntheticPackage& p) {
  try {
    LoadOptions o;
    o.directory = p.directory, o.precision = Precision::FP32, o.threads = 1;
    Model::load(o);
    return "";
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::InvalidPackage);
    return e.what();
  }
}

bool has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  std::fprintf(stderr, "  message: %s\n", text.c_str());
  return false;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  CHECK(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void withConfig(const SyntheticPackage& p, const std::string& from, const std::string& to) {
  p.writeText("config.json", replaced(p.configText(), from, to));
  p.writeManifest();
}

// The package with the matrices of one file quantized as `longlive quantize` does it.
void quantize(const SyntheticPackage& p, const std::string& file, const std::function<bool(const std::string&)>& chosen) {
  const auto bytes = p.read(file);
  const SafeTensors t = SafeTensors::parse(bytes, file);
  std::deque<std::vector<int8_t>> matrices;
  std::deque<std::vector<float>> scales;
  std::vector<SafeTensors::Entry> entries;
  for (SafeTensors::Entry e : t.entries()) {
    if (chosen(e.name)) {
      const int64_t out = e.tensor.shape[0], in = e.tensor.shape[1];
      const float* w = e.tensor.as<float>();
      matrices.emplace_back(static_cast<size_t>(out * in));
      scales.emplace_back(static_cast<size_t>(out));
      for (int64_t r = 0; r < out; ++r) {
        float highest = 0;
        for (int64_t k = 0; k < in; ++k) highest = std::max(highest, std::fabs(w[r * in + k]));
        scales.back()[static_cast<size_t>(r)] = highest / 127.0f;
        for (int64_t k = 0; k < in; ++k) {
          matrices.back()[static_cast<size_t>(r * in + k)] = static_cast<int8_t>(std::nearbyint(static_cast<double>(w[r * in + k]) * (127.0f / highest)));
        }
      }
      entries.push_back({e.name + "_scale", {scales.back().data(), DType::F32, {out}}});
      e.tensor = {matrices.back().data(), DType::I8, e.tensor.shape};
    }
    entries.push_back(e);
  }
  p.write(file, writeSafeTensors(entries, {}));
  p.writeManifest();
}

bool ends(const std::string& s, const std::string& end) { return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0; }
bool ofBlocks(const std::string& name) {
  return name.rfind("blocks.", 0) == 0 && ends(name, ".weight") && name.find("norm") == std::string::npos && name.find("pos_") == std::string::npos;
}

std::shared_ptr<Model> loaded(const SyntheticPackage& p, Precision precision) {
  LoadOptions o;
  o.directory = p.directory, o.precision = precision, o.threads = 2;
  return Model::load(o);
}

// All bytes of the first block's frames.
std::vector<uint8_t> firstBlock(Model& model) {
  SessionOptions o;
  o.seed = 3, o.width = 64, o.height = 48;
  const auto session = model.createSession(o);
  const std::vector<int32_t> ids{1, 2, 3};
  session->setPrompt(*model.encodePrompt(ids), RecacheMode::Recache);
  for (;;) {
    const Step step = session->step();
    if (step.kind == Step::Kind::Frames) return {step.frames.i420.begin(), step.frames.i420.end()};
  }
}

}  // namespace

TEST("package: quantized before or at load, int8 gives the same frames") {
  const SyntheticPackage p("quantized");
  const auto want = firstBlock(*loaded(p, Precision::INT8));
  const size_t before = loaded(p, Precision::INT8)->weightBytes();
  quantize(p, "dit.safetensors", ofBlocks);
  CHECK(loaded(p, Precision::INT8)->weightBytes() == before);
  CHECK(firstBlock(*loaded(p, Precision::INT8)) == want);
  CHECK(!firstBlock(*loaded(p, Precision::FP32)).empty() && !firstBlock(*loaded(p, Precision::BF16)).empty());
}

TEST("package: an int8 text encoder stays int8, and its embeddings stay close") {
  const SyntheticPackage p("int8-text", [](ModelConfig& c) { c.textEncoder.dimFfn = 256, c.textEncoder.dimAttn = 64; });
  const std::vector<int32_t> ids{5, 9, 13, 2, 1};
  const auto exact = loaded(p, Precision::FP32)->encodePrompt(ids)->embeddings;
  const size_t before = loaded(p, Precision::BF16)->weightBytes();
  quantize(p, "text_encoder.safetensors", [](const std::string& name) { return ofBlocks(name) || name == "token_embedding.weight"; });
  CHECK(loaded(p, Precision::BF16)->weightBytes() < before);
  for (const Precision precision : {Precision::FP32, Precision::BF16, Precision::INT8}) {
    const auto got = loaded(p, precision)->encodePrompt(ids)->embeddings;
    double error = 0, size = 0;
    for (size_t i = 0; i < exact.size(); ++i) error += (got[i] - exact[i]) * (got[i] - exact[i]), size += exact[i] * exact[i];
    CHECK(std::sqrt(error / size) < 0.03);
  }
}

TEST("package: quantized weights are refused where nobody can use them, and when they are not whole") {
  const SyntheticPackage p("bad-quantized");
  const auto vae = p.read("vae.safetensors");
  const SafeTensors t = SafeTensors::parse(vae, "vae");
  std::vector<SafeTensors::Entry> entries = t.entries();
  for (auto& e : entries) if (e.name == "conv2.weight") e.tensor.dtype = DType::I8;
  p.write("vae.safetensors", writeSafeTensors(entries, {}));
  p.writeManifest();
  CHECK(has(refusal(p), "\"conv2.weight\": dtype I8 is not floating point"));
  p.write("vae.safetensors", vae);
  quantize(p, "dit.safetensors", [](const std::string& name) { return name == "blocks.0.ffn.0.weight"; });
  CHECK(refusal(p).empty());
  const auto dit = p.read("dit.safetensors");
  const SafeTensors whole = SafeTensors::parse(dit, "dit");
  std::vector<SafeTensors::Entry> without;
  for (const auto& e : whole.entries()) if (e.name != "blocks.0.ffn.0.weight_scale") without.push_back(e);
  p.write("dit.safetensors", writeSafeTensors(without, {}));
  p.writeManifest();
  CHECK(has(refusal(p), "\"blocks.0.ffn.0.weight\": dtype I8 needs \"blocks.0.ffn.0.weight_scale\", which is missing"));
  std::vector<SafeTensors::Entry> surplus = whole.entries();
  surplus.push_back({"blocks.0.norm3.bias_scale", surplus.front().tensor});
  p.write("dit.safetensors", writeSafeTensors(surplus, {}));
  p.writeManifest();
  CHECK(has(refusal(p), "unexpected tensor \"blocks.0.norm3.bias_scale\""));
}

TEST("package: matrices and tables with NaN are refused by name; a damaged file is called damaged") {
  const SyntheticPackage p("nan");
  for (const auto& [file, name] : {std::pair{"dit.safetensors", "blocks.0.self_attn.q.weight"}, {"text_encoder.safetensors", "token_embedding.weight"},
                                   {"text_encoder.safetensors", "blocks.1.ffn.fc2.weight"}}) {
    const auto before = p.read(file);
    const SafeTensors t = SafeTensors::parse(before, file);
    std::vector<uint8_t> after = before;
    const float nan = std::nanf("");
    std::memcpy(after.data() + (static_cast<const uint8_t*>(t.at(name).data) - before.data()), &nan, 4);
    p.write(file, after);
    CHECK(has(refusal(p), std::string(file) + ": checksum differs"));
    p.writeManifest();
    CHECK(has(refusal(p), std::string("tensor \"") + name + "\": contains NaN"));
    p.write(file, before);
    p.writeManifest();
  }
}

TEST("package: a good one loads") {
  const SyntheticPackage p("good");
  CHECK(refusal(p).empty());
}

TEST("package: config keys are exact") {
  const SyntheticPackage p("config");
  const auto after = [&](const std::string& from, const std::string& to) {
    withConfig(p, from, to);
    return refusal(p);
  };
  CHECK(has(after("\"dim\":48", "\"dim\":48,\"dimm\":1"), "config.json: dit.dimm is unknown"));
  CHECK(has(after("\"ffnDim\":80,", ""), "config.json: dit.ffnDim is missing"));
  CHECK(has(after("\"formatVersion\":1", "\"formatVersion\":2"), "config.json: formatVersion must be"));
  CHECK(has(after("\"dim\":48", "\"dim\":\"48\""), "dit.dim must be an integer"));
  CHECK(has(after("\"numHeads\":2", "\"numHeads\":5"), "dit.numHeads must divide"));
  CHECK(has(after("\"sinkFrames\":1", "\"sinkFrames\":5"), "sampling.windowFrames must hold"));
  CHECK(has(after("\"rope\":\"absolute\"", "\"rope\":\"other\""), "sampling.rope must be"));
  CHECK(has(after("\"denoisingSteps\":[1000", "\"denoisingSteps\":[1001"), "sampling.denoisingSteps must be"));
  CHECK(has(after("\"width\":64", "\"width\":65"), "multiples of 16"));
  CHECK(has(after("\"patchSize\":[1,2,2]", "\"patchSize\":[1,1,2]"), "patchSize must be [1, 2, 2]"));
  CHECK(has(after("{\"formatVersion\"", "\"formatVersion\""), "config.json"));
}

TEST("package: the manifest guards every file") {
  const SyntheticPackage p("manifest");
  p.writeText("config.json", "{}");
  CHECK(has(refusal(p), "config.json: has 2 bytes, but the manifest says"));
  p.writeText("config.json", replaced(p.configText(), "\"fps\":16", "\"fps\":.6"));
  CHECK(has(refusal(p), "config.json: checksum differs"));
  p.writeText("config.json", p.configText());
  auto bytes = p.read("dit.safetensors");
  bytes[bytes.size() - 1] ^= 1;
  p.write("dit.safetensors", bytes);
  CHECK(has(refusal(p), "dit.safetensors: checksum differs"));
  bytes.pop_back();
  p.write("dit.safetensors", bytes);
  CHECK(has(refusal(p), "the manifest says"));
  std::filesystem::remove(p.directory + "/dit.safetensors");
  CHECK(has(refusal(p), "dit.safetensors: No such file"));
  p.writeManifest();
  CHECK(has(refusal(p), "does not list dit.safetensors"));
  std::filesystem::remove(p.directory + "/manifest.json");
  CHECK(has(refusal(p), "manifest.json: cannot be read"));
  p.writeText("manifest.json", R"({"formatVersion":1,"name":"a","version":"1","title":"t","description":"d","license":"l","createdAt":"x","files":{"../etc":{"bytes":1,"sha256":"a"}}})");
  CHECK(has(refusal(p), "plain name"));
}

TEST("package: weights must fit the config, and be finite") {
  const SyntheticPackage p("weights");
  const auto file = p.read("dit.safetensors");
  const auto rewritten = [&](const std::function<void(std::vector<SafeTensors::Entry>&)>& change) {
    const SafeTensors t = SafeTensors::parse(file, "dit");
    std::vector<SafeTensors::Entry> entries = t.entries();
    change(entries);
    p.write("dit.safetensors", writeSafeTensors(entries, {}));
    p.writeManifest();
    return refusal(p);
  };
  const auto named = [](std::vector<SafeTensors::Entry>& e, const std::string& name) -> SafeTensors::Entry& {
    for (auto& entry : e) if (entry.name == name) return entry;
    throw std::logic_error(name);
  };
  const std::string name = "blocks.1.ffn.0.bias";
  CHECK(has(rewritten([&](auto& e) { named(e, name).name = "blocks.1.ffn.0.bia"; }), "\"blocks.1.ffn.0.bias\" is missing"));
  CHECK(has(rewritten([&](auto& e) { named(e, name).tensor.shape = {2, 40}; }), "\"blocks.1.ffn.0.bias\": shape is [2,40], the config implies [80]"));
  CHECK(has(rewritten([&](auto& e) { e.push_back(e.back()), e.back().name = "extra"; }), "unexpected tensor \"extra\""));
  CHECK(has(rewritten([&](auto& e) { named(e, name).tensor.dtype = DType::I32; }), "dtype I32 is not floating point"));
  std::vector<float> nan(80, std::nanf(""));
  CHECK(has(rewritten([&](auto& e) { named(e, name).tensor.data = nan.data(); }), "\"blocks.1.ffn.0.bias\": contains NaN"));
}

TEST("a package and a session have one limit of a side, and what a package says a session takes") {
  using longlive::test::SyntheticPackage;
  for (int64_t side : {kMostSide, kMostSide + kSideStep}) {
    const SyntheticPackage package("side", [&](ModelConfig& c) { c.video.width = side; });
    const bool fits = side <= kMostSide;
    if (!fits) {
      CHECK_THROWS(Package::open(package.directory), Error);
      continue;
    }
    CHECK(Package::open(package.directory).config().video.width == kMostSide);
    LoadOptions load;
    load.directory = package.directory, load.threads = 1;
    CHECK(planMemory(load, {.width = kMostSide, .height = kLeastSide}).session() > 0);
    const SessionOptions larger{.width = kMostSide + kSideStep, .height = kLeastSide};
    CHECK_THROWS(planMemory(load, larger), Error);
  }
}
