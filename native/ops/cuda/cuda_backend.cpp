#include "cuda_backend.h"

#include <algorithm>
#include <utility>

#include "gemm.h"
#include "graph.h"
#include "cuda_key_values.h"
#include "launch.h"
#include "library_plan.h"
#include "traits.h"
#include "weights.h"

namespace longlive {

namespace cuda {

namespace {

struct DeviceStorage final : Storage {
  ~DeviceStorage() override {
    if (data) cudaFree(data);
  }
};

struct PinnedStorage final : Storage {
  ~PinnedStorage() override {
    if (data) cudaFreeHost(data);
  }
};

struct EventMark final : Mark {
  EventMark() { check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event"); }
  ~EventMark() override { cudaEventDestroy(event); }
  cudaEvent_t event = nullptr;
};

std::unique_ptr<DeviceStorage> deviceMemory(size_t bytes) {
  auto s = std::make_unique<DeviceStorage>();
  const cudaError_t status = cudaMalloc(&s->data, std::max<size_t>(bytes, 16));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: the device is healthy
    throw Error(ErrorCode::OutOfMemory, "cannot allocate " + std::to_string(bytes >> 20) + " MiB on the GPU");
  }
  check(status, "cudaMalloc");
  s->bytes = bytes;
  return s;
}

// The operand that bytes of a package are as they are; F32 for all others.
Operand operandOf(DType stored) { return stored == DType::I8 ? Operand::Int8 : stored == DType::F8_E4M3 ? Operand::Fp8 : Operand::F32; }

bool hasNan(const char* e4m3, int64_t n) {
  return std::any_of(e4m3, e4m3 + n, [](char bits) { return (bits & 0x7f) == 0x7f; });
}

Gather matrixOf(const Tensor& in, int64_t rows, int64_t depth) {
  Gather g;
  g.in = in.data;
  g.gridWidth = g.width = static_cast<int>(rows);
  g.channels = static_cast<int>(depth);
  return g;
}

}  // namespace

struct CudaLinear final : LinearWeights {
  std::unique_ptr<Storage> data, bias, libraryBias, scale;  // libraryBias: in the activations' type
  PackedMatrix matrix;
  bool widened = false;  // kept in 8 bits, multiplied in bf16
};

struct CudaConv final : ConvWeights {
  std::unique_ptr<Storage> data, bias;
  PackedMatrix matrix;
  bool upsample2x = false;
};

// -- the device -------------------------------------------------------------------------------------------------------------

CudaBackend::CudaBackend(const BackendOptions& options)
    : Backend(traitsOf(options.precision, Features::parse(options.isa))), attention_(options.attention), features_(Features::parse(options.isa)),
      device_(options.deviceIndex) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    throw Error(ErrorCode::Unavailable, std::string("no CUDA device can be used: ") +
                                            (status == cudaSuccess ? "the driver reports none" : cudaGetErrorString(status)));
  }
  if (device_ < 0 || device_ >= count) {
    throw Error(ErrorCode::InvalidArgument, "there is no CUDA device " + std::to_string(device_) + ": the machine has " + std::to_string(count) + ", counted from 0");
  }
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, device_), "cudaGetDeviceProperties");
  if (p.major < 8) throw Error(ErrorCode::Unavailable, std::string(p.name) + " is too old: compute capability 8.0 or higher is required");
  computeMajor_ = p.major;
  check(cudaSetDevice(device_), "cudaSetDevice");
  fp8_ = p.major * 10 + p.minor >= 89 && hasFp8();
  nativeFp8_ = fp8_ && (p.major == 8 || p.major >= 12);
  requireArithmetic(options, p);
  info_ = {p.name, "sm_" + std::to_string(p.major * 10 + p.minor), static_cast<int64_t>(p.totalGlobalMem), 0, 0, p.multiProcessorCount};
  if (features_.plain) attentionKernel_ = AttentionKernel::Plain;
  else if (features_.portable) attentionKernel_ = AttentionKernel::Portable;
  if (!features_.portable && (lt_ = CublasLt::open())) info_.isa += "+cublaslt";
  openLanes();
}

