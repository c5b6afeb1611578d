#include "cpu_backend.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "cpu_key_values.h"
#include "longlive/error.h"
#include "require.h"

namespace longlive {

namespace cpu {

namespace {

constexpr std::align_val_t kAlignment{64};

struct HostStorage : Storage {
  ~HostStorage() override {
    if (data) ::operator delete(data, kAlignment);
  }
};

int checkThreads(int threads) {
  if (threads < 0 || threads > 1024) throw Error(ErrorCode::InvalidArgument, "threads must be between 0 and 1024");
  return threads;
}

Precision checkArithmetic(const BackendOptions& o) {
  if (o.precision == Precision::FP8) throw Error(ErrorCode::InvalidArgument, "precision \"fp8\" is for device \"cuda\": load with precision \"int8\" or \"bf16\"");
  if (o.attention != AttentionArithmetic::Full) throw Error(ErrorCode::InvalidArgument, "attention \"int8\" is for device \"cuda\": load with attention \"full\"");
  return o.precision;
}

const float* floats(const Tensor& t) {
  require(t.dtype == DType::F32, "the CPU backend keeps activations in F32");
  return t.as<float>();
}

int64_t rowsOf(const Tensor& t) { return t.elements() / t.shape[-1]; }

RopeShape shapeOf(const RotationAt& at, int64_t heads) {
  const RopeTables& r = *at.tables;
  return {floats(r.temporal), floats(r.row), floats(r.column), r.temporal.shape[1], r.row.shape[1], r.column.shape[1],
          r.gridHeight, r.gridWidth, heads, at.temporal};
}

}  // namespace

BackendTraits traitsOf(const BackendOptions& options) {
  const Precision precision = checkArithmetic(options);
  BackendTraits t;
  t.precision = precision;
  t.keyValue = precision == Precision::FP32 ? DType::F32 : DType::BF16;
  t.conv = convInputType(chooseIsa(options.isa), precision);
  return t;
}

bool isWidened(EightBit eightBit, DType stored, Precision precision) {
  return eightBit == EightBit::Weights && stored == DType::I8 && precision != Precision::FP32;
}

Precision formatOf(EightBit eightBit, bool widened, Precision precision) {
  const bool bytes = widened || (eightBit == EightBit::Full && precision == Precision::INT8);
  return bytes ? Precision::INT8 : precision == Precision::INT8 ? Precision::BF16 : precision;
}

thread_local Lane CpuBackend::lane_ = Lane::Main;

CpuBackend::CpuBackend(const BackendOptions& options)
    : Backend(traitsOf(options)), pool_(checkThreads(options.threads)), textPool_(options.threads), context_(pool_, chooseIsa(options.isa)),
      textContext_(textPool_, context_.isa) {}

DeviceInfo CpuBackend::info() const {
  const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  return {processorName(), nameOf(context_.isa), memory, 0, pool_.scratchBytes() + textPool_.scratchBytes(), pool_.threads()};
}

std::unique_ptr<Storage> CpuBackend::allocate(size_t bytes) {
  auto storage = std::make_unique<HostStorage>();
  const size_t rounded = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
  storage->data = ::operator new(rounded, kAlignment, std::nothrow);
  if (!storage->data) throw Error(ErrorCode::OutOfMemory, "cannot allocate " + std::to_string(bytes) + " bytes of memory");
  std::memset(storage->data, 0, rounded);
  storage->bytes = bytes;
  return storage;
}

void CpuBackend::upload(const Tensor& out, const float* host) {
  copy(out, {const_cast<float*>(host), DType::F32, out.shape});
}

void CpuBackend::download(float* host, const Tensor& in) { copy({host, DType::F32, in.shape}, in); }

void CpuBackend::copyOut(void* host, const Tensor& in) {
  if (in.bytes()) std::memcpy(host, in.data, in.bytes());
}

void CpuBackend::fill(const Tensor& out, uint8_t byte) {
  if (out.bytes()) std::memset(out.data, byte, out.bytes());
}

std::unique_ptr<LinearWeights> CpuBackend::loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) {
  const bool widened = isWidened(eightBit, weight.dtype, precision());
  return packLinear(context(), weight, bias, formatOf(eightBit, widened, precision()), widened);
}

std::unique_ptr<ConvWeights> CpuBackend::prepareConv(const float* weight, const float* bias, int64_t out, int64_t in, int kt,
                                                     int kh, int kw, bool sensitive, bool upsample2x, Bounds bounds) {
  return packConv(context(), sensitive ? Precision::FP32 : precision(), weight, bias, out, in, kt, kh, kw, upsample2x, bounds);
}

void CpuBackend::linear(const LinearRows& outRows, const LinearRows& inRows, const LinearWeights& w, const Epilogue& e) {
  const Tensor &out = outRows.values, &in = inRows.values;
  require(in.shape[-1] == w.in && out.shape[-1] == w.out && rowsOf(in) == rowsOf(out), "linear: shapes do not match");
  LinearEpilogue epilogue;
  epilogue.activation = e.activation;
  if (e.multiply) epilogue.multiply = floats(e.multiply);
  if (e.residual) epilogue.residual = floats(e.residual);
  if (e.gate) epilogue.gate = floats(e.gate), epilogue.gateRows = e.gate.elements() / w.out;
  cpu::linear(context(), const_cast<float*>(floats(out)), floats(in), rowsOf(in),
              static_cast<const PackedLinear&>(w), epilogue);
}

void CpuBackend::layerNorm(const LinearRows& out, const Tensor& in, NormScale kind, const Tensor& scale, const Tensor& shift, float eps) {
  const int64_t rows = rowsOf(in), width = in.shape[-1];
  float* to = const_cast<float*>(floats(out.values));
  if (kind == NormScale::Affine) return cpu::layerNormAffine(context(), to, floats(in), rows, width, floats(scale), floats(shift), eps);
  cpu::layerNormModulate(context(), to, floats(in), rows, width, floats(scale), floats(shift), scale.elements() / width, eps);
}

void CpuBackend::rmsNorm(const Tensor& out, const Tensor& in, const Tensor& weight, float eps) {
  cpu::rmsNorm(context(), out.data, out.dtype, floats(in), rowsOf(in), in.shape[-1], floats(weight), eps);
}

void CpuBackend::rmsNormRope(const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads, const RotationAt& at) {
  cpu::rmsNormRope(context(), out.data, out.dtype, floats(in), rowsOf(in), in.shape[-1], floats(weight), eps, shapeOf(at, heads));
}

void CpuBackend::rope(const Tensor& out, const Tensor& in, int64_t heads, const RotationAt& at) {
  cpu::rope(context(), out.data, out.dtype, in.data, in.dtype, rowsOf(in), in.shape[-1], shapeOf(at, heads));
}

std::unique_ptr<KeyValues> CpuBackend::makeKeyValues(const KeyValueLayout& layout) { return std::make_unique<CpuKeyValues>(*this, layout); }

void CpuBackend::attention(const AttentionArgs& a) {
  const int64_t width = a.q.shape[-1];
  require(a.k.dtype == a.v.dtype && a.k.shape[-1] == width && a.v.shape[-1] == width, "attention: shapes do not match");
  cpu::attention(context(), {const_cast<float*>(floats(a.out)), floats(a.q), a.k.data, a.v.data, a.k.dtype, a.visible, rowsOf(a.q),
                            a.heads, width / a.heads, a.scale, a.bias ? floats(a.bias) : nullptr, a.lastKeyLogBias});
}

void CpuBackend::toBytes(const Tensor& bytes, const Tensor& scales, const Tensor& in) {
  require(bytes.dtype == DType::I8 && bytes.shape == in.shape && rowsOf(scales) == rowsOf(in), "toBytes: shapes do not match");
  cpu::toBytes(context(), bytes.as<int8_t>(), const_cast<float*>(floats(scales)), floats(in), rowsOf(in), in.shape[-1], scales.shape[-1]);
}

void CpuBackend::fromBytes(const Tensor& out, const Tensor& bytes, const Tensor& scales) {
  require(bytes.dtype == DType::I8 && bytes.shape == out.shape && rowsOf(scales) == rowsOf(out), "fromBytes: shapes do not match");
  cpu::fromBytes(context(), out.data, out.dtype, bytes.as<int8_t>(), floats(scales), rowsOf(out), out.shape[-1], scales.shape[-1]);
}

void CpuBackend::mixBytes(const Tensor& bytes, const Tensor& scales, const Tensor& otherBytes, const Tensor& otherScales, float s) {
  require(bytes.shape == otherBytes.shape && scales.shape == otherScales.shape && rowsOf(bytes) == rowsOf(scales), "mixBytes: shapes do not match");
  cpu::mixBytes(context(), bytes.as<int8_t>(), const_cast<float*>(floats(scales)), otherBytes.as<int8_t>(), floats(otherScales), rowsOf(bytes), bytes.shape[-1],
                scales.shape[-1], s);
}

void CpuBackend::add(const Tensor& out, const Tensor& a, const Tensor& b) {
  cpu::add(context(), const_cast<float*>(floats(out)), floats(a), floats(b), a.elements(), b.elements());
}

void CpuBackend::activate(const Tensor& out, const Tensor& in, Activation a) {
  if (a == Activation::TanhClamp) return cpu::tanhClamp(context(), out, in);
  cpu::activate(context(), const_cast<float*>(floats(out)), floats(in), in.elements(), a);
}

}  // namespace cpu

std::unique_ptr<Backend> makeCpuBackend(const BackendOptions& options) {
  if (options.deviceIndex != 0) {
    throw Error(ErrorCode::InvalidArgument, "there is no CPU device " + std::to_string(options.deviceIndex) + ": a machine has one, 0");
  }
  return std::make_unique<cpu::CpuBackend>(options);
}

}  // namespace longlive
