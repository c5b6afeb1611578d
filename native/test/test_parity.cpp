// The parity tool itself: what it takes for equal, and records that say what cannot be. They are files: they may say anything.
#include <cmath>
#include <limits>

#include "harness.h"
#include "longlive/error.h"
#include "parity.h"
#include "synthetic_package.h"

using namespace longlive;

namespace {

const std::string kConfig =
    R"("config":{"dim":48,"num_heads":2,"num_layers":1,"ffn_dim":64,"freq_dim":32,"text_dim":24,"text_len":8,"in_dim":16,"out_dim":16},)";

// A run of one block of three frames, one step and the pass over the clean latents, of a network with random weights.
const std::string kRecord =
    "{" + kConfig +
    R"("run":{"num_frame_per_block":3,"latent_h":4,"latent_w":6,"local_attn_size":6,"sink_size":1,"relative_rope":false,"global_sink":true,)"
    R"("timestep_shift":5,"denoising_step_list":[1000],"warp_denoising_step":true,"context_noise":0,"kv_cache_tokens":36,"max_attention_size_tokens":36},)"
    R"("calls":[{"call":0,"kind":"denoise","block":0,"num_frames":3,"prompt":"A","current_start_token":0,"global_end_index_after":18,"local_end_index_after":18},)"
    R"({"call":1,"kind":"clean","block":0,"num_frames":3 ,"prompt":"A","current_start_token":0,"global_end_index_after":18,"local_end_index_after":18}]})";

// What a record of the network of kConfig has: its weights, and tensors of random values.
SafeTensors recordedTensors(std::initializer_list<std::pair<const char*, Shape>> tensors) {
  DitConfig c;
  c.dim = 48, c.numHeads = 2, c.numLayers = 1, c.ffnDim = 64, c.freqDim = 32, c.textDim = 24, c.textLen = 8;
  static std::vector<uint8_t> network;
  network = test::ditFile(c);
  const SafeTensors weights = SafeTensors::parse(network, "network");
  test::RandomTensors record(7);
  for (const auto& e : weights.entries()) record.entries.push_back(e), record.entries.back().name = "weights." + e.name;
  for (const auto& [name, shape] : tensors) record.add(name, shape, 1);
  static std::vector<uint8_t> bytes;
  bytes = writeSafeTensors(record.entries, {});
  return SafeTensors::parse(bytes, "record");
}

// What is wrong with the record, once `from` is `to`; empty if it was played.
std::string played(const std::string& from = "", const std::string& to = "", Shape noise = {1, 3, 16, 4, 6}, Shape flow = {1, 3, 16, 4, 6}) {
  std::string text = kRecord;
  if (!from.empty()) {
    const size_t at = text.find(from);
    CHECK(at != std::string::npos);
    text.replace(at, from.size(), to);
  }
  parity::Case c;
  c.json = Json::parse(text);
  c.tensors = c.weights = recordedTensors({{"inputs.noise", noise}, {"inputs.text.A", {1, 8, 24}}, {"outputs.call0.flow", flow}, {"outputs.call1.flow", flow}});
  parity::Report report;
  try {
    parity::runPipeline(c, *makeCpuBackend({}), report);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::InvalidPackage);
    return e.what();
  }
  CHECK(report.integerMismatches.empty() && report.compared > 6);
  return "";
}

bool refusedFor(const std::string& why, const std::string& from, const std::string& to) { return played(from, to).find(why) != std::string::npos; }

}  // namespace