void CudaBackend::requireArithmetic(const BackendOptions& options, const cudaDeviceProp& p) const {
  if (options.precision == Precision::FP8 && !fp8_) {
    const std::string chip = std::string(p.name) + " (compute capability " + std::to_string(p.major) + "." + std::to_string(p.minor) + ")";
    throw Error(ErrorCode::InvalidArgument, (p.major * 10 + p.minor >= 89 ? "this build has no fp8 code for " + chip + ": build it with that chip in CUDA_ARCHS, or"
                                                                          : chip + " has no fp8, which needs 8.9 or higher:") +
                                                " load with precision \"int8\" or \"bf16\"");
  }
}

// Pictures and text are waited for by somebody: their kernels go first where a multiprocessor becomes free.
void CudaBackend::openLanes() {
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities");
  for (size_t i = 0; i < (features_.lanes ? lanes_.size() : 1); ++i) {
    check(cudaStreamCreateWithPriority(&lanes_[i].stream, cudaStreamNonBlocking, i == 0 ? least : greatest), "stream");
    lanes_[i].staging = std::make_unique<Staging>();
    if (lt_) lanes_[i].workspace = deviceMemory(kWorkspaceBytes);
  }
}

CudaBackend::LaneState::~LaneState() {
  if (!stream) return;
  cudaStreamSynchronize(stream);
  scratch.clear(), wide.clear(), workspace.reset(), staging.reset();
  cudaStreamDestroy(stream);
}

// For the lanes, which go after this.
CudaBackend::~CudaBackend() { cudaSetDevice(device_); }

DeviceInfo CudaBackend::info() const {
  check(cudaSetDevice(device_), "cudaSetDevice");
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  DeviceInfo info = info_;
  info.freeMemory = static_cast<int64_t>(free);
  for (const LaneState& l : lanes_) {
    if (l.staging) info.working += 2 * static_cast<size_t>(kStagingBytes);
    if (l.workspace) info.working += l.workspace->bytes;
    for (const auto* held : {&l.scratch, &l.wide})
      for (const auto& s : *held) info.working += s->bytes;
  }
  return info;
}

cudaStream_t CudaBackend::stream() const {
  check(cudaSetDevice(device_), "cudaSetDevice");
  return lane().stream;
}

// -- memory -----------------------------------------------------------------------------------------------------------------

// Zeroed for every lane, so the host waits; nothing allocates inside a block.
std::unique_ptr<Storage> CudaBackend::allocate(size_t bytes) {
  const cudaStream_t s = stream();
  auto storage = deviceMemory(bytes);
  check(cudaMemsetAsync(storage->data, 0, std::max<size_t>(bytes, 1), s), "cudaMemset");
  check(cudaStreamSynchronize(s), "cudaMemset");
  return storage;
}

std::unique_ptr<Storage> CudaBackend::allocateHost(size_t bytes) {
  auto storage = std::make_unique<PinnedStorage>();
  check(cudaSetDevice(device_), "cudaSetDevice");
  check(cudaMallocHost(&storage->data, std::max<size_t>(bytes, 16)), "pinned memory");
  storage->bytes = bytes;
  return storage;
}

std::unique_ptr<Storage> CudaBackend::uploaded(const void* host, size_t bytes) {
  const cudaStream_t s = stream();
  auto storage = deviceMemory(bytes);
  staging().uploadBytes(s, storage->data, host, bytes);
  return storage;
}

void* CudaBackend::grown(std::vector<std::unique_ptr<Storage>>& memory, size_t bytes) {
  stream();
  if (memory.empty() || memory.back()->bytes < bytes) memory.push_back(deviceMemory(bytes));
  return memory.back()->data;
}

void CudaBackend::fill(const Tensor& out, uint8_t byte) {
  if (out.bytes()) check(cudaMemsetAsync(out.data, byte, out.bytes(), stream()), "cudaMemset");
}

