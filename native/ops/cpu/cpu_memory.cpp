// What the CPU backend takes of the machine's memory.
#include "backend_memory.h"

#include "conv.h"
#include "cpu_backend.h"
#include "cpu_key_values.h"

namespace longlive {

namespace cpu {

class CpuMemory final : public BackendMemory {
 public:
  explicit CpuMemory(const BackendOptions& options) : BackendMemory(largest(traitsOf(options))) {}

  std::vector<size_t> linear(const LinearShape& w) const override {
    const bool widened = isWidened(w.eightBit, w.stored, traits().precision);
    return {linearBytes(w.out, w.in, formatOf(w.eightBit, widened, traits().precision), widened)};
  }
  std::vector<size_t> conv(const ConvShape& w) const override { return {largestConvBytes(w.out, w.in, w.kt, w.kh, w.kw, w.upsample2x)}; }

  size_t keyValues(const KeyValueLayout& layout) const override {
    Arena counting;
    const bool bytes = layout.storage == KvStorage::Int8;
    takeKeysAndValues(counting, layout, bytes ? DType::I8 : traits().keyValue);
    takeScales(counting, layout);
    return counting.bytes();
  }
  size_t keyValuesWorking(const KeyValueLayout& layout) const override {
    Arena counting;
    takeReady(counting, layout, traits().keyValue);
    return counting.bytes();
  }

 private:
  // What convolutions take depends on the instructions; F32 is the most it can be.
  static BackendTraits largest(BackendTraits t) {
    t.conv = t.activation;
    return t;
  }
};

}  // namespace cpu

std::unique_ptr<BackendMemory> cpuMemory(const BackendOptions& options) { return std::make_unique<cpu::CpuMemory>(options); }

}  // namespace longlive