TEST("parity: a record whose calls have another number of frames than the run's blocks is refused, a first block of one among them") {
  CHECK(played().empty());
  CHECK(refusedFor("outputs.call0 has 1 frames, where the sampler makes a pass of 3", "\"num_frames\":3,", "\"num_frames\":1,"));
  CHECK(refusedFor("outputs.call1 has 1 frames", "\"num_frames\":3 ,", "\"num_frames\":1,"));
  CHECK(refusedFor("outputs.call0 has 6 frames", "\"num_frames\":3,", "\"num_frames\":6,"));
  for (const char* none : {"0", "-3"}) CHECK(refusedFor("num_frames is", "\"num_frames\":3,", "\"num_frames\":" + std::string(none) + ","));
  CHECK(played("", "", {1, 1, 16, 4, 6}).find("num_frame_per_block") != std::string::npos);  // draws of one frame for a block of three
  CHECK(played("", "", {1, 3, 16, 4, 6}, {1, 1, 16, 4, 6}).find("outputs.call0.flow") != std::string::npos);
}

TEST("parity: sizes of a record that nothing can have are refused, and what they would take is not asked for") {
  for (const char* n : {"0", "1", "-4", "1000000000"}) CHECK(refusedFor("latent_h", "\"latent_h\":4", "\"latent_h\":" + std::string(n)));
  for (const char* n : {"0", "-1", "100000"}) CHECK(refusedFor("num_frame_per_block", "\"num_frame_per_block\":3", "\"num_frame_per_block\":" + std::string(n)));
  for (const char* n : {"0", "-2", "5"}) CHECK(refusedFor("num_heads", "\"num_heads\":2", "\"num_heads\":" + std::string(n)));
  for (const char* key : {"dim\":48", "num_layers\":1", "freq_dim\":32", "text_len\":8", "kv_cache_tokens\":36", "max_attention_size_tokens\":36"}) {
    const std::string from = std::string("\"") + key, name = from.substr(1, from.find("\":") - 1);
    CHECK(refusedFor(name + " is 0", from, "\"" + name + "\":0"));
  }
  CHECK(refusedFor("inputs.text.A", "\"text_len\":8", "\"text_len\":9"));
  CHECK(refusedFor("denoising_step_list", "[1000]", "[1001]") && refusedFor("denoising_step_list", "[1000]", "[]"));
}

TEST("parity: a call of a network begins where there are positions") {
  const auto refusal = [](const std::string& begin) -> std::string {
    parity::Case c;
    c.json = Json::parse("{" + kConfig + begin + "}");
    c.tensors = c.weights = recordedTensors({{"inputs.latents", {1, 3, 16, 4, 6}}, {"inputs.text", {1, 8, 24}}, {"inputs.timestep", {1, 3}}});
    parity::Report report;
    try {
      parity::runDitBlock(c, *makeCpuBackend({}), report);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  for (const char* first : {"0", "1021"}) {
    CHECK(refusal("\"start_frame\":" + std::string(first)).empty() && refusal("\"description\":\"current_start=" + std::string(first) + " frames\"").empty());
  }
  for (const char* first : {"1022", "1024", "1000000"}) CHECK(refusal("\"current_start_frame\":" + std::string(first)).find("allow 0 to 1021") != std::string::npos);
  for (const char* first : {"-100000", "99999999", "99999999999999999999", "x"}) {
    CHECK(refusal("\"description\":\"current_start=" + std::string(first) + "\"").find("allow 0 to 1021") != std::string::npos);
  }
}

TEST("parity: what is not finite is equal to nothing, whichever side it is on") {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const auto worst = [](std::vector<float> got, std::vector<float> want) {
    parity::Report r;
    r.compare("before", {1.0f, 2.0f}, {1.0f, 2.0f}), r.compare("tensor", got, want), r.compare("behind", {1.0f}, {1.0f});
    return r.worst;
  };
  CHECK(worst({1, 2}, {1, 2}) == 0 && worst({1, 3}, {1, 2}) == 0.5 && worst({0}, {0}) == 0);
  for (float x : {infinity, -infinity, nan}) {
    CHECK(std::isinf(worst({1, 2}, {1, x})) && std::isinf(worst({1, x}, {1, 2})) && std::isinf(worst({1, x}, {1, x})) && std::isinf(worst({2, x}, {1, x})));
  }
}