void CudaBackend::copyOut(void* host, const Tensor& in) {
  if (in.bytes()) check(cudaMemcpyAsync(host, in.data, in.bytes(), cudaMemcpyDeviceToHost, stream()), "copyOut");
}

void CudaBackend::synchronize() {
  check(cudaSetDevice(device_), "cudaSetDevice");
  for (const LaneState& l : lanes_)
    if (l.stream) check(cudaStreamSynchronize(l.stream), "the device failed");
}

// -- order ------------------------------------------------------------------------------------------------------------------

thread_local Lane CudaBackend::lane_ = Lane::Main;

Lane CudaBackend::use(Lane lane) { return std::exchange(lane_, lane); }

// An event belongs to the device that is current when it is made, and streams of others refuse it.
std::unique_ptr<Mark> CudaBackend::makeMark() {
  check(cudaSetDevice(device_), "cudaSetDevice");
  return std::make_unique<EventMark>();
}

void CudaBackend::mark(Mark& m) { check(cudaEventRecord(static_cast<EventMark&>(m).event, stream()), "mark"); }

void CudaBackend::follow(const Mark& m) { check(cudaStreamWaitEvent(stream(), static_cast<const EventMark&>(m).event, 0), "follow"); }

void CudaBackend::wait(const Mark& m) { check(cudaEventSynchronize(static_cast<const EventMark&>(m).event), "the device failed"); }

void CudaBackend::replay(std::unique_ptr<Recording>& recording, uint64_t version, const std::function<void()>& work) {
  if (!features_.graphs) return work();
  if (!recording) recording = std::make_unique<GraphRecording>();
  auto& graph = static_cast<GraphRecording&>(*recording);
  const bool before = graph.refused();
  graph.run(stream(), version, work);
  if (graph.refused() && !before) countRefusedRecording();
}

// -- weights ----------------------------------------------------------------------------------------------------------------

// Rows go to the device as they are packed, a few at a time. Bytes of the package that are kept alone stay bytes.
std::unique_ptr<LinearWeights> CudaBackend::loadLinear(const StoredMatrix& m, const float* bias, EightBit eightBit) {
  auto w = std::make_unique<CudaLinear>();
  w->in = m.in, w->out = m.out;
  const bool bytes = eightBit == EightBit::Full && isEightBit(precision());
  w->widened = eightBit == EightBit::Weights && m.dtype == DType::I8 && precision() != Precision::FP32 && operandFor(Precision::INT8, m.in) == Operand::Int8;
  const Precision format = w->widened ? Precision::INT8 : bytes ? precision() : withoutEightBit(precision());
  const Operand operand = operandFor(format, m.in);
  const int64_t stride = strideFor(operand, m.in), rowBytes = stride * sizeOf(operand), step = std::max<int64_t>(1, (8 << 20) / rowBytes);
  w->data = deviceMemory(static_cast<size_t>(m.out * rowBytes));
  std::vector<float> values(static_cast<size_t>(std::min(step, m.out) * m.in)), scales;
  for (int64_t first = 0; first < m.out; first += step) {
    const int64_t rows = std::min(step, m.out - first);
    HostMatrix packed;
    if (isEightBit(operand) && operand == operandOf(m.dtype)) {
      if (operand == Operand::Fp8 && hasNan(m.row(first), rows * m.in)) refuseNotFinite(m);
      packed = packBytes(m.rows(first, rows));
    } else {
      for (int64_t r = 0; r < rows; ++r) toFloat(values.data() + r * m.in, m, first + r);
      if (!allFinite(values.data(), rows * m.in)) refuseNotFinite(m);
      packed = packRows(values.data(), rows, m.in, operand);
    }
    staging().uploadBytes(stream(), static_cast<char*>(w->data->data) + first * rowBytes, packed.bytes.data(), packed.bytes.size());
    scales.insert(scales.end(), packed.columnScale.begin(), packed.columnScale.end());
  }
  if (!scales.empty()) w->scale = uploaded(scales.data(), scales.size() * sizeof(float));
  if (bias) {
    w->bias = uploaded(bias, static_cast<size_t>(m.out) * sizeof(float));
    w->libraryBias = allocate(static_cast<size_t>(m.out) * sizeOf(activationType()));
    upload({w->libraryBias->data, activationType(), {m.out}}, bias);
  }
  w->matrix = {w->data->data, operand, m.out, stride, w->bias ? static_cast<const float*>(w->bias->data) : nullptr,
               w->scale ? static_cast<const float*>(w->scale->data) : nullptr};
  for (const Storage* s : {w->data.get(), w->scale.get(), w->bias.get(), w->libraryBias.get()}) w->bytes += s ? s->bytes : 0;
  return w;
}

