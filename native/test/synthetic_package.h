// A whole model package with random weights and small dims, in a directory of its own that goes with the object.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "io/package.h"
#include "io/sha256.h"
#include "outliers.h"
#include "synthetic_vae.h"

namespace longlive::test {

// Named tensors of any name and rank.
class RandomTensors {
 public:
  explicit RandomTensors(uint64_t seed) : random_(seed) {}

  void add(const std::string& name, Shape shape, float scale) {
    values_.push_back(std::make_unique<std::vector<float>>(static_cast<size_t>(shape.elements())));
    for (float& v : *values_.back()) v = scale * random_.uniform();
    entries.push_back({name, {values_.back()->data(), DType::F32, shape}});
  }
  void linear(const std::string& name, int64_t out, int64_t in, bool bias = true) {
    add(name + ".weight", {out, in}, std::sqrt(3.0f / static_cast<float>(in)));
    if (bias) add(name + ".bias", {out}, 0.1f);
  }

  std::vector<SafeTensors::Entry> entries;

 private:
  SyntheticWeights random_;
  std::vector<std::unique_ptr<std::vector<float>>> values_;
};

// A DiT of the given shape with random weights, as the bytes of its safetensors file; with what trained ones have (outliers.h), if told so.
inline std::vector<uint8_t> ditFile(const DitConfig& c, bool outliers = false) {
  RandomTensors w(1);
  w.add("patch_embedding.weight", {c.dim, c.inDim, 1, 2, 2}, 0.2f);
  w.add("patch_embedding.bias", {c.dim}, 0.1f);
  w.linear("text_embedding.0", c.dim, c.textDim), w.linear("text_embedding.2", c.dim, c.dim);
  w.linear("time_embedding.0", c.dim, c.freqDim), w.linear("time_embedding.2", c.dim, c.dim);
  w.linear("time_projection.1", 6 * c.dim, c.dim);
  for (int64_t i = 0; i < c.numLayers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    w.add(block + "modulation", {1, 6, c.dim}, 0.5f);
    w.add(block + "norm3.weight", {c.dim}, 1), w.add(block + "norm3.bias", {c.dim}, 0.1f);
    for (const char* attention : {"self_attn.", "cross_attn."}) {
      for (const char* part : {"q", "k", "v", "o"}) w.linear(block + attention + part, c.dim, c.dim);
      for (const char* norm : {"norm_q", "norm_k"}) w.add(block + attention + norm + ".weight", {c.dim}, 1);
    }
    w.linear(block + "ffn.0", c.ffnDim, c.dim), w.linear(block + "ffn.2", c.dim, c.ffnDim);
  }
  w.add("head.modulation", {1, 2, c.dim}, 0.5f);
  w.linear("head.head", c.outDim * 4, c.dim);
  if (outliers) Outliers(c).into(w.entries);
  return writeSafeTensors(w.entries, {});
}

class SyntheticPackage {
 public:
  ModelConfig config;
  std::string directory;

  explicit SyntheticPackage(const std::string& name, const std::function<void(ModelConfig&)>& change = {}) {
    directory = (std::filesystem::temp_directory_path() / ("longlive-" + name + "-" + std::to_string(::getpid()))).string();
    std::filesystem::create_directories(directory);
    config.dit.dim = 48, config.dit.ffnDim = 80, config.dit.numHeads = 2, config.dit.numLayers = 2, config.dit.freqDim = 32;
    config.dit.textDim = 24, config.dit.textLen = 12;
    config.textEncoder = {40, 24, 24, 32, 2, 2, 32, 128, 1e-6f};
    config.vae.dim = 4;
    config.vae.mean.assign(16, 0.0f), config.vae.std.assign(16, 1.0f);
    config.sampling.windowFrames = 6, config.sampling.sinkFrames = 1, config.sampling.framesPerBlock = 2;
    config.video.width = 64, config.video.height = 48;
    if (change) change(config);
    writeDit();
    writeText();
    SyntheticWeights vae(3);
    syntheticWanDecoder(vae, config.vae);
    vaeFile_ = vae.file();
    write("vae.safetensors", writeSafeTensors(vaeFile_.entries(), {}));
    writeText("config.json", configText());
    writeManifest();
  }
  ~SyntheticPackage() { std::filesystem::remove_all(directory); }

