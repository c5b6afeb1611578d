// Packages with something wrong: refused with a sentence that names it.
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

}  // namespace

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
