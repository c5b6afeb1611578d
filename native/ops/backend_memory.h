// What a backend takes of its device's memory, said without a device: each backend says it beside itself (cpu/cpu_memory.cpp,
// cuda/cuda_memory.cpp), and planning.h adds it up. All sizes are bytes.
#pragma once

#include <memory>
#include <vector>

#include "key_values.h"
#include "longlive/engine.h"
#include "ops.h"

namespace longlive {

// A linear layer as loadLinear is asked for it.
struct LinearShape {
  int64_t out = 0, in = 0;
  bool bias = false;
  EightBit eightBit = EightBit::Full;
  DType stored = DType::F32;  // its weights in the package
};

// A convolution as prepareConv is asked for it.
struct ConvShape {
  int64_t out = 0, in = 0;
  int kt = 1, kh = 1, kw = 1;
  bool bias = false, sensitive = false, upsample2x = false;
};

// Scratch of one call; each part grows by itself, and stays.
struct Scratch {
  size_t rows = 0;    // operands and products
  size_t matrix = 0;  // a matrix made wide for one product
};

class BackendMemory {
 public:
  virtual ~BackendMemory() = default;

  const BackendTraits& traits() const { return traits_; }
  virtual DType linearType(int64_t /*width*/) const { return traits_.activation; }

  // Allocations, one by one. Where a size depends on the device's instructions, the most it can be.
  virtual std::vector<size_t> linear(const LinearShape& w) const = 0;
  virtual std::vector<size_t> conv(const ConvShape& w) const = 0;
  virtual size_t keyValues(const KeyValueLayout& layout) const = 0;         // KeyValues::bytes
  virtual size_t keyValuesWorking(const KeyValueLayout& layout) const = 0;  // KeyValues::workingBytes

  virtual size_t fixed() const { return 0; }  // that the backend takes when it is made
  // rows [n, w.in] to [n, w.out].
  virtual Scratch linearScratch(const LinearShape&, const LinearRows& /*out*/, const LinearRows& /*in*/, const Epilogue&) const { return {}; }
  virtual size_t attentionScratch(const AttentionArgs&) const { return 0; }
  // Beside the two linear layers.
  virtual size_t appendScratch(const KeyValueLayout&, const AppendArgs&) const { return 0; }
  virtual size_t attendScratch(const KeyValueLayout&, const AttendArgs&) const { return 0; }

 protected:
  explicit BackendMemory(const BackendTraits& traits) : traits_(traits) {}

 private:
  BackendTraits traits_;
};

// Neither needs the device, or a build that has the backend. Both throw Error{InvalidArgument} for arithmetic that no such device has.
std::unique_ptr<BackendMemory> cpuMemory(const BackendOptions& options);
std::unique_ptr<BackendMemory> cudaMemory(const BackendOptions& options);

}  // namespace longlive
