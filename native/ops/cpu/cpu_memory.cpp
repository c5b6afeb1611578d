// What the CPU backend takes of the machine's memory.
#include "backend_memory.h"

#include "conv.h"
#include "cpu_backend.h"
#include "cpu_key_values.h"

namespace longlive {

namespace cpu {

// Of this machine, whose instructions and threads they are.
class CpuMemory final : public BackendMemory {
 public:
  explicit CpuMemory(const BackendOptions& options)
      : BackendMemory(traitsOf(options)), isa_(chooseIsa(options.isa)), threads_(options.threads > 0 ? options.threads : availableProcessors()) {}

  // Texts have threads of their own.
  Lane scratchOf(Lane lane) const override { return lane == Lane::Text ? Lane::Text : Lane::Main; }

  std::vector<size_t> linear(const LinearShape& w) const override { return {linearBytes(w.out, w.in, format(w), isWidened(w))}; }
  std::vector<size_t> conv(const ConvShape& w) const override { return {sizeOf(w).bytes}; }
  DType convInput(const ConvShape& w) const override { return convInputType(isa_, convPrecision(w), w.bounded); }

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

  Scratch preparation(const LinearShape& w) const override { return each(packedLinearScratch(isa_, w.in, format(w), isWidened(w))); }
  Scratch preparation(const ConvShape& w) const override { return each(sizeOf(w).scratch); }
  // Linear layers and convolutions have theirs since they were prepared.
  Scratch normScratch(const Tensor& out, int64_t headDim) const override {
    return headDim > 0 || out.dtype == DType::BF16 ? each(rowScratch(out.shape[-1], headDim)) : Scratch{};
  }
  Scratch attentionScratch(const AttentionArgs& a) const override { return each(cpu::attentionScratch(isa_, a.k.dtype, a.q.shape[-1] / a.heads)); }
  Scratch appendScratch(const KeyValueLayout& layout, const AppendArgs&) const override { return each(rowScratch(layout.width, layout.width / layout.heads)); }
  Scratch attendScratch(const KeyValueLayout& layout, const AttendArgs&) const override {
    const int64_t headDim = layout.width / layout.heads;
    return each(std::max(rowScratch(layout.width, headDim), cpu::attentionScratch(isa_, traits().keyValue, headDim)));
  }

 private:
  bool isWidened(const LinearShape& w) const { return cpu::isWidened(w.eightBit, w.stored, traits().precision); }
  Precision format(const LinearShape& w) const { return formatOf(w.eightBit, isWidened(w), traits().precision); }
  Precision convPrecision(const ConvShape& w) const { return w.sensitive ? Precision::FP32 : traits().precision; }
  ConvSize sizeOf(const ConvShape& w) const {
    return convSize(isa_, convPrecision(w), w.out, w.in, w.kt, w.kh, w.kw, w.upsample2x, w.bounded);
  }
  Scratch each(size_t bytes) const { return {.threads = static_cast<size_t>(threads_) * AlignedBuffer::rounded(bytes)}; }

  Isa isa_;
  int threads_;
};

}  // namespace cpu

std::unique_ptr<BackendMemory> cpuMemory(const BackendOptions& options) { return std::make_unique<cpu::CpuMemory>(options); }

}  // namespace longlive