  void write(const std::string& file, const std::vector<uint8_t>& bytes) const {
    std::ofstream(directory + "/" + file, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<int64_t>(bytes.size()));
  }
  void writeText(const std::string& file, const std::string& text) const { write(file, {text.begin(), text.end()}); }
  std::vector<uint8_t> read(const std::string& file) const {
    std::ifstream in(directory + "/" + file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // Lists what the directory holds now.
  void writeManifest() const {
    std::string files;
    for (const auto& e : std::filesystem::directory_iterator(directory)) {
      const std::string name = e.path().filename();
      if (name == "manifest.json") continue;
      const auto bytes = read(name);
      files += std::string(files.empty() ? "" : ",") + "\"" + name + "\":{\"bytes\":" + std::to_string(bytes.size()) + ",\"sha256\":\"" + sha256Hex(bytes) + "\"}";
    }
    writeText("manifest.json", R"({"formatVersion":1,"name":"synthetic","version":"1","title":"t","description":"d","license":"l",)"
                               R"("createdAt":"2026-01-01T00:00:00Z","prompts":{"about":"Noise.","examples":[]},"files":{)" + files + "}}");
  }

  std::string configText() const {
    const auto list = [](const std::vector<float>& v) {
      std::string s;
      for (float f : v) s += (s.empty() ? "" : ",") + std::to_string(f);
      return "[" + s + "]";
    };
    const auto n = [](int64_t v) { return std::to_string(v); };
    const DitConfig& d = config.dit;
    const TextEncoderConfig& t = config.textEncoder;
    const SamplingConfig& s = config.sampling;
    std::string steps;
    for (int64_t step : s.denoisingSteps) steps += (steps.empty() ? "" : ",") + n(step);
    return "{\"formatVersion\":1,\"dit\":{\"dim\":" + n(d.dim) + ",\"ffnDim\":" + n(d.ffnDim) + ",\"numHeads\":" + n(d.numHeads) +
           ",\"numLayers\":" + n(d.numLayers) + ",\"freqDim\":" + n(d.freqDim) + ",\"inDim\":16,\"outDim\":16,\"textDim\":" + n(d.textDim) +
           ",\"textLen\":" + n(d.textLen) + ",\"patchSize\":[1,2,2],\"eps\":1e-6,\"ropeTheta\":10000,\"ropeTableLength\":" + n(d.ropeTableLength) +
           "},\"textEncoder\":{\"vocabSize\":" + n(t.vocabSize) + ",\"dim\":" + n(t.dim) + ",\"dimAttn\":" + n(t.dimAttn) + ",\"dimFfn\":" + n(t.dimFfn) +
           ",\"numHeads\":" + n(t.numHeads) + ",\"numLayers\":" + n(t.numLayers) + ",\"numBuckets\":32,\"maxDistance\":128,\"eps\":1e-6}" +
           ",\"vae\":{\"dim\":" + n(config.vae.dim) + ",\"zDim\":16,\"dimMult\":[1,2,4,4],\"numResBlocks\":2,\"temporalDownsample\":[false,true,true]" +
           ",\"mean\":" + list(config.vae.mean) + ",\"std\":" + list(config.vae.std) + ",\"eightBit\":" + (config.vae.eightBit ? "true" : "false") + "},\"sampling\":{\"framesPerBlock\":" + n(s.framesPerBlock) +
           ",\"windowFrames\":" + n(s.windowFrames) + ",\"sinkFrames\":" + n(s.sinkFrames) + ",\"rope\":\"" +
           (s.rope == RopeMode::Relative ? "relative" : "absolute") + "\",\"globalSink\":" + (s.globalSink ? "true" : "false") +
           ",\"timestepShift\":5.0,\"denoisingSteps\":[" + steps + "],\"warpDenoisingSteps\":true,\"contextNoise\":0}" +
           ",\"video\":{\"width\":" + n(config.video.width) + ",\"height\":" + n(config.video.height) + ",\"fps\":16}}";
  }

 private:
  void writeDit() const { write("dit.safetensors", ditFile(config.dit)); }

  void writeText() const {
    const TextEncoderConfig& c = config.textEncoder;
    RandomTensors w(2);
    w.add("token_embedding.weight", {c.vocabSize, c.dim}, 1);
    for (int64_t i = 0; i < c.numLayers; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      w.add(block + "norm1.weight", {c.dim}, 1), w.add(block + "norm2.weight", {c.dim}, 1);
      for (const char* part : {"q", "k", "v"}) w.linear(block + "attn." + part, c.dimAttn, c.dim, false);
      w.linear(block + "attn.o", c.dim, c.dimAttn, false);
      w.linear(block + "ffn.gate.0", c.dimFfn, c.dim, false), w.linear(block + "ffn.fc1", c.dimFfn, c.dim, false);
      w.linear(block + "ffn.fc2", c.dim, c.dimFfn, false);
      w.add(block + "pos_embedding.embedding.weight", {c.numBuckets, c.numHeads}, 1);
    }
    w.add("norm.weight", {c.dim}, 1);
    write("text_encoder.safetensors", writeSafeTensors(w.entries, {}));
  }

  SafeTensors vaeFile_;
};

}  // namespace longlive::test
