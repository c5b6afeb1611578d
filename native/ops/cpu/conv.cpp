#include "conv.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "conv_kernels.h"

namespace longlive::cpu {
namespace {

constexpr int kMaxRows = 16;  // kt * kh

void require(bool ok, const char* what) {
  if (!ok) throw std::logic_error(std::string("conv: ") + what);
}

const ConvKernels& kernelsFor(Isa isa, Precision precision) {
#if defined(__x86_64__)
  if (isa >= Isa::Avx512Bf16 && precision != Precision::FP32) return avx512Bf16ConvKernels();
  if (isa >= Isa::Avx512) return avx512ConvKernels();
  if (isa >= Isa::Avx2) return avx2ConvKernels();
#endif
  return portableConvKernels();
}

// Weights of one or, for upsample2x, four kernels (phases), each [group][kt * kh][run / step][lanes][step].
struct PackedConv final : ConvWeights {
  const ConvKernels* kernels = nullptr;
  bool upsample2x = false;
  int phaseKh = 1, phaseKw = 1;  // kernel of one phase
  int lanes = 0, groups = 0;     // a group of `lanes` output channels is computed at once
  int run = 0;                   // phaseKw * in, rounded up to kernels->step
  AlignedBuffer weights, bias;

  int phases() const { return upsample2x ? 4 : 1; }
  int rows() const { return kt * phaseKh; }
  int pixels() const { return kernels->pixels[lanes / kConvLanes - 1]; }
  size_t rowElements() const { return static_cast<size_t>(run) * lanes; }
  size_t rowIndex(int phase, int group, int row) const {
    return (static_cast<size_t>(phase) * groups + group) * rows() + row;
  }
  const void* row(int phase, int group, int row) const {
    return weights.as<char>() + rowIndex(phase, group, row) * rowElements() * sizeOf(kernels->input);
  }
};

// ---- packing ----------------------------------------------------------------------------------------------------------

// Which taps of a 3-tap kernel fall on input d (0 or 1) of an output of parity `odd` after nearest upsampling.
std::pair<int, int> upsampledTaps(int odd, int d) {
  if (odd) return d == 0 ? std::pair{0, 2} : std::pair{2, 3};
  return d == 0 ? std::pair{0, 1} : std::pair{1, 3};
}

// W[o, i, dt, y, x] of one phase: the weight itself, or the sum of those that meet in one input.
struct PhaseWeights {
  const float* weight;
  int64_t in;
  int kt, kh, kw;
  bool upsample2x;