std::unique_ptr<ConvWeights> CudaBackend::prepareConv(const float* weight, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw,
                                                      bool sensitive, bool upsample2x, Bounds) {
  require(kt > 0 && kh > 0 && kw > 0 && (!upsample2x || (kh == kw && (kh == 3 || kh == 4))), "conv: unknown kernel");
  auto w = std::make_unique<CudaConv>();
  w->in = in, w->out = out, w->kt = kt, w->kh = kh, w->kw = kw, w->upsample2x = upsample2x;
  w->input = sensitive ? DType::F32 : convType();
  // Convolutions stay bf16: their activations have no per-row scale.
  const Operand operand = operandFor(sensitive ? Precision::FP32 : withoutEightBit(precision()), in);
  const std::vector<float> rows = convRows(weight, out, in, kt, kh, kw, upsample2x);
  const int64_t columns = (upsample2x ? 4 : 1) * out;
  const HostMatrix m = packRows(rows.data(), columns, static_cast<int64_t>(rows.size()) / columns, operand);
  w->data = uploaded(m.bytes.data(), m.bytes.size());
  if (bias) w->bias = uploaded(bias, static_cast<size_t>(out) * sizeof(float));
  w->matrix = {w->data->data, operand, out, m.stride, w->bias ? static_cast<const float*>(w->bias->data) : nullptr, nullptr};
  w->bytes = w->data->bytes + (w->bias ? w->bias->bytes : 0);
  return w;
}

// -- linear -----------------------------------------------------------------------------------------------------------------

CudaBackend::Operands CudaBackend::operandsFor(const LinearRows& in, Operand operand, size_t spare) {
  const Tensor& values = in.values;
  if (in.scale || !isEightBit(operand)) return {in, spare ? scratch(spare) : nullptr};
  const size_t bytes = padded(static_cast<size_t>(values.elements())), scales = padded(static_cast<size_t>(rowsOf(values)) * sizeof(float));
  auto* memory = static_cast<char*>(scratch(bytes + scales + spare));
  const LinearRows rows{{memory, linearType(values.shape[-1]), values.shape}, {memory + bytes, DType::F32, {rowsOf(values)}}};
  quantizeRows(stream(), rows, values);
  return {rows, memory + bytes + scales};
}

// What cuBLASLt can do in its epilogue it does; the rest is one elementwise pass. The library adds a plain residual to the
// unrounded sum: one rounding less than spec 2.8. With fp8 it may have no GELU, and on most chips nothing at all.
bool CudaBackend::linearByLibrary(const Tensor& out, const Operands& operands, const CudaLinear& w, const PackedMatrix& matrix, const Epilogue& e) {
  const Tensor &in = operands.in.values, &scale = operands.in.scale;
  if (!lt_ || matrix.operand == Operand::Int8 || out.dtype != activationType() || (!scale && in.dtype != activationType())) return false;
  if ((matrix.operand == Operand::F32) != (activationType() == DType::F32)) return false;
  if (reinterpret_cast<uintptr_t>(scale.data) % 16 != 0) return false;  // of rows from the middle of others
  LibraryProduct inside = planLibraryProduct(out, in, e);
  Tensor product = out;
  if (inside.apart) product.data = operands.spare ? operands.spare : scratch(out.bytes());
  LtProduct p{product.data, in.data, matrix.data, w.libraryBias ? w.libraryBias->data : nullptr, inside.add ? e.residual.data : nullptr,
              rowsOf(in), w.out, w.in, matrix.stride, activationType(), in.dtype, inside.gelu, scale.as<float>(), matrix.columnScale};
  if (!lt_->multiply(stream(), lane().workspace->data, p)) {
    if (!inside.gelu) return false;
    p.gelu = inside.finished = false;
    if (!lt_->multiply(stream(), lane().workspace->data, p)) return false;
  }
  if (!inside.finished) finishLinear(stream(), out, product, e);
  return true;
}

