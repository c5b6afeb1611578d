// What the CUDA backend takes of a GPU's memory. Plain C++: also of builds without CUDA.
#include "backend_memory.h"

#include "attention_plan.h"
#include "key_values_plan.h"
#include "library_plan.h"
#include "longlive/error.h"
#include "operand.h"
#include "traits.h"

namespace longlive {

namespace cuda {

class CudaMemory final : public BackendMemory {
 public:
  explicit CudaMemory(const BackendOptions& options)
      : BackendMemory(traitsOf(options.precision, Features::parse(options.isa))), features_(Features::parse(options.isa)), attention_(options.attention) {}

  DType linearType(int64_t width) const override { return cuda::linearType(precision(), width); }

  std::vector<size_t> linear(const LinearShape& w) const override {
    const Operand o = operandOf(w);
    const size_t rows = static_cast<size_t>(w.out);
    std::vector<size_t> sizes{rows * static_cast<size_t>(strideFor(o, w.in) * cuda::sizeOf(o))};
    if (cuda::isEightBit(o)) sizes.push_back(rows * sizeof(float));
    if (w.bias) sizes.insert(sizes.end(), {rows * sizeof(float), rows * longlive::sizeOf(traits().activation)});
    return sizes;
  }
  std::vector<size_t> conv(const ConvShape& w) const override {
    const Operand o = operandFor(w.sensitive ? Precision::FP32 : withoutEightBit(precision()), w.in);
    const int64_t depth = w.in * w.kt * (w.upsample2x ? 4 : w.kh * w.kw), rows = (w.upsample2x ? 4 : 1) * w.out;
    std::vector<size_t> sizes{static_cast<size_t>(rows * strideFor(o, depth) * cuda::sizeOf(o))};
    if (w.bias) sizes.push_back(static_cast<size_t>(w.out) * sizeof(float));
    return sizes;
  }

  size_t keyValues(const KeyValueLayout& layout) const override {
    Arena counting;
    takeKeysAndValues(counting, layout, traits().keyValue);
    takeKept(counting, layout, eightBit(), kLargest);
    return counting.bytes();
  }
  size_t keyValuesWorking(const KeyValueLayout& layout) const override {
    Arena counting;
    takeWorking(counting, layout, traits().keyValue, eightBit());
    return counting.bytes();
  }

  size_t reserve() const override { return size_t{512} << 20; }
  size_t fixed() const override {
    const size_t lanes = features_.lanes ? static_cast<size_t>(Lane::Count) : 1;
    return lanes * static_cast<size_t>(2 * kStagingBytes + (features_.portable ? 0 : kWorkspaceBytes));
  }
  // As cuda_backend.cpp takes it: quantized rows, a product that its epilogue reads beside another operand or that is still to be
  // quantized, a matrix made wide for one product.
  Scratch linearScratch(const LinearShape& w, const LinearRows& out, const LinearRows& in, const Epilogue& e) const override {
    const size_t rows = static_cast<size_t>(in.values.elements() / w.in);
    const bool bytes = !isWidened(w) && cuda::isEightBit(operandOf(w));
    const size_t quantized = bytes && !in.scale ? padded(rows * static_cast<size_t>(w.in)) + padded(rows * sizeof(float)) : 0;
    const bool library = !features_.portable && !bytes && planLibraryProduct(out.values, in.values, e).apart;
    const bool apart = out.scale || (bytes && precision() == Precision::FP8) || library;
    Scratch s{.rows = quantized + (apart ? rows * static_cast<size_t>(w.out) * longlive::sizeOf(traits().activation) : 0)};
    if (isWidened(w) && cuda::isEightBit(operandOf(w))) s.matrix = static_cast<size_t>(w.out * strideFor(Operand::Bf16, w.in)) * 2;
    return s;
  }
  Scratch attentionScratch(const AttentionArgs& a) const override { return forAttention(SelfAttention(a)); }
  Scratch appendScratch(const KeyValueLayout& layout, const AppendArgs&) const override {
    return {keepsPages(layout, eightBit()) ? eightBitSums(layout.width) : 0};
  }
  Scratch attendScratch(const KeyValueLayout& layout, const AttendArgs& a) const override {
    return forAttention(shapesOf(layout, a, traits().keyValue, eightBit()));
  }

 private:
  // As if the chip had fp8, which takes more.
  static constexpr EightBitFormat kLargest{EightBitKernel::Hopper, true};

  Scratch forAttention(const SelfAttention& a) const { return {eightBit() && fitsEightBit(a) ? layoutEightBit(a, kLargest.fp8).bytes : 0}; }
  Precision precision() const { return traits().precision; }
  bool eightBit() const { return attention_ == AttentionArithmetic::Int8 && !features_.plain; }
  bool isWidened(const LinearShape& w) const { return w.eightBit == EightBit::Weights && w.stored == DType::I8 && precision() != Precision::FP32; }
  Operand operandOf(const LinearShape& w) const {
    const bool bytes = w.eightBit == EightBit::Full && longlive::isEightBit(precision());
    return operandFor(isWidened(w) ? Precision::INT8 : bytes ? precision() : withoutEightBit(precision()), w.in);
  }

  Features features_;
  AttentionArithmetic attention_;
};

}  // namespace cuda

void requireCudaArithmetic(const BackendOptions& options) {
  if (options.keyValues != KvStorage::Full) throw Error(ErrorCode::InvalidArgument, "kv \"int8\" is for device \"cpu\": load with kv \"full\"");
  if (options.attention == AttentionArithmetic::Int8 && options.precision == Precision::FP32) {
    throw Error(ErrorCode::InvalidArgument, "attention \"int8\" is not for precision \"fp32\": load with attention \"full\", or with another precision");
  }
}

std::unique_ptr<BackendMemory> cudaMemory(const BackendOptions& options) {
  requireCudaArithmetic(options);
  return std::make_unique<cuda::CudaMemory>(options);
}

}  // namespace longlive
