// What the convolutional networks over video (vae.cpp, tiny_vae.cpp) share: causal convolutions that remember their last
// input frames from call to call, and working memory that is planned before the first call.
//
// A causal convolution with kt taps in time needs the kt - 1 frames before its input. A stream keeps them per convolution
// (its history, zero at the start of a video), so that a video may be cut into calls anywhere and gives the same frames.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "ops.h"
#include "weights.h"

namespace longlive {

// Working memory by role; layers follow each other, so one buffer of each role, as large as the hungriest layer, is enough.
enum class Role : uint8_t {
  Main,    // activations between layers
  Side,    // a layer's intermediate result
  Skip,    // the shortcut of a residual block
  ConvIn,  // what a convolution reads
  Query, Key, Value,
  Rgb,     // F32 frames before they become bytes
  Count,
};

// Weights of one convolution; slot is its place among the histories, or -1 if it needs none.
struct Conv {
  std::unique_ptr<ConvWeights> weights;
  int slot = -1;
};

// A small vector of parameters in device memory.
class DeviceVector {
 public:
  DeviceVector() = default;
  DeviceVector(Backend& backend, const std::vector<float>& values);
  const Tensor& tensor() const { return tensor_; }

 private:
  std::unique_ptr<Storage> storage_;
  Tensor tensor_;
};

// The weights of a norm, and the bounds of what SiLU makes of it.
struct Norm {
  DeviceVector gamma;
  Bounds silu;
};

// Builds the layers' weights, numbers the histories and counts bytes.
class VolumeLoader {
 public:
  struct Kernel { int64_t out, in; int t, h, w; };

  // `eightBit`: norms say what lies between their bounds, so that convolutions behind them may read bytes.
  VolumeLoader(Backend& backend, WeightReader& reader, bool eightBit = false) : backend_(backend), reader_(reader), eightBit_(eightBit) {}
  Backend& backend() { return backend_; }
  WeightReader& reader() { return reader_; }

  // A convolution with history over its kt - 1 last frames, from NAME.weight [out, in, kt, kh, kw] and NAME.bias.
  Conv causal(const std::string& name, Kernel k, bool sensitive = false, Bounds bounds = {});
  // A convolution without history; weight axes of size 1 in time may be absent in the file (Conv2d).
  Conv plain(const std::string& name, Kernel k, Shape weightShape, bool upsample2x = false, bool hasBias = true);
  Conv pack(const std::vector<float>& weight, const float* bias, Kernel k, bool sensitive = false, bool upsample2x = false, Bounds bounds = {});
  int nextSlot() { return slots_++; }
  DeviceVector vector(const std::string& name, Shape shape);
  Norm norm(const std::string& name, Shape shape);
  void countBytes(size_t bytes) { bytes_ += bytes; }

  int slots() const { return slots_; }
  size_t bytes() const { return bytes_; }

 private:
  Backend& backend_;
  WeightReader& reader_;
  bool eightBit_;
  int slots_ = 0;
  size_t bytes_ = 0;
};

// Sizes gathered by walking the layers once, before anything runs.
class VolumePlan {
 public:
  VolumePlan(Backend& backend, int slots) : backend_(backend), histories_(slots) {}
  Backend& backend() { return backend_; }

  void need(Role role, DType type, const Shape& shape);
  void needActivation(Role role, const Shape& shape) { need(role, DType::F32, shape); }
  void needConvInput(Role role, const Shape& shape) { need(role, backend_.convType(), shape); }
  void needInputOf(const Conv& conv, Role role, const Shape& shape) { need(role, conv.weights->input, shape); }
  // `frames` input frames [frames, H, W, C] of the convolution to remember.
  void history(const Conv& conv, int64_t frames, const Shape& input);

 private:
  friend class VolumeStream;
  Backend& backend_;
  std::array<size_t, static_cast<size_t>(Role::Count)> bytes_{};
  struct History {
    DType type = DType::F32;
    Shape shape;
    uint8_t zero = 0;  // the byte that stands for it
  };
  std::vector<History> histories_;
};

// One video's memory: a single allocation that holds all histories and all working buffers.
class VolumeStream {
 public:
  explicit VolumeStream(const VolumePlan& plan);

  Backend& backend() { return backend_; }
  size_t memoryBytes() const { return storage_->bytes; }
  void reset();  // zero histories; the next frame is the first of a video

  // True until the first latent (or the first frame, when encoding) has been processed.
  bool first = true;

  Tensor buffer(Role role, DType type, const Shape& shape) const;
  // What lies between convolutions is F32 on every device: a residual stream in bf16 shows in the pictures.
  Tensor activation(Role role, const Shape& shape) const { return buffer(role, DType::F32, shape); }
  Tensor convInput(const Shape& shape) const { return buffer(Role::ConvIn, backend_.convType(), shape); }
  Tensor inputOf(const Conv& conv, Role role, const Shape& shape) const { return buffer(role, conv.weights->input, shape); }

  // Runs a convolution over [history; in] and remembers the last frames of `in`. The caller fills in the other fields.
  void run(Backend::ConvArgs args, const Conv& conv, const Tensor& out, const Tensor& in);
  void remember(const Conv& conv, const Tensor& in);

 private:
  Backend& backend_;
  std::unique_ptr<Storage> storage_;
  std::array<Tensor, static_cast<size_t>(Role::Count)> roles_{};  // as bytes (U8)
  std::vector<Tensor> histories_;
  std::vector<uint8_t> zeros_;  // by history
};

}  // namespace longlive
