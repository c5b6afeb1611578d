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
  bool bias = false, sensitive = false, upsample2x = false, bounded = false;
};

// Scratch of one call. Each part grows by itself, and stays.
struct Scratch {
  size_t rows = 0;     // operands and products; what it has outgrown stays, too: work under way may refer to it
  size_t matrix = 0;   // a matrix made wide for one product; likewise
  size_t threads = 0;  // of all threads together
};

class BackendMemory {
 public:
  virtual ~BackendMemory() = default;

  const BackendTraits& traits() const { return traits_; }
  virtual DType linearType(int64_t /*width*/) const { return traits_.activation; }

  // Whose scratch the calls of a lane take.
  virtual Lane scratchOf(Lane lane) const { return lane; }

  // Allocations, one by one. Where a size depends on the device's instructions and it need not be there, the most it can be.
  virtual std::vector<size_t> linear(const LinearShape& w) const = 0;
  virtual std::vector<size_t> conv(const ConvShape& w) const = 0;
  virtual DType convInput(const ConvShape& w) const { return w.sensitive ? DType::F32 : traits_.conv; }  // ConvWeights::input
  virtual size_t keyValues(const KeyValueLayout& layout) const = 0;         // KeyValues::bytes
  virtual size_t keyValuesWorking(const KeyValueLayout& layout) const = 0;  // KeyValues::workingBytes

  virtual size_t fixed() const { return 0; }    // that the backend takes when it is made
  virtual size_t reserve() const { return 0; }  // an allowance for what the device's driver takes beside: its context, code and graphs
  // While weights are prepared.
  virtual Scratch preparation(const LinearShape&) const { return {}; }
  virtual Scratch preparation(const ConvShape&) const { return {}; }
  // rows [n, w.in] to [n, w.out].
  virtual Scratch linearScratch(const LinearShape&, const LinearRows& /*out*/, const LinearRows& /*in*/, const Epilogue&) const { return {}; }
  virtual Scratch normScratch(const Tensor& /*out*/, int64_t /*headDim*/) const { return {}; }  // headDim 0: nothing is rotated
  virtual Scratch attentionScratch(const AttentionArgs&) const { return {}; }
  // Beside the two linear layers.
  virtual Scratch appendScratch(const KeyValueLayout&, const AppendArgs&) const { return {}; }
  virtual Scratch attendScratch(const KeyValueLayout&, const AttendArgs&) const { return {}; }

 protected:
  explicit BackendMemory(const BackendTraits& traits) : traits_(traits) {}

 private:
  BackendTraits traits_;
};

// Neither needs the device, or a build that has the backend. Both throw Error{InvalidArgument} for arithmetic that no such device has.
std::unique_ptr<BackendMemory> cpuMemory(const BackendOptions& options);
std::unique_ptr<BackendMemory> cudaMemory(const BackendOptions& options);

}  // namespace longlive
