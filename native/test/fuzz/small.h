// The smallest model there is, for what runs many times or slowly: libFuzzer's targets and their seeds, and calls under ThreadSanitizer.
#pragma once

#include "../synthetic_package.h"
#include "longlive/engine.h"

namespace longlive::fuzz {

inline void small(ModelConfig& c) {
  c.dit.numLayers = 1, c.dit.ropeTableLength = 16;
  c.sampling.windowFrames = 4, c.sampling.denoisingSteps = {1000};
}

// Even smaller: it is read whole for every input.
inline void tiny(ModelConfig& c) {
  small(c);
  c.dit.dim = 12, c.dit.ffnDim = 8, c.dit.freqDim = 8, c.dit.textDim = 8, c.dit.textLen = 4;
  c.textEncoder.vocabSize = 8, c.textEncoder.dim = 8, c.textEncoder.dimAttn = 8, c.textEncoder.dimFfn = 8, c.textEncoder.numLayers = 1;
  c.vae.dim = 1;
}

inline std::shared_ptr<Model> load(const test::SyntheticPackage& package, int threads = 1, const char* isa = "") {
  LoadOptions o;
  o.directory = package.directory, o.precision = Precision::FP32, o.threads = threads, o.isa = isa;
  return Model::load(o);
}

inline SessionOptions session(uint64_t seed = 1) {
  SessionOptions o;
  o.seed = seed, o.width = o.height = 16;
  return o;
}

inline const std::vector<int32_t> kText = {3, 1};

// Files that the target `package` replaces, by the first byte of its input.
inline const std::vector<std::string> kFiles = {"manifest.json", "config.json", "dit.safetensors", "text_encoder.safetensors", "vae.safetensors"};

inline void block(Session& session) {
  while (session.step().kind != Step::Kind::Context) {
  }
}

}  // namespace longlive::fuzz