PackedMatrix CudaBackend::matrixFor(const CudaLinear& w) {
  if (!w.widened) return w.matrix;
  PackedMatrix wide = w.matrix;
  wide.operand = Operand::Bf16, wide.columnScale = nullptr, wide.stride = strideFor(Operand::Bf16, w.in);
  wide.data = grown(lane().wide, static_cast<size_t>(w.out * wide.stride) * 2);
  widenRows(stream(), const_cast<void*>(wide.data), wide.stride, w.matrix);
  return wide;
}

void CudaBackend::linear(const LinearRows& out, const LinearRows& in, const LinearWeights& weights, const Epilogue& e) {
  const auto& w = static_cast<const CudaLinear&>(weights);
  const int64_t rows = rowsOf(in.values);
  require(in.values.shape[-1] == w.in && out.values.shape[-1] == w.out && rowsOf(out.values) == rows, "linear: shapes do not match");
  if (rows == 0) return;
  const PackedMatrix matrix = matrixFor(w);
  require(!in.scale || operandOf(in.values.dtype) == matrix.operand, "linear: rows in 8 bits are for matrices of their own kind");
  const size_t product = static_cast<size_t>(rows * w.out) * sizeOf(activationType());
  const Operands operands = operandsFor(in, matrix.operand, out.scale || matrix.operand == Operand::Fp8 ? product : 0);
  const auto run = [&](const Tensor& to, const Epilogue& epilogue) {
    if (linearByLibrary(to, operands, w, matrix, epilogue)) return;
    const Tensor& values = operands.in.values;
    const Finish finish{to, epilogue.residual, epilogue.multiply, epilogue.gate, operands.in.scale.as<float>(), epilogue.activation, false};
    if (!features_.portable && computeMajor_ == 9 && linearHopper(stream(), operands.in, matrix, finish)) return;
    multiply(stream(), matrixOf(values, rows, w.in), values.dtype, matrix, finish);
  };
  if (!out.scale) return run(out.values, e);
  // Activation and quantization in one pass over the product.
  require(!e.multiply && !e.residual && !e.gate, "linear: rows in 8 bits have no operands beside them");
  const Tensor bare{operands.spare, activationType(), out.values.shape};
  run(bare, {});
  quantizeRows(stream(), out, bare, e.activation);
}

// -- attention --------------------------------------------------------------------------------------------------------------

EightBitFormat CudaBackend::eightBitFormat(int64_t headDim) const {
  const bool hopper = computeMajor_ == 9 && attentionKernel_ == AttentionKernel::Best && fitsEightBitHopper(headDim);
  return {hopper ? EightBitKernel::Hopper : EightBitKernel::Portable, hopper || nativeFp8_};
}

std::unique_ptr<KeyValues> CudaBackend::makeKeyValues(const KeyValueLayout& layout) { return std::make_unique<CudaKeyValues>(*this, layout); }

void CudaBackend::keep(const KeptKeys& out, const Tensor& k, const Tensor& v, int64_t heads, uint32_t pages, int64_t rows, bool anew) {
  const int64_t width = k.shape[-1];
  keepEightBit(stream(), out, k, v, heads, pages, rows, anew, eightBitFormat(width / heads), scratch(eightBitSums(width)));
}

