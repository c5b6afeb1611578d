#include "planning.h"

#include <algorithm>

#include "cpu/conv.h"
#include "cuda/attention_plan.h"
#include "cuda/operand.h"

namespace longlive {

namespace {

constexpr size_t kAllocation = 512;  // what a device rounds up to

struct Counted final : Storage {
  Counted(size_t& held, size_t n) : held_(held) {
    data = reinterpret_cast<void*>(uintptr_t{1} << 40);  // tensors of nothing; never looked at
    bytes = n, counted_ = (std::max<size_t>(n, 1) + kAllocation - 1) / kAllocation * kAllocation;
    held_ += counted_;
  }
  ~Counted() override { held_ -= counted_; }

 private:
  size_t& held_;
  size_t counted_;
};

struct PlannedLinear final : LinearWeights {
  std::vector<std::unique_ptr<Storage>> parts;
  bool eightBit = false, weightsOnly = false;
};
struct PlannedConv final : ConvWeights {
  std::vector<std::unique_ptr<Storage>> parts;
};

}  // namespace

std::unique_ptr<Storage> PlanningBackend::allocate(size_t bytes) {
  auto storage = std::make_unique<Counted>(held_, bytes);
  highest_ = std::max(highest_, held_);
  return storage;
}

size_t PlanningBackend::working() const {
  if (!cuda_) return 0;
  size_t bytes = scratch_.size() * static_cast<size_t>(2 * cuda::kStagingBytes + cuda::kWorkspaceBytes);
  for (const LaneScratch& s : scratch_) bytes += s.rows.held + s.wide.held;
  return bytes;
}

std::unique_ptr<LinearWeights> PlanningBackend::loadLinear(const StoredMatrix& m, const float* bias, EightBit eightBit) {
  const bool weightsOnly = eightBit == EightBit::Weights && m.dtype == DType::I8 && precision_ != Precision::FP32;
  return matrix(m.out, m.in, bias != nullptr, eightBit == EightBit::Full && isEightBit(precision_), weightsOnly);
}

std::unique_ptr<LinearWeights> PlanningBackend::prepareLinear(const float*, const float* bias, int64_t out, int64_t in, bool sensitive) {
  return matrix(out, in, bias != nullptr, !sensitive && isEightBit(precision_), false);
}

std::unique_ptr<LinearWeights> PlanningBackend::matrix(int64_t out, int64_t in, bool bias, bool eightBit, bool weightsOnly) {
  auto w = std::make_unique<PlannedLinear>();
  const Precision format = weightsOnly ? Precision::INT8 : eightBit ? precision_ : withoutEightBit(precision_);
  const cuda::Operand o = cuda::operandFor(format, in);
  w->in = in, w->out = out, w->eightBit = eightBit && cuda::isEightBit(o), w->weightsOnly = weightsOnly && cuda::isEightBit(o);
  const size_t rows = static_cast<size_t>(out);
  const auto hold = [&](size_t bytes) {
    w->parts.push_back(allocate(bytes));
    w->bytes += bytes;
  };
  if (!cuda_) {
    hold(cpu::linearBytes(out, in, format, weightsOnly));
    return w;
  }
  hold(rows * static_cast<size_t>(cuda::strideFor(o, in) * cuda::sizeOf(o)));
  if (cuda::isEightBit(o)) hold(rows * sizeof(float));
  if (bias) hold(rows * sizeof(float)), hold(rows * sizeOf(activationType()));
  return w;
}

std::unique_ptr<ConvWeights> PlanningBackend::prepareConv(const float*, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw,
                                                          bool sensitive, bool upsample2x) {
  auto w = std::make_unique<PlannedConv>();
  w->in = in, w->out = out, w->kt = kt, w->kh = kh, w->kw = kw;
  w->input = sensitive ? DType::F32 : convType();
  if (cuda_) {
    const cuda::Operand o = cuda::operandFor(sensitive ? Precision::FP32 : withoutEightBit(precision_), in);
    const int64_t depth = in * kt * (upsample2x ? 4 : kh * kw), rows = (upsample2x ? 4 : 1) * out;
    w->parts.push_back(allocate(static_cast<size_t>(rows * cuda::strideFor(o, depth) * cuda::sizeOf(o))));
    if (bias) w->parts.push_back(allocate(static_cast<size_t>(out) * sizeof(float)));
  } else {
    w->parts.push_back(allocate(cpu::largestConvBytes(out, in, kt, kh, kw, upsample2x)));
  }
  for (const auto& part : w->parts) w->bytes += part->bytes;
  return w;
}

DType PlanningBackend::linearType(int64_t width) const { return cuda_ ? cuda::linearType(precision_, width) : activationType(); }

// Scratch as cuda_backend.cpp takes it: quantised rows, a product that its epilogue reads beside another operand or that is still to be
// quantised, a matrix made wide for one product.
void PlanningBackend::linear(const LinearRows& out, const LinearRows& in, const LinearWeights& weights, const Epilogue& e) {
  const auto& w = static_cast<const PlannedLinear&>(weights);
  const size_t rows = static_cast<size_t>(in.values.elements() / w.in);
  const size_t quantised = w.eightBit && !in.scale ? cuda::padded(rows * static_cast<size_t>(w.in)) + cuda::padded(rows * sizeof(float)) : 0;
  const bool apart = out.scale || (w.eightBit ? precision_ == Precision::FP8 : e.multiply || e.residual);
  scratch().rows.need(quantised + (apart ? rows * static_cast<size_t>(w.out) * sizeOf(activationType()) : 0));
  if (w.weightsOnly) scratch().wide.need(static_cast<size_t>(w.out * cuda::strideFor(cuda::Operand::Bf16, w.in)) * 2);
}

// As if the chip had fp8, which takes more.
void PlanningBackend::attention(const AttentionArgs& a) {
  if (cuda_ && attention_ == AttentionArithmetic::Int8 && cuda::fitsEightBit(a)) scratch().rows.need(cuda::layoutEightBit(a, true).bytes);
}

bool PlanningBackend::quantisesQueries(int64_t width, int64_t heads) const {
  return cuda_ && attention_ == AttentionArithmetic::Int8 && cuda::canQuantiseQueries(width, heads);
}

int64_t PlanningBackend::keptBytes(int64_t rows, int64_t page, int64_t width, int64_t heads) const {
  if (!cuda_ || attention_ != AttentionArithmetic::Int8 || !cuda::canKeep(rows, page, heads, width / heads)) return 0;
  return static_cast<int64_t>(cuda::layoutKept(rows, page, heads, width / heads, {cuda::EightBitKernel::Hopper, true}).bytes);
}

void PlanningBackend::keep(const KeptKeys&, const Tensor& k, const Tensor&, int64_t, std::span<const KeyRange>, bool) {
  scratch().rows.need(cuda::eightBitSums(k.shape[-1]));
}

void requireCudaArithmetic(const BackendOptions& options) {
  if (options.attention == AttentionArithmetic::Int8 && options.precision == Precision::FP32) {
    throw Error(ErrorCode::InvalidArgument, "attention \"int8\" is not for precision \"fp32\": load with attention \"full\", or with another precision");
  }
}

}  // namespace longlive