  float at(int phase, int64_t o, int64_t i, int dt, int y, int x) const {
    const float* w = weight + ((o * in + i) * kt + dt) * kh * kw;
    if (!upsample2x) return w[y * kw + x];
    const auto [y0, y1] = upsampledTaps(phase / 2, y);
    const auto [x0, x1] = upsampledTaps(phase % 2, x);
    double sum = 0;
    for (int ky = y0; ky < y1; ++ky)
      for (int kx = x0; kx < x1; ++kx) sum += w[ky * kw + kx];
    return static_cast<float>(sum);
  }
};

void store(void* p, DType type, size_t i, float v) {
  if (type == DType::F32) {
    static_cast<float*>(p)[i] = v;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  static_cast<Bf16*>(p)[i].bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void packRow(PackedConv& c, const PhaseWeights& source, int phase, int group, int row) {
  const int step = c.kernels->step;
  const size_t first = c.rowIndex(phase, group, row) * c.rowElements();
  const int channels = static_cast<int>(std::min<int64_t>(c.lanes, c.out - group * c.lanes));
  for (int k = 0; k < c.phaseKw * c.in; ++k) {
    for (int lane = 0; lane < channels; ++lane) {
      const float w = source.at(phase, group * c.lanes + lane, k % c.in, row / c.phaseKh, row % c.phaseKh,
                                static_cast<int>(k / c.in));
      const size_t i = first + (static_cast<size_t>(k / step) * c.lanes + lane) * step + k % step;
      store(c.weights.as<void>(), c.kernels->input, i, w);
    }
  }
}

// ---- running ----------------------------------------------------------------------------------------------------------

// One convolution, resolved to plain numbers.
struct Plan {
  const Backend::ConvArgs& args;
  const PackedConv& conv;
  int64_t height, width, outHeight, outWidth, outFrames, olderFrames;
  int64_t rowBytes, frameBytes, pixelBytes;
  int stride, padTop, padLeft;

  explicit Plan(const Backend::ConvArgs& a);
  void checkShapes() const;
  const char* frame(int64_t t) const;  // null for a frame of zeros
};

Plan::Plan(const Backend::ConvArgs& a) : args(a), conv(static_cast<const PackedConv&>(*a.weights)) {
  height = a.in.shape[1], width = a.in.shape[2];
  outFrames = a.out.shape[0], outHeight = a.out.shape[1], outWidth = a.out.shape[2];
  olderFrames = a.history ? a.history.shape[0] : 0;
  pixelBytes = conv.in * static_cast<int64_t>(sizeOf(a.in.dtype));
  rowBytes = width * pixelBytes;
  frameBytes = height * rowBytes;
  stride = a.strideHW;
  padTop = a.pad == Backend::ConvArgs::Pad::Same ? (conv.kh - 1) / 2 : 0;
  padLeft = a.pad == Backend::ConvArgs::Pad::Same ? (conv.kw - 1) / 2 : 0;
  checkShapes();
}

int64_t outputSize(int64_t n, int k, int stride, Backend::ConvArgs::Pad pad) {
  using Pad = Backend::ConvArgs::Pad;
  const int64_t padded = n + (pad == Pad::Same ? k - 1 : pad == Pad::RightBottom ? 1 : 0);
  return padded < k ? 0 : (padded - k) / stride + 1;
}

void Plan::checkShapes() const {
  const Backend::ConvArgs& a = args;
  const DType input = conv.kernels->input;
  require(a.in.shape.rank == 4 && a.out.shape.rank == 4, "volumes have four axes");
  require(a.in.shape[3] == conv.in && a.out.shape[3] == conv.out, "channels differ from the weights");
  require(a.in.dtype == input && (!a.history || a.history.dtype == input), "input must have the convolution's type");
  require(!a.history || (a.history.shape[1] == height && a.history.shape[2] == width && a.history.shape[3] == conv.in &&
                         olderFrames <= conv.kt - 1), "history does not fit the input");
  require(!a.residual || a.residual.shape == a.out.shape, "residual must have the shape of out");
  require(a.upsample2x == conv.upsample2x, "weights were prepared for another resampling");
  require(!a.upsample2x || (a.strideHW == 1 && a.pad == Backend::ConvArgs::Pad::Same), "upsampling needs stride 1");
  const int scale = a.upsample2x ? 2 : 1;
  require(outHeight == scale * outputSize(height, conv.kh, stride, a.pad) &&
              outWidth == scale * outputSize(width, conv.kw, stride, a.pad), "out has the wrong height or width");
  const int64_t frames = a.causal ? a.in.shape[0] : olderFrames + a.in.shape[0] - (conv.kt - 1);
  require(outFrames == (frames + a.strideT - 1) / a.strideT, "out has the wrong number of frames");
}

const char* Plan::frame(int64_t t) const {
  if (t >= 0) return args.in.as<char>() + t * frameBytes;
  const int64_t older = olderFrames + t;
  return older >= 0 ? args.history.as<char>() + older * frameBytes : nullptr;
}

// The input rows that one output row sees, and for each which kernel row it meets.
struct InputRows {
  const char* data[kMaxRows];
  int tap[kMaxRows];
  int count = 0;
};

InputRows inputRows(const Plan& p, int64_t t, int64_t firstRow) {
  InputRows rows;
  const int64_t firstFrame = t * p.args.strideT - (p.args.causal ? p.conv.kt - 1 : p.olderFrames);
  for (int dt = 0; dt < p.conv.kt; ++dt) {
    const char* frame = p.frame(firstFrame + dt);
    if (!frame) continue;
    for (int dy = 0; dy < p.conv.phaseKh; ++dy) {
      const int64_t y = firstRow + dy;
      if (y < 0 || y >= p.height) continue;
      rows.data[rows.count] = frame + y * p.rowBytes;
      rows.tap[rows.count++] = dt * p.conv.phaseKh + dy;
    }
  }
  return rows;
}

// The bytes [begin, begin + size) of a row, zero where that lies outside [0, rowBytes).
void copyWindow(char* out, const char* row, int64_t rowBytes, int64_t begin, int64_t size) {
  const int64_t from = std::clamp<int64_t>(begin, 0, rowBytes), to = std::clamp<int64_t>(begin + size, from, rowBytes);
  const int64_t left = std::min(from - begin, size);
  std::memset(out, 0, left);
  std::memcpy(out + left, row + from, to - from);
  std::memset(out + left + (to - from), 0, size - left - (to - from));
}

int64_t windowBytes(const PackedConv& c, int stride) {
  const int64_t elements = static_cast<int64_t>(c.pixels() - 1) * stride * c.in + c.run;
  return (elements * static_cast<int64_t>(sizeOf(c.kernels->input)) + 63) / 64 * 64;
}

// Output pixels [x, x + pixels) of one phase of one row, all channels. `rows` already point at the first tap.
void computeTile(const Plan& p, const InputRows& rows, const void* const* data, int phase, int pixels, int64_t outPixel,
                 int outStep) {
  const PackedConv& c = p.conv;
  alignas(64) float acc[kMaxTilePixels * kConvLanes];
  const void* weights[kMaxRows];
  ConvFinish f{};
  f.outType = p.args.out.dtype, f.residualType = p.args.residual.dtype;
  f.outStride = f.residualStride = outStep * c.out;
  f.activation = p.args.activation, f.activationAfterResidual = p.args.activationAfterResidual;
  f.pixels = pixels, f.lanes = c.lanes;
  for (int g = 0; g < c.groups; ++g) {
    for (int r = 0; r < rows.count; ++r) weights[r] = c.row(phase, g, rows.tap[r]);
    c.kernels->accumulate[c.lanes / kConvLanes - 1]({data, weights, rows.count, c.run, p.stride * c.in}, acc);
    const int64_t first = outPixel * c.out + g * c.lanes;
    f.out = p.args.out.as<char>() + first * sizeOf(f.outType);
    f.residual = p.args.residual ? p.args.residual.as<char>() + first * sizeOf(f.residualType) : nullptr;
    f.bias = c.bias.as<float>() + g * c.lanes;
    f.channels = static_cast<int>(std::min<int64_t>(c.lanes, c.out - g * c.lanes));
    c.kernels->finish(f, acc);
  }
}

// Every outStep-th pixel of output row y of frame t, starting at `column`.
void computeRow(const Plan& p, int64_t t, int64_t y, int column, char* scratch) {
  const PackedConv& c = p.conv;
  const int outStep = c.upsample2x ? 2 : 1, oddRow = c.upsample2x ? static_cast<int>(y % 2) : 0;
  const int phase = oddRow * 2 + column;
  const int64_t firstRow = y / outStep * p.stride - p.padTop + oddRow, firstColumn = column - p.padLeft;
  const InputRows rows = inputRows(p, t, firstRow);
  const int64_t columns = p.outWidth / outStep, window = windowBytes(c, p.stride);
  const void* data[kMaxRows];
  for (int64_t x = 0; x < columns; x += c.pixels()) {
    const int64_t begin = (x * p.stride + firstColumn) * p.pixelBytes;
    const bool inside = begin >= 0 && begin + window <= p.rowBytes;
    for (int r = 0; r < rows.count; ++r) {
      data[r] = inside ? rows.data[r] + begin : scratch + r * window;
      if (!inside) copyWindow(scratch + r * window, rows.data[r], p.rowBytes, begin, window);
    }
    const int pixels = static_cast<int>(std::min<int64_t>(c.pixels(), columns - x));
    computeTile(p, rows, data, phase, pixels, (t * p.outHeight + y) * p.outWidth + x * outStep + column, outStep);
  }
}

}  // namespace

DType convInputType(Isa isa, Precision precision) { return kernelsFor(isa, precision).input; }

std::unique_ptr<ConvWeights> packConv(Context& context, Precision precision, const float* weight, const float* bias,
                                      int64_t out, int64_t in, int kt, int kh, int kw, bool upsample2x) {
  require(kt * kh <= kMaxRows && kt * kh * kw > 0, "kernel is too large");
  require(!upsample2x || (kh == 3 && kw == 3), "upsampling needs a 3x3 kernel");
  auto c = std::make_unique<PackedConv>();
  c->in = in, c->out = out, c->kt = kt, c->kh = kh, c->kw = kw;
  c->kernels = &kernelsFor(context.isa, precision);
  c->upsample2x = upsample2x;
  c->phaseKh = upsample2x ? 2 : kh, c->phaseKw = upsample2x ? 2 : kw;
  const int blocks = static_cast<int>((out + kConvLanes - 1) / kConvLanes);
  c->lanes = kConvLanes * (blocks % 2 == 0 ? c->kernels->maxBlocks : 1);
  c->groups = static_cast<int>((out + c->lanes - 1) / c->lanes);
  c->run = static_cast<int>((c->phaseKw * in + c->kernels->step - 1) / c->kernels->step * c->kernels->step);
  c->weights.reserve(c->rowIndex(c->phases(), 0, 0) * c->rowElements() * sizeOf(c->kernels->input));
  c->bias.reserve(static_cast<size_t>(c->groups) * c->lanes * sizeof(float));
  if (bias) std::copy_n(bias, out, c->bias.as<float>());
  const PhaseWeights source{weight, in, kt, kh, kw, upsample2x};
  for (int phase = 0; phase < c->phases(); ++phase)
    for (int group = 0; group < c->groups; ++group)
      for (int row = 0; row < c->rows(); ++row) packRow(*c, source, phase, group, row);
  context.pool.reserveScratch(static_cast<size_t>(windowBytes(*c, 2)) * c->rows());
  return c;
}

void conv(Context& c, const Backend::ConvArgs& a) {
  const Plan plan(a);
  const int columns = plan.conv.upsample2x ? 2 : 1;
  const size_t scratchBytes = static_cast<size_t>(windowBytes(plan.conv, plan.stride)) * plan.conv.rows();
  c.pool.parallelFor(0, plan.outFrames * plan.outHeight, 1, [&](int64_t begin, int64_t end, int thread) {
    char* scratch = static_cast<char*>(c.pool.scratch(thread, scratchBytes));
    for (int64_t row = begin; row < end; ++row)
      for (int column = 0; column < columns; ++column)
        computeRow(plan, row / plan.outHeight, row % plan.outHeight, column, scratch);
  });
}

}  // namespace longlive::cpu
