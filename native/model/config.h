// The settings of a model package (docs/model-package.md, config.json) as plain structs.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "longlive/types.h"

namespace longlive {

struct DitConfig {
  int64_t dim = 1536, ffnDim = 8960, numHeads = 12, numLayers = 30, freqDim = 256;
  int64_t inDim = 16, outDim = 16, textDim = 4096, textLen = 512;
  std::array<int64_t, 3> patchSize{1, 2, 2};
  float eps = 1e-6f;
  double ropeTheta = 10000;
  int64_t ropeTableLength = 1024;
  int64_t headDim() const { return dim / numHeads; }
};

struct TextEncoderConfig {
  int64_t vocabSize = 256384, dim = 4096, dimAttn = 4096, dimFfn = 10240, numHeads = 64, numLayers = 24;
  int64_t numBuckets = 32, maxDistance = 128;
  float eps = 1e-6f;
};

struct VaeConfig {
  int64_t dim = 96, zDim = 16;
  std::vector<int64_t> dimMult{1, 2, 4, 4};
  int64_t numResBlocks = 2;
  std::vector<bool> temporalDownsample{false, true, true};  // of the encoder, stage by stage
  std::vector<float> mean, std;                             // [zDim]
  // Below FP32 its residual blocks may convolve in 8 bits, where the processor is faster by that: whoever made the package has measured it.
  bool eightBit = false;
};

struct TinyVaeConfig {
  std::vector<int64_t> channels{256, 128, 64, 64};
  int64_t zDim = 16;
  std::vector<int64_t> timeUpscale{1, 2, 2};  // frames out per frame in, stage by stage; one entry less than channels
  bool transposed = false;  // stages that grow in space do it by a transposed convolution
  int64_t patch = 1;  // sides of the squares of pixels that the last convolution gives; with 2 the last stage does not grow in space
};

struct SamplingConfig {
  // One number: of the families of spec A to D none has a first block of another length (only videos that start from a picture do, E.1);
  // the store and the plan of a pass take any (kv_cache.h).
  int64_t framesPerBlock = 3;
  int64_t windowFrames = 12;  // reference local_attn_size: sink included; -1 is the reference's "global" mode
  int64_t sinkFrames = 3;
  RopeMode rope = RopeMode::Absolute;
  bool globalSink = true;
  float timestepShift = 5.0f;
  std::vector<int64_t> denoisingSteps{1000, 750, 500, 250};
  bool warpDenoisingSteps = true;
  float contextNoise = 0;
};

struct VideoConfig {
  int64_t width = 832, height = 480;
  double fps = 16;
};

struct ModelConfig {
  DitConfig dit;
  TextEncoderConfig textEncoder;
  VaeConfig vae;
  std::optional<TinyVaeConfig> tinyVae;
  SamplingConfig sampling;
  VideoConfig video;
};

}  // namespace longlive