void CudaBackend::attend(const SelfAttention& a) {
  const Workspace workspace = lane().workspace ? Workspace{lane().workspace->data, static_cast<size_t>(kWorkspaceBytes)} : Workspace{};
  if (takesEightBitAttention() && fitsEightBit(a)) {
    const EightBitFormat format = eightBitFormat(a.q.shape[-1] / a.heads);
    const EightBitLayout layout = layoutEightBit(a, format.fp8);
    return attentionEightBit(stream(), a, format, layout, scratch(layout.bytes), workspace);
  }
  cuda::attention(stream(), a, attentionKernel_, computeMajor_, workspace);
}

// -- convolution ------------------------------------------------------------------------------------------------------------

void CudaBackend::conv(const ConvArgs& a) {
  using Pad = ConvArgs::Pad;
  const auto& w = static_cast<const CudaConv&>(*a.weights);
  const int64_t height = a.in.shape[1], width = a.in.shape[2], older = a.history ? a.history.shape[0] : 0;
  require(a.in.shape.rank == 4 && a.out.shape.rank == 4, "conv: volumes have four axes");
  require(a.in.shape[3] == w.in && a.out.shape[3] == w.out, "conv: channels differ from the weights");
  require(a.in.dtype == w.input && (!a.history || a.history.dtype == w.input), "conv: input must have the convolution's type");
  require(!a.history || (a.history.shape[1] == height && a.history.shape[2] == width && a.history.shape[3] == w.in && older <= w.kt - 1),
          "conv: history does not fit the input");
  require(!a.residual || a.residual.shape == a.out.shape, "conv: residual must have the shape of out");
  require(a.upsample2x == w.upsample2x && (!a.upsample2x || (a.strideHW == 1 && a.pad == Pad::Same)), "conv: weights were prepared otherwise");

  const auto outputSize = [&](int64_t n, int k) {
    const int64_t padded = n + (a.pad == Pad::Same ? k - 1 : 1);
    return padded < k ? 0 : (padded - k) / a.strideHW + 1;
  };
  Gather g;
  g.in = a.in.data, g.history = a.history.data;
  g.height = static_cast<int>(height), g.width = static_cast<int>(width), g.channels = static_cast<int>(w.in);
  g.gridHeight = static_cast<int>(outputSize(height, w.kh)), g.gridWidth = static_cast<int>(outputSize(width, w.kw));
  g.kt = w.kt, g.kh = a.upsample2x ? 2 : w.kh, g.kw = a.upsample2x ? 2 : w.kw;
  g.strideT = a.strideT, g.stride = a.strideHW;
  g.padTop = a.pad == Pad::Same ? (w.kh - 1) / 2 : 0, g.padLeft = a.pad == Pad::Same ? (w.kw - 1) / 2 : 0;
  g.scale = a.upsample2x ? 2 : 1;
  g.olderFrames = static_cast<int>(older);
  g.firstFrame = a.causal ? w.kt - 1 : static_cast<int>(older);
  const int64_t seen = a.causal ? a.in.shape[0] : older + a.in.shape[0] - (w.kt - 1);
  g.frames = (seen + a.strideT - 1) / a.strideT;
  require(a.out.shape[0] == g.frames && a.out.shape[1] == g.scale * g.gridHeight && a.out.shape[2] == g.scale * g.gridWidth,
          "conv: out has the wrong size");
  const Finish finish{a.out, a.residual, {}, {}, nullptr, a.activation, a.activationAfterResidual};
  if (!features_.portable && computeMajor_ == 9 && g.rows() > 0 && convHopper(stream(), g, w.matrix, finish, info_.threads)) return;
  multiply(stream(), g, a.in.dtype, w.matrix, finish);
}

}  // namespace cuda

std::unique_ptr<Backend> makeCudaBackend(const BackendOptions& options) {
  requireCudaArithmetic(options);
  return std::make_unique<cuda::CudaBackend>(options);
}

int cudaDevices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace longlive
